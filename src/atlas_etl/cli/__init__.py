"""The command `atlas`: one file per command group, loaded when it is called."""
