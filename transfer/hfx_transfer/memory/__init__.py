"""The memory that bytes move from and to: few large slabs, on the host or on a device."""
