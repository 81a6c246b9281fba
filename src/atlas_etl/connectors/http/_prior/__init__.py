"""What comes before a resource's records: names that are asked for, and jobs that find them."""
