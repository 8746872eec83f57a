"""The policy core: decides, and does no I/O, reads no clock, draws no randomness of its own."""
