"""What MySQL and MariaDB add to the SQL family: their catalog, dialect, wire format, snapshots and loads."""
