"""Volumes and snapshots as the compute API showed them until 2.35, before clients asked the block storage API."""
