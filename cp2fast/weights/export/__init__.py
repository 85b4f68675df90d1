"""Weights out: files for other libraries, each checked there before it is put in place."""
