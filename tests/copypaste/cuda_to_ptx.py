"""Compile the CUDA kernels for sm_90 without a GPU and print their PTX; run by test_cuda.py.

Numba asks the card for its compute capability when it compiles what a kernel calls, and only that
is answered here.
"""

from types import SimpleNamespace

import numba.cuda.dispatcher

from cp2fast.copypaste.cuda_jit import to_ptx
from cp2fast.copypaste.cuda_kernel import compose, mean_luma

numba.cuda.dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=(9, 0))

if __name__ == "__main__":
    for kernel in (mean_luma, compose):
        print(to_ptx(kernel, (9, 0)))
