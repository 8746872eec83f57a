"""Connections to workers: opened, kept alive, read, paused. Knows nothing of what is asked."""
