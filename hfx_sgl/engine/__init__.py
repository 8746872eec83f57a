"""A model of one SGLang server: what it does with its requests, and how long each step takes.

Pure: no I/O, no clock, no randomness. The emulated worker drives it in real time, the simulator
on a virtual clock.
"""
