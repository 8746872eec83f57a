"""The SLO-aware scheduler: one queue for all, bound to workers as late as they can be kept busy."""
