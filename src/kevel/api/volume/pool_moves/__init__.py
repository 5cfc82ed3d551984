"""Retypes, and moves of volumes between pools: rows, handlers, shapes."""
