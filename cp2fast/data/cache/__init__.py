"""The pixel cache: decoded images in memory, so that later epochs decode nothing."""
