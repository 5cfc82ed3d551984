"""The simulator: Kevel's real control, host, store and domain code on a seeded event loop in virtual time."""
