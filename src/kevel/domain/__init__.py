"""Pure rules: no I/O, no clock, no randomness. Imports nothing of Kevel's own outside this package."""
