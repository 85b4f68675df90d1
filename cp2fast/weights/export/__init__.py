"""Export weights to files for other libraries; each library checks its file first."""
