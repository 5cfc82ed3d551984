"""Types of groups and their specs."""
