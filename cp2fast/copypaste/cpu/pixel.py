"""The arithmetic for one pixel, in float32.

These are plain functions, so that tests can call them. The kernel compiles them, for one number or
for the lanes of ``lanes.py``: none calls another but ``where_equal``, and every constant is a
float32 (a Python number would make the compiled arithmetic double precision). Colours are in
[0, 1].
"""

from __future__ import annotations

import math

import numpy as np

_ZERO, _HALF, _ONE, _TWO, _THREE, _FOUR = (np.float32(x) for x in (0, 0.5, 1, 2, 3, 4))
_SIX = np.float32(6)
_LUMA_RED, _LUMA_GREEN, _LUMA_BLUE = (np.float32(x) for x in (0.299, 0.587, 0.114))


def where_equal(
    one: np.float32, other: np.float32, then: np.float32, rest: np.float32
) -> np.float32:
    """``then`` if two numbers are equal, else ``rest``."""
    return then if one == other else rest


def triangle(distance: np.float32) -> np.float32:
    """Weight of the bilinear filter at a distance given in units of its support."""
    return max(_ZERO, _ONE - abs(distance))


def gaussian(distance: np.float32, sigma: np.float32) -> np.float32:
    """Weight of the Gaussian at a distance in pixels; 1 at its centre."""
    return np.float32(math.exp(-_HALF * (distance / sigma) * (distance / sigma)))


def luma(red: np.float32, green: np.float32, blue: np.float32) -> np.float32:
    """Grey value, ITU-R BT.601."""
    return _LUMA_RED * red + _LUMA_GREEN * green + _LUMA_BLUE * blue


def blend(rest: np.float32, value: np.float32, factor: np.float32) -> np.float32:
    """``value`` moved away from (factor > 1) or towards (factor < 1) a base, clipped to [0, 1].

    The base of brightness is black, of contrast the image's mean luma, of saturation the pixel's
    own luma (Pillow's ImageEnhance, torchvision's ColorJitter). ``rest`` is (1 - factor) * base,
    which is computed once for several pixels or channels.
    """
    return min(max(rest + factor * value, _ZERO), _ONE)


def wrap_turns(turns: np.float32) -> np.float32:
    """The same angle within half a turn of 0."""
    return turns - np.float32(math.floor(turns + _HALF))


def turn_hues(turns: np.float32) -> tuple[np.float32, np.float32, np.float32]:
    """Where ``turns`` in [-1/2, 1/2] move red, green and blue, in sixths of a turn from -3 to 3."""
    red = _SIX * turns
    green = red + _TWO if red < _ONE else red - _FOUR
    blue = red + _FOUR if red < -_ONE else red - _TWO
    return red, green, blue


def shift_hue(
    red: np.float32,
    green: np.float32,
    blue: np.float32,
    to_red: np.float32,
    to_green: np.float32,
    to_blue: np.float32,
) -> tuple[np.float32, np.float32, np.float32]:
    """Shift the hue, keeping HSV's saturation and value; the last three are from ``turn_hues``.

    Hue is measured in sixths of a turn: red at 0, green at 2, blue at -2. A channel has its maximum
    within 1 of its own hue in both directions, its minimum beyond 2, and is linear in between.
    """
    value = max(max(red, green), blue)
    chroma = value - min(min(red, green), blue)
    # All angles are multiplied by the chroma, which avoids a division.
    two, three = _TWO * chroma, _THREE * chroma
    hue = green - blue + to_red * chroma
    hue = where_equal(green, value, blue - red + to_green * chroma, hue)
    hue = where_equal(blue, value, red - green + to_blue * chroma, hue)
    # Distance from the hue opposite to each channel's own; no angle here exceeds a whole turn.
    from_red = abs(abs(hue) - three)
    from_green = abs(abs(hue - two) - three)
    from_blue = abs(abs(hue + two) - three)
    return (
        value - min(max(two - from_red, _ZERO), chroma),
        value - min(max(two - from_green, _ZERO), chroma),
        value - min(max(two - from_blue, _ZERO), chroma),
    )


def normalise(value: np.float32, mean: np.float32, std: np.float32) -> np.float32:
    """Subtract the mean and divide by the standard deviation."""
    return (value - mean) * (_ONE / std)
