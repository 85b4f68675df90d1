"""Sources: convert image files to RaggedBatch."""
