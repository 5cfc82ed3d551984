"""Volumes: what their users ask for, and the worker that makes, changes and deletes them."""
