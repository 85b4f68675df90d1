"""Images with masks: where the files are, which classes there are, and what the masks hold."""
