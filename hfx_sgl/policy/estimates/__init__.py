"""What a request will cost, before it runs: how long its prompt is, and how much is cached."""
