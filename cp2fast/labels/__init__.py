"""Images with masks: where they lie, which classes they have, and what their masks hold."""
