"""The workers behind this router: their records, probes, health and registration."""
