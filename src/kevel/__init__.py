"""Kevel: volume attachment that is never stuck."""

__version__ = "0.1.0"
