"""The control plane: everything a client or operator asks that is not on the byte path. FastAPI."""
