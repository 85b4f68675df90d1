"""From files, here or remote, to batches of decoded images."""
