"""The socket backend: registered slabs over TCP, in pure Python."""
