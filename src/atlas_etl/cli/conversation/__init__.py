"""`atlas connector add` as a conversation: steps as values, generators of them, and one room that talks."""
