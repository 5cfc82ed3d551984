"""Attachments: the goals of their paths, the paths of hosts that are not ours, and why one is where it is."""
