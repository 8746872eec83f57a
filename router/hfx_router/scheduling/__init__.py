"""The scheduler's place in the router: late binding, load reports, saved models."""
