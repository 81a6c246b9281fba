"""What SQLite adds to the SQL family: its catalog, storage classes, driver, ranges and writes."""
