"""Selection policies: which worker gets a request. One file each; `catalog` makes them by name."""
