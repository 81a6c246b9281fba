"""Asking for what is new: parameters, windows of time, and the API's own clock."""
