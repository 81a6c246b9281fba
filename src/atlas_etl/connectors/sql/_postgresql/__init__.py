"""What PostgreSQL adds to the SQL family: its catalog, dialect, sessions, snapshots and loads."""
