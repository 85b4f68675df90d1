"""The copy-paste op on the CPU: numba kernels that a thread runs without the GIL.

Arguments that the functions of this package share:

    flat         float32 ``[3 S pitch + WIDE]``, the three planes of a view
    plane        values from one channel's plane to the next
    pitch        values from one row of a plane to the next, or bytes between rows of an image
    at           start of a row: in the red plane, a multiple of WIDE; of an image, in bytes
    left, right  first column, and one after the last
    area         top, left, bottom and right of a rectangle
    mean, std    float32 ``[3]``, mean and standard deviation of each channel
    row          float32 ``[3 pitch]``, an interleaved row before rounding; ``short`` after it
    line         a row of the crop, interleaved, between the vertical and the horizontal resize
    w            the thread's ``Workspace``
"""
