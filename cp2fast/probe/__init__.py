"""What frozen features are worth: probes with few labels, and features to look at."""
