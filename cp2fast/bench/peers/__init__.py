"""Other ways to do cp2fast's work, each as its users would write it, to be measured against.

A peer of the augmentation has a function ``composer(images, size)`` that takes decoded images
(uint8 ``[H, W, 3]``) and returns a function from image numbers to query, key and masks. A peer of
the loader begins with encoded images: a data set of samples for torch's DataLoader, or a function
``composed`` that has loader and workers of its own (DALI, FFCV).
"""
