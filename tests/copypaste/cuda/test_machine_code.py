"""The machine code of the CUDA kernels, for cards that need not be here."""

import json
from pathlib import Path

import pytest

from cp2fast.copypaste.cuda.launch import PLANNERS, THREADS
from tests.copypaste.cuda.machine_code import Code, inspect, read

pytestmark = pytest.mark.slow

REGISTERS = 64 * 1024
STATIC_SHARED = 48 * 1024
"""Bytes that a block may have on any card without asking."""
RECORDED = json.loads(Path(__file__).with_name("instructions.json").read_text())
ROOM = 1.05
"""For another version of the compiler."""

# Shared memory of a multiprocessor in KiB, of which a block takes one more than its own, and the
# blocks of compose and of mean_luma that the source promises.
CARDS = {"sm_80": (164, 4, 5), "sm_90": (228, 4, 5), "sm_100": (228, 4, 5), "sm_120": (100, 2, 3)}
OFTEN = 32 * 1024
"""Bytes of code that runs often; with 45 KB, warps waited for instructions (docs/speed.md)."""


@pytest.fixture(scope="module", params=CARDS)
def card(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    return request.param, inspect(request.param, tmp_path_factory.mktemp("code"))


def test_no_register_is_spilled_and_nothing_is_in_slow_memory(card) -> None:
    _, kernels = card
    assert set(kernels) == {"plan", "mean_luma", "compose"}
    for code in kernels.values():
        assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in code.report
        assert not {"LDL", "STL"} & code.operations


def test_no_arithmetic_is_in_double_precision(card) -> None:
    _, kernels = card
    for code in kernels.values():
        assert not {"DADD", "DMUL", "DFMA", "DSETP", "F2F"} & code.operations


def test_as_many_blocks_share_a_multiprocessor_as_the_source_promises(card) -> None:
    arch, kernels = card
    kibibytes, of_compose, of_mean = CARDS[arch]
    for name, threads, blocks in (
        ("compose", THREADS, of_compose),
        ("mean_luma", THREADS, of_mean),
        ("plan", PLANNERS, 1),
    ):
        code = kernels[name]
        assert code.shared <= STATIC_SHARED
        assert blocks * (code.shared + 1024) <= kibibytes * 1024
        assert blocks * threads * -(-code.registers // 8) * 8 <= REGISTERS


def test_matrices_are_multiplied_by_tensor_cores_and_bytes_copied_past_registers(card) -> None:
    _, kernels = card
    for name in ("mean_luma", "compose"):
        for operation in ("HMMA", "LDGSTS"):
            assert operation in kernels[name].operations


def test_the_loop_over_tiles_is_short_enough_to_stay_in_a_cache(card) -> None:
    _, kernels = card
    for name in ("mean_luma", "compose"):
        tile = kernels[name].loops_around("LDGSTS")[2]
        assert 16 * len(tile.body) <= OFTEN


def test_the_code_is_no_longer_than_was_recorded(card) -> None:
    """Of the kernel; of the longest way through a tile of 16 x 16 pixels, each operation once; and
    of that through one block of 48 x 16 source pixels.
    """
    arch, kernels = card
    for name, code in kernels.items():
        counted = {"kernel": code.count()}
        if name != "plan":
            block, _, tile = code.loops_around("LDGSTS")[:3]
            counted |= {"tile": code.longest_turn(tile), "block": code.longest_turn(block)}
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
