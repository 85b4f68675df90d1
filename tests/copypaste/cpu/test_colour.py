"""When the mean after some operations is a multiple of the mean before them."""

import numpy as np
import pytest

from cp2fast.copypaste.cpu.colour import linear_gain
from cp2fast.copypaste.parameters import BRIGHTNESS, HUE, SATURATION


@pytest.mark.parametrize(
    ("order", "brightness", "saturation", "gain"),
    [
        ([], 1.4, 1.4, 1.0),
        ([BRIGHTNESS], 0.75, 1.4, 0.75),
        ([BRIGHTNESS], 1.4, 0.6, -1.0),
        ([SATURATION], 0.75, 0.6, 1.0),
        ([SATURATION], 0.75, 1.4, -1.0),
        ([SATURATION, BRIGHTNESS], 0.75, 0.6, 0.75),
        ([SATURATION, BRIGHTNESS], 0.75, 1.4, -1.0),
        ([BRIGHTNESS], -0.5, 1.0, -1.0),
        ([HUE], 1.0, 1.0, -1.0),
    ],
)
def test_gain_is_known_only_where_nothing_can_clip(
    order: list[int], brightness: float, saturation: float, gain: float
) -> None:
    factor = np.array([brightness, 1.2, saturation, 0.1], np.float32)
    assert linear_gain(np.array(order, np.int64), len(order), factor) == pytest.approx(gain)
