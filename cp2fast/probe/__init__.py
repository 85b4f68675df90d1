"""The quality of frozen features: probes with few labels, and pictures of features."""
