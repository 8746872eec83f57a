"""From where weights are taken, and by which way they reach several receivers. Decides only."""
