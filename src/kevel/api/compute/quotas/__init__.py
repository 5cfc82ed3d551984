"""Quota sets, quota classes and limits."""
