"""The `kevel` command: the place where the parts are joined."""
