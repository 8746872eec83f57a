"""What became of each request of a run, and what that adds up to."""
