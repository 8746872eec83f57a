"""Starts SGLang servers and the router on one machine: what to run (pure), and running it."""
