"""Load weights from files of any kind or from the internet, recognised by their content."""
