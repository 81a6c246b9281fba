"""Streams that depend on another's records, and how far each parent's were read."""
