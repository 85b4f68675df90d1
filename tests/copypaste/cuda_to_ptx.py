"""Compile the CUDA kernels for sm_90 without a GPU and print their PTX; run by test_cuda.py.

Numba asks the card for its compute capability when it compiles what a kernel calls, and only that
is answered here.
"""

from types import SimpleNamespace

import numba.cuda.dispatcher
from numba import cuda, types

from cp2fast.copypaste.cuda_kernel import Inputs, Output, compose, mean_luma

numba.cuda.dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=(9, 0))


def array(dtype: types.Type, dimensions: int) -> types.Array:
    return types.Array(dtype, dimensions, "C")


INPUTS = {
    "pixels": array(types.uint8, 1),
    "offset": array(types.int64, 1),
    "width": array(types.int32, 1),
    "source": array(types.int32, 2),
    "box": array(types.int32, 3),
    "flip": array(types.uint8, 2),
    "jitter": array(types.uint8, 2),
    "factor": array(types.float32, 3),
    "order": array(types.int32, 3),
    "grey": array(types.uint8, 2),
    "sigma": array(types.float32, 2),
    "paste": array(types.int32, 3),
}
OUTPUT = {
    "single": array(types.float32, 4),
    "half": array(types.uint16, 4),
    "mask": array(types.uint8, 3),
}
PARTIAL, NUMBER = array(types.float32, 3), types.int64

if __name__ == "__main__":
    inputs = types.NamedTuple([INPUTS[name] for name in Inputs._fields], Inputs)
    output = types.NamedTuple([OUTPUT[name] for name in Output._fields], Output)
    for kernel, signature in (
        (mean_luma, (inputs, NUMBER, NUMBER, PARTIAL)),
        (compose, (inputs, NUMBER, NUMBER, NUMBER, PARTIAL, NUMBER, output)),
    ):
        ptx, _ = cuda.compile(
            kernel.py_func, types.void(*signature), cc=(9, 0), abi="numba", output="ptx"
        )
        print(ptx)
