"""``cp2fast pack``: many image files into few, of smaller images."""
