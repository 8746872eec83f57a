"""Mooncake's transfer engine as a backend: the only code that touches the native library."""
