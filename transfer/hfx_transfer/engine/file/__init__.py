"""The file backend: reads a file into a slab; the fallback when no peer has the bytes."""
