"""The machine code of the CUDA kernels, for cards that need not be here."""

import json
from pathlib import Path

import pytest

from cp2fast.copypaste.cuda.launch import THREADS
from tests.copypaste.cuda.machine_code import inspect

pytestmark = pytest.mark.slow

REGISTERS = 64 * 1024
STATIC_SHARED = 48 * 1024
"""Bytes that a block may have on any card without asking."""
RECORDED = json.loads(Path(__file__).with_name("instructions.json").read_text())
ROOM = 1.05
"""For another version of the compiler."""

# Shared memory of a multiprocessor in KiB, of which a block takes one more than its own, and the
# blocks of compose that the head of copy_paste.cu promises.
CARDS = {"sm_80": (164, 3), "sm_90": (228, 4), "sm_100": (228, 4), "sm_120": (100, 2)}


@pytest.fixture(scope="module", params=CARDS)
def card(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    return request.param, inspect(request.param, tmp_path_factory.mktemp("code"))


def test_no_register_is_spilled_and_nothing_is_in_slow_memory(card) -> None:
    _, kernels = card
    assert set(kernels) == {"mean_luma", "compose"}
    for code in kernels.values():
        assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in code.report
        assert not code.operations["LDL"] + code.operations["STL"]


def test_no_arithmetic_is_in_double_precision(card) -> None:
    _, kernels = card
    for code in kernels.values():
        assert not {"DADD", "DMUL", "DFMA", "DSETP", "F2F"} & set(code.operations)


def test_as_many_blocks_share_a_multiprocessor_as_the_source_promises(card) -> None:
    arch, kernels = card
    kibibytes, promised = CARDS[arch]
    for name, blocks in (("compose", promised), ("mean_luma", min(4, kibibytes // 26))):
        code = kernels[name]
        assert code.shared <= STATIC_SHARED
        assert blocks * (code.shared + 1024) <= kibibytes * 1024
        assert blocks * THREADS * -(-code.registers // 8) * 8 <= REGISTERS


def test_matrices_are_multiplied_by_tensor_cores_and_bytes_copied_past_registers(card) -> None:
    _, kernels = card
    for code in kernels.values():
        for operation in ("HMMA", "LDSM", "LDGSTS"):
            assert code.operations[operation] > 0


def test_the_code_is_no_longer_than_was_recorded(card) -> None:
    """A warp goes through it once for each 16 x 16 pixels, but for the jitter's operations."""
    arch, kernels = card
    for name, code in kernels.items():
        assert code.instructions() <= ROOM * RECORDED[arch][name], (
            f"{name} for {arch} has {code.instructions()} instructions: find out why, or measure "
            "that it is faster, and record them in instructions.json"
        )
