"""Columns that no copy may have as they are: rules applied to what is read, and what finds such columns."""
