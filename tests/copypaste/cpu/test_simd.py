"""Lanes do what numpy does to slices, to the last bit where no product and sum are fused."""

import numpy as np

from cp2fast.copypaste.cpu.simd import (
    WIDE,
    add_bytes,
    add_pair,
    add_pixels,
    prefetch,
    put,
    put_pixels,
    settle,
    stream,
    stretch,
    zeros,
)
from cp2fast.copypaste.jit import jit

VALUES = np.random.default_rng(0).integers(0, 256, 100).astype(np.float32)


@jit
def four_pixels(weights: np.ndarray, values: np.ndarray, out: np.ndarray) -> None:
    total = zeros()
    for tap in range(2):
        at, step = np.uint64(16 * tap), np.uint64(3 * tap)
        places = np.uint64(0) + step, np.uint64(9) + step, np.uint64(6) + step, np.uint64(30) + step
        total = add_pixels(total, weights, at, values, places[0], places[1], places[2], places[3])
    put_pixels(out, np.uint64(1), np.uint64(21), np.uint64(41), total)


@jit
def three_stretches(values: np.ndarray, out: np.ndarray) -> None:
    total = stretch(np.float32(0.5), values, np.uint64(20))
    total = add_pair(total, np.float32(0.25), values, np.uint64(17), np.uint64(23))
    put(out, np.uint64(3), total)


@jit
def two_rows(values: np.ndarray, out: np.ndarray) -> None:
    prefetch(values, np.uint64(0))
    total = add_bytes(zeros(), np.float32(0.5), values, np.uint64(1))
    put(out, np.uint64(0), add_bytes(total, np.float32(0.25), values, np.uint64(30)))


@jit
def copy_a_line(values: np.ndarray, out: np.ndarray, at: int) -> None:
    stream(out, np.uint64(at), values, np.uint64(5))
    settle()


def test_weighted_sums_of_four_pixels_are_written_by_channel_and_nowhere_else() -> None:
    weights = np.repeat(np.float32([[0.5, 0.25, 1, 0], [0.25, 0.5, 0.5, 2]]), 4)
    out = np.full(60, -1, np.float32)
    four_pixels(weights, VALUES, out)
    pixels = [VALUES[first : first + 6].reshape(2, 3) for first in (0, 9, 6, 30)]
    expected = [w @ p for w, p in zip(weights.reshape(2, 4, 4)[:, :, 0].T, pixels, strict=True)]
    written = np.stack([out[first : first + 4] for first in (1, 21, 41)], axis=1)
    np.testing.assert_array_equal(written, expected)
    assert (out == -1).sum() == 48


def test_weighted_sum_of_stretches_is_written_where_said_and_nowhere_else() -> None:
    out = np.full(WIDE + 10, -1, np.float32)
    three_stretches(VALUES, out)
    centre, before, after = (VALUES[at : at + WIDE] for at in (20, 17, 23))
    np.testing.assert_array_equal(out[3 : 3 + WIDE], 0.5 * centre + 0.25 * (before + after))
    assert (out[:3] == -1).all()
    assert (out[3 + WIDE :] == -1).all()


def test_bytes_above_127_stay_positive() -> None:
    values, out = VALUES.astype(np.uint8), np.empty(WIDE, np.float32)
    two_rows(values, out)
    np.testing.assert_array_equal(out, 0.5 * VALUES[1:17] + 0.25 * VALUES[30:46])
    assert VALUES[1:17].max() > 127


def test_a_streamed_line_is_a_copy() -> None:
    out = np.full(64, -1, np.float32)
    at = -(out.ctypes.data // 4) % 16 + 16
    copy_a_line(VALUES, out, at)
    np.testing.assert_array_equal(out[at : at + 16], VALUES[5:21])
    assert (out == -1).sum() == 48
