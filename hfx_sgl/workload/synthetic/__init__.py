"""Traffic that is drawn from distributions, one generator per task class. Pure."""
