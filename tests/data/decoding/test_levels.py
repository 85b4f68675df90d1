"""What values become: the range, the bands, and no data."""

import numpy as np
import pytest

from cp2fast.data.decoding.levels import BY_TYPE, Levels, to_rgb
from cp2fast.data.decoding.raster import BadImage, Raster, type_limits


def raster(values, **more):
    values = np.atleast_3d(np.asarray(values))
    colours = {1: 1, 3: 3}.get(values.shape[2])
    return Raster(values, type_limits(values.dtype), colours, **{"has_bands": True, **more})


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "i2", "u4", "i4", "f4", "f8"])
def test_a_range_goes_to_0_and_255_and_is_rounded_between(dtype):
    values = np.array([[0, 5, 10, 20, 100, 110, 120]], dtype)
    expected = [0, 0, 0, 26, 230, 255, 255] if dtype != "u1" else values[0]  # 25.5, 229.5
    levels = Levels(range=(10.0, 110.0))
    assert to_rgb(raster(values), levels)[0, :, 1].tolist() == list(expected)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("u2", [0, 32767, 65535]),
        ("i2", [-32768, -1, 32767]),
        ("u4", [0, 2**31 - 1, 2**32 - 1]),
        ("f4", [0, 0.499, 1]),
        ("f8", [-3, 0.499, 7]),
    ],
)
def test_without_a_range_all_that_the_type_holds_is_mapped(dtype, values):
    assert to_rgb(raster([np.array(values, dtype)]), BY_TYPE)[0, :, 0].tolist() == [0, 127, 255]


def test_eight_bits_are_left_alone_and_one_bit_is_black_and_white():
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(to_rgb(raster(every), Levels((50.0, 60.0)))[:, :, 2], every)
    assert to_rgb(raster([[False, True]]), Levels((50.0, 60.0)))[0, :, 0].tolist() == [0, 255]


def test_grey_is_grey_in_all_three_channels():
    rgb = to_rgb(raster(np.array([[0, 1000, 65535]], np.uint16)), BY_TYPE)
    assert rgb.shape == (1, 3, 3)
    assert (rgb == rgb[:, :, :1]).all()
    assert rgb.flags.c_contiguous
    assert rgb.flags.writeable


def test_bands_are_counted_from_1_in_the_order_of_red_green_and_blue():
    bands = np.arange(13, dtype=np.uint8).reshape(1, 1, 13)
    assert to_rgb(raster(bands), Levels(bands=(4, 3, 2))).tolist() == [[[3, 2, 1]]]
    assert to_rgb(raster(bands), Levels(bands=(8,))).tolist() == [[[7, 7, 7]]]


def test_bands_that_must_be_chosen_or_are_not_there_are_bad_in_one_line():
    bands = raster(np.zeros((2, 2, 13), np.uint8))
    with pytest.raises(BadImage, match=r"13 bands: choose three with data.bands=\[RED,GREEN,BLUE]"):
        to_rgb(bands, BY_TYPE)
    with pytest.raises(BadImage, match=r"13 bands, and data\.bands asks for number 14"):
        to_rgb(bands, Levels(bands=(14, 3, 2)))


def test_the_bands_of_a_photo_are_its_colours_whatever_was_chosen():
    photo = raster(np.array([[[1, 2, 3]]], np.uint8), has_bands=False)
    assert to_rgb(photo, Levels(bands=(4, 3, 2))).tolist() == [[[1, 2, 3]]]


def test_no_data_is_black_also_where_the_lowest_value_is_white():
    values = np.array([[100, 0, 200]], np.uint16)
    missing = values[:, :, None] == 0
    for inverted, expected in ((False, [0, 0, 255]), (True, [255, 0, 0])):
        one = raster(values, missing=missing, inverted=inverted)
        assert to_rgb(one, Levels((100.0, 200.0)))[0, :, 0].tolist() == expected


def test_what_is_not_finite_is_no_data():
    values = np.array([[np.nan, np.inf, -np.inf, 0.0, 1.0]], np.float32)
    with np.errstate(all="raise"):
        assert to_rgb(raster(values), Levels((-1.0, 1.0)))[0, :, 0].tolist() == [0, 0, 0, 128, 255]
