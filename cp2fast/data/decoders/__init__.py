"""From the bytes of an image file to its values: one module a family of formats.

Each has ``read(encoded, max_pixels) -> Raster`` and ``size(encoded) -> (height, width)`` as stored;
whatever its library raises on a damaged file is a ``BadImage`` of one line.
"""
