"""`hfx-weights`: serves, pulls and plans from a shell."""
