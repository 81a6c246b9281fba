"""The quickstart: a small real source that ships with the package, and what is done with it."""
