"""Taking what is in a pool for a volume or snapshot, and leaving one there."""
