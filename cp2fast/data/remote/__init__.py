"""Files that are not on this machine: requests, retries, and the disk cache."""
