"""Servers: what their users ask for, their disks and shapes, and where they are put."""
