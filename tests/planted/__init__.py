"""Bugs planted in Kevel on purpose: each must be found, or the net that is held under Kevel has a hole."""
