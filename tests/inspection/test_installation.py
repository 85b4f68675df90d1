"""The short tests of what is installed, on this machine and on broken ones."""

import sys
from dataclasses import replace

import pytest
import torch

from cp2fast.batch import CopyPasteBatch
from cp2fast.inspection.check import Check
from cp2fast.inspection.installation import (
    check_backend,
    check_backends,
    check_devices,
    check_sources,
    check_torch,
    compare_pairs,
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


def test_a_backend_that_composes_something_else_is_found() -> None:
    shape = (3, 3, 8, 8)
    mask = torch.ones(3, 8, 8, dtype=torch.bool)
    pairs = CopyPasteBatch(torch.randn(shape), torch.randn(shape), mask, mask)
    assert compare_pairs(pairs, pairs) == 0
    assert 0 < compare_pairs(replace(pairs, query=pairs.query + 0.01), pairs) < 1
    for changed in (
        replace(pairs, query=pairs.query + 0.2),
        replace(pairs, key=pairs.key + 0.2 * (torch.arange(8) == 3)),
    ):
        with pytest.raises(ArithmeticError, match="differs from the reference"):
            compare_pairs(changed, pairs)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and it works")
def test_a_backend_whose_kernels_fail_is_broken_and_not_needed() -> None:
    """As one for a GPU that is listed and cannot be used."""
    cuda = check_backend("cuda", problem=None, compare=True)
    assert cuda.status == "broken"
    assert cuda.detail.startswith("its kernels fail here (")
    assert cuda.fix == "pip install --upgrade cuda-core"
    assert not cuda.fails  # The reference takes its place.


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
