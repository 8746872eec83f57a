"""Acts: the HTTP router in front of SGLang workers."""
