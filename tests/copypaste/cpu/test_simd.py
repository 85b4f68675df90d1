"""Lanes do what numpy does to slices, to the last bit where no product and sum are fused."""

import numpy as np

from cp2fast.copypaste.cpu.simd import (
    WIDE,
    add_pair,
    add_pixel,
    black,
    put,
    red_green_blue,
    stretch,
)
from cp2fast.copypaste.jit import jit

VALUES = np.random.default_rng(0).integers(0, 256, 100).astype(np.float32)


@jit
def two_pixels(values: np.ndarray) -> tuple[float, float, float]:
    total = add_pixel(black(), np.float32(0.25), values, np.uint64(6))
    return red_green_blue(add_pixel(total, np.float32(0.5), values, np.uint64(9)))


@jit
def three_stretches(values: np.ndarray, out: np.ndarray) -> None:
    total = stretch(np.float32(0.5), values, np.uint64(20))
    total = add_pair(total, np.float32(0.25), values, np.uint64(17), np.uint64(23))
    put(out, np.uint64(3), total)


def test_weighted_sum_of_pixels() -> None:
    expected = 0.25 * VALUES[6:9] + 0.5 * VALUES[9:12]
    np.testing.assert_array_equal(two_pixels(VALUES), expected)


def test_weighted_sum_of_stretches_is_written_where_said_and_nowhere_else() -> None:
    out = np.full(WIDE + 10, -1, np.float32)
    three_stretches(VALUES, out)
    centre, before, after = (VALUES[at : at + WIDE] for at in (20, 17, 23))
    np.testing.assert_array_equal(out[3 : 3 + WIDE], 0.5 * centre + 0.25 * (before + after))
    assert (out[:3] == -1).all()
    assert (out[3 + WIDE :] == -1).all()
