"""Readers of recorded traffic in public formats, and its replay."""
