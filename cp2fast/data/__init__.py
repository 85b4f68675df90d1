"""Sources: from image files to RaggedBatch."""
