"""What GraphQL adds to the rooms of HTTP: its errors, and its connections within records."""
