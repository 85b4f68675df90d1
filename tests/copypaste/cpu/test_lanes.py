"""Lanes do what numpy does to slices, to the last bit where no product and sum are fused."""

import numpy as np

from cp2fast.copypaste.cpu.lanes import WIDE, zeros
from cp2fast.copypaste.cpu.load_store import load, put
from cp2fast.copypaste.cpu.pixel import where_equal
from cp2fast.copypaste.jit import jit

VALUES = np.random.default_rng(0).integers(0, 256, 100).astype(np.float32)


@jit
def arithmetic(values: np.ndarray, out: np.ndarray) -> None:
    one, other, half = load(values, np.uint64(3)), load(values, np.uint64(20)), np.float32(0.5)
    put(out, np.uint64(0), one + other)
    put(out, np.uint64(16), one - other)
    put(out, np.uint64(32), half * one)
    put(out, np.uint64(48), min(one, other))
    put(out, np.uint64(64), max(one, half))
    put(out, np.uint64(80), abs(half - one))
    put(out, np.uint64(96), where_equal(min(one, other), one, zeros(), other))


def test_arithmetic_is_numpys_with_numbers_on_either_side() -> None:
    out = np.empty(7 * WIDE, np.float32)
    arithmetic(VALUES, out)
    one, other, half = VALUES[3:19], VALUES[20:36], np.float32(0.5)
    expected = [
        one + other,
        one - other,
        half * one,
        np.minimum(one, other),
        np.maximum(one, half),
        abs(half - one),
        np.where(one <= other, 0, other),
    ]
    np.testing.assert_array_equal(out.reshape(7, WIDE), expected)
