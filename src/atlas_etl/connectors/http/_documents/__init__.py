"""What an answer's body says: a document of JSON, JSON lines, CSV or XML, and the records in it."""
