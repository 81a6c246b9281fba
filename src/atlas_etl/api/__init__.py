"""The composition root: definitions and registry become objects, and the calls that a script would make."""
