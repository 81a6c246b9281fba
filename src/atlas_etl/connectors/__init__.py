"""The edges: one file per protocol, and the registry that finds it."""
