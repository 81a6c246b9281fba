"""SQL databases: one reader and one writer, told apart by dialects."""
