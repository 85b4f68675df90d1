"""Which backends work here, and what is said and done of those that do not."""

import logging
from collections.abc import Iterator

import numba
import pytest
import torch

from cp2fast.copypaste import backends
from cp2fast.copypaste.backends import (
    available_backends,
    failure,
    fastest_backend,
    implementation,
)
from cp2fast.copypaste.cpu import launch
from cp2fast.copypaste.cpu.launch import copy_paste_cpu
from cp2fast.copypaste.reference import copy_paste_reference
from cp2fast.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _nothing_is_known_yet() -> Iterator[None]:
    for found in (fastest_backend, failure):
        found.cache_clear()
    yield
    for found in (fastest_backend, failure):
        found.cache_clear()


@pytest.fixture
def _kernels_do_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "compose", numba.njit(lambda *inputs: inputs.no_such_thing))


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


@pytest.mark.usefixtures("_kernels_do_not_compile")
def test_auto_takes_the_next_when_kernels_do_not_compile_and_says_why_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert available_backends()["cpu"] is None
    for _ in range(2):
        assert implementation("auto", CPU) is copy_paste_reference
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    said = record.getMessage()
    assert said.startswith("copy-paste runs its slow reference: cpu: its kernels fail here (Typing")
    assert said.endswith("): pip install --upgrade numba")
    assert len(said.splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and it works")
def test_a_gpu_that_torch_sees_and_cannot_use_falls_back_to_the_reference(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(backends._PROBLEMS, "cuda", lambda: None)
    assert fastest_backend("cuda") == "reference"
    [record] = caplog.records
    assert "cuda: its kernels fail here (" in record.getMessage()


def test_a_device_without_kernels_gets_the_reference(caplog: pytest.LogCaptureFixture) -> None:
    assert implementation("auto", torch.device("meta")) is copy_paste_reference
    assert "reference: meta: there are no kernels for it" in caplog.text


@pytest.mark.usefixtures("_kernels_do_not_compile")
def test_where_none_works_one_line_says_why_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends._PROBLEMS, "reference", lambda: "kornia is not installed")
    with pytest.raises(UserError, match=r"cpu: its kernels fail .*; reference: kornia is not"):
        implementation("auto", CPU)


@pytest.mark.gpu
def test_auto_on_a_gpu_is_the_cuda_backend() -> None:
    assert failure("cuda") is None
    assert implementation("auto", torch.device("cuda")).__name__ == "copy_paste_cuda"
