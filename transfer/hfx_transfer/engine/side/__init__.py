"""A backend in a process of its own, so that a crash of a native library ends only that one.

Both processes map the same shared memory; what travels between them are names and offsets.
"""
