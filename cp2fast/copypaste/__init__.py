"""The copy-paste operation: from RaggedBatch to CopyPasteBatch."""
