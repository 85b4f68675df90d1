"""What is said of a GPU whose kernels cannot be compiled; run by test_backends.py.

A process of its own, as the toolkit's libraries are looked for once. The driver and the GPU are
pretended; the library is missing to numba-cuda as it is where no toolkit is installed.
"""

import warnings

import torch
from cuda import pathfinder


def find_nothing(name: str) -> None:
    raise pathfinder.DynamicLibNotFoundError(f"Failure finding {name}")


if __name__ == "__main__":
    pathfinder.load_nvidia_dynamic_lib = find_nothing
    from numba.cuda.cudadrv import driver

    type(driver.driver).is_available = property(lambda self: True)
    torch.cuda.is_available = lambda: True

    from cp2fast.copypaste.backends import available_backends, implementation

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            print(implementation("auto", torch.device("cuda")).__name__)
    print(available_backends()["cuda"])
    print(*(warning.message for warning in caught), sep="\n")
