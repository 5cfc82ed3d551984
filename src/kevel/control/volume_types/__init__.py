"""Types of volumes and of groups: their specs, limits and encryption."""
