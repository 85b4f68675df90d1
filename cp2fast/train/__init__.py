"""The training runs: loop, checkpoints, progress."""
