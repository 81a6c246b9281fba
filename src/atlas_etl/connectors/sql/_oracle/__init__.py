"""What Oracle adds to the SQL family: its catalog, dialect, literals and loads."""
