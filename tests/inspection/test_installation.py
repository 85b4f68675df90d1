"""The short tests of what is installed, on this machine and on broken ones."""

import sys

import numba
import pytest
import torch

from cp2fast.copypaste import op
from cp2fast.copypaste.backends import failure
from cp2fast.copypaste.cpu import launch
from cp2fast.inspection.check import Check
from cp2fast.inspection.installation import (
    check_backends,
    check_devices,
    check_sources,
    check_torch,
)


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_every_source_is_told_of_and_the_default_ones_decode() -> None:
    threads = torch.get_num_threads()
    checks = by_name(list(check_sources()))
    assert checks.keys() == {"turbo", "torch", "dali"}
    assert checks["torch"].status == "ok"
    assert checks["torch"].needed
    assert checks["dali"].status in ("ok", "missing")
    assert checks["turbo"].status == "ok"
    assert torch.get_num_threads() == threads


def test_a_source_that_is_not_installed_is_missing_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    dali = by_name(list(check_sources()))["dali"]
    assert dali.status == "missing"
    assert dali.fix == "pip install nvidia-dali-cuda130"
    assert not dali.fails


def test_the_backends_agree_here() -> None:
    checks = by_name(list(check_backends()))
    assert checks["reference"].status == "ok"
    assert checks["cpu"].status == "ok"
    assert checks["cpu"].needed
    if not torch.cuda.is_available():
        assert checks["cuda"].status == "missing"
        assert not checks["cuda"].fails


def test_a_backend_that_composes_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = op.implementation

    def wrong(backend: str, device: torch.device):
        def compose(*arguments: object):
            query, key, *masks = right(backend, device)(*arguments)
            return (query + (0.2 if backend == "cpu" else 0), key, *masks)

        return compose

    monkeypatch.setattr(op, "implementation", wrong)
    cpu = by_name(list(check_backends()))["cpu"]
    assert cpu.fails
    assert "differs from the reference" in cpu.detail


def test_a_backend_whose_kernels_do_not_compile_is_broken_and_not_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failure.cache_clear()
    monkeypatch.setattr(launch, "compose", numba.njit(lambda *inputs: inputs.no_such_thing))
    cpu = by_name(list(check_backends()))["cpu"]
    failure.cache_clear()
    assert cpu.status == "broken"
    assert cpu.detail.startswith("its kernels fail here (TypingError")
    assert cpu.fix == "pip install --upgrade numba"
    assert not cpu.fails  # The reference takes its place.


def test_without_kornia_only_the_reference_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    checks = by_name(list(check_backends()))
    assert checks["reference"].status == "missing"
    assert checks["reference"].fix == "pip install kornia"
    assert not checks["reference"].fails
    assert checks["cpu"].status == "ok"


def test_the_cpu_trains_a_step() -> None:
    checks = by_name(list(check_devices()))
    assert checks["cpu"].status == "ok"
    if not torch.cuda.is_available():
        assert checks["cpu"].needed
        assert checks["cuda"].status == "missing"


@pytest.mark.gpu
def test_the_gpu_trains_a_step() -> None:
    checks = by_name(list(check_devices()))
    assert checks["cuda:0"].status == "ok"
    assert checks["cuda:0"].needed


def test_a_process_group_of_one_is_made_and_ended() -> None:
    assert next(check_torch()).status == "ok"
    assert not torch.distributed.is_initialized()
