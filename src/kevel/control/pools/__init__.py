"""Pools: how full they are, and which one takes a volume."""
