"""The machine code of the CUDA kernels, for cards that need not be here."""

import json
from pathlib import Path

import pytest

from cp2fast.copypaste.cuda.launch import THREADS
from tests.copypaste.cuda.machine_code import Code, inspect, read

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
        assert not {"LDL", "STL"} & code.operations


def test_no_arithmetic_is_in_double_precision(card) -> None:
    _, kernels = card
    for code in kernels.values():
        assert not {"DADD", "DMUL", "DFMA", "DSETP", "F2F"} & code.operations


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
            assert operation in code.operations


def test_the_code_is_no_longer_than_was_recorded(card) -> None:
    """Of the kernel; of the longest way through a tile of 16 x 16 pixels, each operation once; and
    of that through one block of 32 x 32 source pixels.
    """
    arch, kernels = card
    for name, code in kernels.items():
        block, _, tile = code.loops_around("LDGSTS")[:3]
        counted = {
            "kernel": code.count(),
            "tile": code.longest_turn(tile),
            "block": code.longest_turn(block),
        }
        for part, count in counted.items():
            assert count <= ROOM * RECORDED[arch][name][part], (
                f"{name} for {arch} has {count} instructions a {part}: find out why, or measure "
                "that it is faster, and record them in instructions.json"
            )


def test_loops_are_found_with_the_longest_way_through_them() -> None:
    code = Code(0, 0, "", read(LISTING))
    inner, outer = code.loops_around("LDGSTS")
    assert (code.longest_turn(inner), code.longest_turn(outer)) == (5, 8)
    assert code.loops_around("STG") == [outer]
    assert code.count() == 9


LISTING = """
.L_outer:
        /*0000*/                   MOV R1, R2 ;
.L_inner:
        /*0010*/                   LDGSTS [R1], [R2] ;
        /*0020*/              @!P1 BRA `(.L_short) ;
        /*0030*/                   FADD R1, R1, R2 ;
        /*0040*/                   FADD R1, R1, R2 ;
.L_short:
        /*0050*/                   NOP ;
        /*0060*/                   BRA.U UP0, `(.L_inner) ;
        /*0070*/                   STG.E [R2], R1 ;
        /*0080*/               @P0 BRA `(.L_outer) ;
        /*0090*/                   EXIT ;
"""
