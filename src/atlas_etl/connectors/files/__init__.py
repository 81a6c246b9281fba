"""Files: stores and formats."""
