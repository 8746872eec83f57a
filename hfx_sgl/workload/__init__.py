"""What is asked of a cluster, and when: task classes, arrivals, mixes and recorded traces."""
