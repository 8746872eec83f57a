"""What the router measures: plain counters on the byte path, Prometheus text when scraped."""
