"""Snapshots and copies of volumes, and the workers that make them."""
