"""Atlas ETL."""
