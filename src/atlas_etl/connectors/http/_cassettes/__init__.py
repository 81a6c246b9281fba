"""Record and replay: what passes between us and an API, in a file without secrets."""
