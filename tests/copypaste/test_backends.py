"""Which backends work here, and what is said of those that do not."""

import pytest
import torch

from cp2fast.copypaste.backends import available_backends, implementation
from cp2fast.copypaste.cpu.launch import copy_paste_cpu
from cp2fast.copypaste.reference import copy_paste_reference

CPU = torch.device("cpu")


def test_auto_on_the_cpu_is_the_numba_backend() -> None:
    assert implementation("auto", CPU) is copy_paste_cpu
    assert implementation("reference", CPU) is copy_paste_reference


def test_every_backend_is_listed_with_what_it_lacks() -> None:
    available = available_backends()
    assert set(available) == {"reference", "cpu", "cuda"}
    assert available["cpu"] is None
    assert available["reference"] is None
    assert torch.cuda.is_available() or "nvidia-smi" in str(available["cuda"])


def test_a_backend_for_another_device_is_refused() -> None:
    with pytest.raises(ValueError, match="backend 'cuda' takes tensors on cuda, not on cpu"):
        implementation("cuda", CPU)


@pytest.mark.gpu
def test_auto_on_a_gpu_is_the_cuda_backend() -> None:
    assert implementation("auto", torch.device("cuda")).__name__ == "copy_paste_cuda"
