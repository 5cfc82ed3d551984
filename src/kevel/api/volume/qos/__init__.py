"""Qualities of service that volume types share."""
