"""What the engine stands on: clock, ids and threads as ports, and the reconciler that looks at keys."""
