"""Real bytes for hand-offs: what an emulated worker asks of whoever moves them.

The emulator itself moves nothing. A package that does offers a mover as an entry point.
"""
