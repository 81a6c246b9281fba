"""What DuckDB adds to the SQL family: its dialect, types, memory and loads."""
