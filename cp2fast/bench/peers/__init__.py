"""Other ways to do cp2fast's work, each as its users would write it, to be measured against.

Every peer of the augmentation has one function ``composer(images, size)`` that takes decoded
images (uint8 ``[H, W, 3]``) and returns a function from image numbers to query, key and masks.
"""
