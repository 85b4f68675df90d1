"""Processes that work for this one and hand their results over in shared memory."""
