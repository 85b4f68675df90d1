"""Lanes are loaded, rounded and stored as numpy and torch do it with slices."""

import numpy as np
import pytest
import torch

from cp2fast.copypaste.cpu.lanes import WIDE, zeros
from cp2fast.copypaste.cpu.load_store import (
    load,
    load_bytes,
    load_pixels,
    prefetch,
    put,
    put_bfloat16,
    put_float16,
    put_interleaved,
    put_pixels,
    settle,
    stream,
)
from cp2fast.copypaste.jit import jit

VALUES = np.random.default_rng(0).integers(0, 256, 100).astype(np.float32)


@jit
def four_pixels(weights: np.ndarray, values: np.ndarray, out: np.ndarray) -> None:
    total = zeros()
    for tap in range(2):
        at, step = np.uint64(16 * tap), np.uint64(3 * tap)
        places = np.uint64(0) + step, np.uint64(9) + step, np.uint64(6) + step, np.uint64(30) + step
        pixels = load_pixels(values, places[0], places[1], places[2], places[3])
        total = total + load(weights, at) * pixels
    put_pixels(out, np.uint64(1), np.uint64(21), np.uint64(41), total)


@jit
def bytes_of(values: np.ndarray, out: np.ndarray) -> None:
    prefetch(values, np.uint64(0))
    put(out, np.uint64(0), load_bytes(values, np.uint64(1)))


@jit
def interleave(values: np.ndarray, out: np.ndarray) -> None:
    put_interleaved(
        out,
        np.uint64(3),
        load(values, np.uint64(0)),
        load(values, np.uint64(20)),
        load(values, np.uint64(40)),
    )


@jit
def round_to_16_bits(values: np.ndarray, brain: np.ndarray, half: np.ndarray) -> None:
    for x in range(0, len(values), WIDE):
        i = np.uint64(x)
        put_bfloat16(brain, i, load(values, i))
        put_float16(half, i, load(values, i))


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


def test_channels_are_interleaved_where_said_and_nowhere_else() -> None:
    out = np.full(3 * WIDE + 10, -1, np.float32)
    interleave(VALUES, out)
    channels = np.stack([VALUES[at : at + WIDE] for at in (0, 20, 40)], axis=1)
    np.testing.assert_array_equal(out[3:-7].reshape(WIDE, 3), channels)
    assert (out[:3] == -1).all()
    assert (out[-7:] == -1).all()


def test_bytes_above_127_stay_positive() -> None:
    out = np.empty(WIDE, np.float32)
    bytes_of(VALUES.astype(np.uint8), out)
    np.testing.assert_array_equal(out, VALUES[1:17])
    assert VALUES[1:17].max() > 127


@pytest.mark.parametrize("scale", [1, 1e-4, 1e-7, 3e4])
def test_rounding_to_16_bits_is_torchs(scale: float) -> None:
    """With ties and numbers that float16 has as subnormals only."""
    random = np.random.default_rng(0)
    values = np.float32(scale) * random.uniform(-2, 2, 4096).astype(np.float32)
    values[::2] = (values[::2].view(np.uint32) & 0xFFFF0000 | 0x8000).view(np.float32)
    values[::3] = (values[::3].view(np.uint32) & 0xFFFFE000 | 0x1000).view(np.float32)
    brain, half = np.empty((2, len(values)), np.uint16)
    round_to_16_bits(values, brain, half)
    for ours, dtype in ((brain, torch.bfloat16), (half, torch.float16)):
        assert torch.equal(torch.from_numpy(ours).view(dtype), torch.from_numpy(values).to(dtype))


def test_a_streamed_line_is_a_copy() -> None:
    out = np.full(64, -1, np.float32)
    at = -(out.ctypes.data // 4) % 16 + 16
    copy_a_line(VALUES, out, at)
    np.testing.assert_array_equal(out[at : at + 16], VALUES[5:21])
    assert (out == -1).sum() == 48
