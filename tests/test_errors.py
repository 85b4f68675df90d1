"""What counts as memory that ran out, whichever library says so."""

import pytest
import torch

from cp2fast.errors import is_out_of_memory


class CUDAError(Exception):
    """As cuda-core raises."""


NO_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("no memory is left"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("Storage size calculation overflowed with sizes=[4611686018427387904, 512, 1, 1]"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    CUDAError("CUDA_ERROR_OUT_OF_MEMORY: The API call failed because it was unable to allocate"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: str(error)[:25])
def test_every_librarys_word_for_no_memory_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes"), CUDAError("CUDA_ERROR_INVALID_VALUE"), ValueError()]
)
def test_other_errors_are_not_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)
