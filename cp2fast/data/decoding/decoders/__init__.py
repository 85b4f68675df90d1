"""Decode an image file to its values: one module per family of formats.

Each module has ``read(encoded, max_pixels) -> Raster`` and ``size(encoded) -> (height, width)``,
both as stored. Any exception of its library on a damaged file becomes a one-line ``BadImage``.
"""
