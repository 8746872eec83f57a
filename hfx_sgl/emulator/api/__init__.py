"""The endpoints: bodies in, answers and event streams out."""
