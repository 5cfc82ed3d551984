"""Projects, users, roles and tokens."""
