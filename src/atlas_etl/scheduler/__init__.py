"""When connectors run."""
