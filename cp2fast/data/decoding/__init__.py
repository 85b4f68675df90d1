"""From the bytes of one image file to upright RGB pixels, without knowing where they are from."""
