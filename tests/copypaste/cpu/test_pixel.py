"""The maths of one pixel, held to the standard library, Pillow and torch."""

import colorsys
import itertools
import math

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from cp2fast.copypaste.cpu import lanes, pixel

unit = st.floats(0, 1, width=32).map(np.float32)
FUNCTIONS = {
    pixel.triangle: 1,
    pixel.gaussian: 2,
    pixel.luma: 3,
    pixel.blend: 3,
    pixel.wrap_turns: 1,
    pixel.turn_hues: 1,
    pixel.shift_hue: 6,
    pixel.normalise: 3,
}


@given(unit, unit, unit, st.floats(-0.5, 0.5, width=32).map(np.float32))
def test_hue_turns_as_in_the_standard_librarys_hsv(red, green, blue, turns) -> None:
    hue, saturation, value = colorsys.rgb_to_hsv(float(red), float(green), float(blue))
    expected = colorsys.hsv_to_rgb((hue + float(turns)) % 1, saturation, value)
    ours = pixel.shift_hue(red, green, blue, *pixel.turn_hues(turns))
    np.testing.assert_allclose(ours, expected, atol=2e-6)


@pytest.mark.parametrize("colour", [*itertools.product((0.0, 0.5, 1.0), repeat=3)])
def test_hue_turns_where_channels_are_equal(colour) -> None:
    channels = [np.float32(c) for c in colour]
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)
    for turns in np.linspace(-0.5, 0.5, 13, dtype=np.float32):
        expected = colorsys.hsv_to_rgb((hue + float(turns)) % 1, saturation, value)
        ours = pixel.shift_hue(*channels, *pixel.turn_hues(turns))
        np.testing.assert_allclose(ours, expected, atol=2e-6)


@given(st.floats(-100, 100, width=32).map(np.float32))
def test_wrapped_turns_are_the_same_angle_within_half_a_turn(turns) -> None:
    wrapped = pixel.wrap_turns(turns)
    assert -0.5 <= wrapped <= 0.5
    assert math.cos(2 * math.pi * wrapped) == pytest.approx(math.cos(2 * math.pi * turns), abs=1e-3)
    assert math.sin(2 * math.pi * wrapped) == pytest.approx(math.sin(2 * math.pi * turns), abs=1e-3)


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
def test_blend_is_pillows_brightness_contrast_and_saturation(factor) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(colours)
    luma = [[pixel.luma(*p) for p in row] for row in np.float32(colours) / np.float32(255)]
    mean = np.float32(np.mean(luma))
    for enhance, base in (
        (ImageEnhance.Brightness, lambda _: np.float32(0)),
        (ImageEnhance.Contrast, lambda _: mean),
        (ImageEnhance.Color, lambda at: luma[at[0]][at[1]]),
    ):
        pillow = np.asarray(enhance(image).enhance(factor)) / 255
        for at in np.ndindex(8, 8, 3):
            value = np.float32(colours[at]) / np.float32(255)
            rest = np.float32(1 - factor) * base(at)
            ours = pixel.blend(rest, value, np.float32(factor))
            assert ours == pytest.approx(pillow[at], abs=1.6 / 255)  # Pillow rounds twice


def test_filters_weigh_by_distance() -> None:
    distances = np.float32([-2, -1, -0.5, 0, 0.25, 1, 3])
    np.testing.assert_array_equal(
        [pixel.triangle(d) for d in distances], [0, 0, 0.5, 1, 0.75, 0, 0]
    )
    np.testing.assert_allclose(
        [pixel.gaussian(d, np.float32(1.5)) for d in distances],
        np.exp(-(distances.astype(float) ** 2) / (2 * 1.5**2)),
        rtol=1e-6,
    )


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_compiled_arithmetic_is_single_precision(function) -> None:
    assert lanes.WIDE  # which tells numba how to compile ``where_equal``
    compiled = numba.njit(
        function, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
    )
    compiled.compile((numba.float32,) * FUNCTIONS[function])
    (llvm,) = compiled.inspect_llvm().values()
    assert "float" in llvm
    assert "double" not in llvm
