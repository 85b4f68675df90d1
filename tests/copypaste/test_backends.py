"""Which backends work here, and what is said and done of those that do not."""

import logging

import numba
import pytest
import torch

from cp2fast.copypaste.backends import (
    available_backends,
    failure,
    fastest_backend,
    first_that_works,
    implementation,
    try_out,
)
from cp2fast.copypaste.cpu.launch import copy_paste_cpu
from cp2fast.copypaste.interface import Composed, Request
from cp2fast.copypaste.reference import copy_paste_reference
from cp2fast.errors import UserError
from tests.test_errors import NO_MEMORY

CPU = torch.device("cpu")

compile_this = numba.njit(lambda pixels: pixels.no_such_thing)


def does_not_compile(request: Request) -> Composed:
    composed: Composed = compile_this(request.pixels.numpy())
    return composed


def test_auto_on_the_cpu_is_the_numba_backend() -> None:
    assert implementation("auto", CPU) is copy_paste_cpu
    assert implementation("reference", CPU) is copy_paste_reference


def test_every_backend_is_listed_with_what_it_lacks() -> None:
    available = available_backends()
    assert set(available) == {"reference", "cpu", "cuda"}
    assert available["cpu"] is None
    assert available["reference"] is None
    assert (available["cuda"] is None) == torch.cuda.is_available()


def test_a_backend_for_another_device_is_refused() -> None:
    with pytest.raises(ValueError, match="backend 'cuda' takes tensors on cuda, not on cpu"):
        implementation("cuda", CPU)


def test_what_is_there_composes_a_pair() -> None:
    assert failure("cpu") is None


def test_kernels_that_do_not_compile_are_said_in_one_line_with_the_fix() -> None:
    said = try_out(does_not_compile, CPU, "numba")
    assert said
    assert said.startswith("its kernels fail here (TypingError: ")
    assert said.endswith("): pip install --upgrade numba")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: str(error)[:25])
def test_a_full_device_is_not_taken_for_a_fault_of_the_kernels(error: Exception) -> None:
    def needs_more(request: Request) -> Composed:
        raise error

    with pytest.raises(torch.OutOfMemoryError) as raised:
        try_out(needs_more, CPU, "cuda-core")
    assert str(raised.value) == str(error)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and it works")
def test_a_gpu_that_cannot_be_used_is_found_by_trying() -> None:
    assert str(failure("cuda")).startswith("its kernels fail here (")


def test_auto_takes_the_next_when_one_fails_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    assert first_that_works("cpu", {"cpu": "its kernels fail here"}.get) == "reference"
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "copy-paste runs its slow reference: cpu: its kernels fail here"


def test_a_device_without_kernels_gets_the_reference_and_one_line_in_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fastest_backend.cache_clear()
    for _ in range(2):
        assert implementation("auto", torch.device("meta")) is copy_paste_reference
    [record] = caplog.records
    assert "reference: meta: there are no kernels for it" in record.getMessage()


def test_where_none_works_one_line_says_why_of_each() -> None:
    wrong = {"cpu": "its kernels fail here", "reference": "kornia is not installed"}
    with pytest.raises(UserError, match=r"cpu: its kernels fail here; reference: kornia is not"):
        first_that_works("cpu", wrong.get)


@pytest.mark.gpu
def test_auto_on_a_gpu_is_the_cuda_backend() -> None:
    assert failure("cuda") is None
    assert implementation("auto", torch.device("cuda")).__name__ == "copy_paste_cuda"
