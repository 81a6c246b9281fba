"""How a definition describes an API: its fields, their checks and their words."""
