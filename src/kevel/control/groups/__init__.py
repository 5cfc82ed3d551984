"""Groups of volumes, and their snapshots."""
