"""Backups: what their users ask for, and the worker that makes and restores them."""
