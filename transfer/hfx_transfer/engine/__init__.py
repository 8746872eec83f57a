"""Moves bytes between the memories of two processes: one protocol, several backends."""
