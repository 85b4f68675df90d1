"""The op: from RaggedBatch to CopyPasteBatch."""
