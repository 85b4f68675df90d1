"""Pretraining on composed pairs: its run, losses, metrics and pictures."""
