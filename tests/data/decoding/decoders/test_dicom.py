"""DICOM beside what pydicom's own functions make of the same file."""

import io
import struct

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_color_lut, apply_modality_lut

from cp2fast.data.decoding.decode import BadImage, decode_image, decode_raster, image_size
from cp2fast.data.decoding.levels import BY_TYPE, Levels
from tests.data.dicom_files import COMPRESSIONS, compressed, dicom, x_ray

LIMIT = 10**6
XRAY = x_ray(48, 61, seed=0)


def shown(encoded, levels=BY_TYPE):
    rgb = decode_image(encoded, LIMIT, levels=levels).numpy()
    assert (rgb == rgb[:, :, :1]).all()
    return rgb[:, :, 0]


def scaled(values, low, high):
    return (((values - low) / (high - low)).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def test_twelve_bits_are_mapped_by_the_bits_that_are_stored_or_by_the_range():
    encoded = dicom(XRAY, bits=12)
    assert np.array_equal(shown(encoded), scaled(XRAY, 0, 4095))
    assert np.array_equal(shown(encoded, Levels((500.0, 2500.0))), scaled(XRAY, 500, 2500))
    assert image_size(encoded, LIMIT) == XRAY.shape


def test_monochrome1_is_inverted():
    encoded = dicom(XRAY, bits=12, photometric="MONOCHROME1")
    assert np.array_equal(shown(encoded), 255 - scaled(XRAY, 0, 4095))


def test_the_range_is_in_the_units_of_the_rescaling():
    stored = (XRAY.astype(np.int16) - 1000).clip(-1024, 3000)
    encoded = dicom(stored, RescaleSlope=2, RescaleIntercept=-24)
    data = pydicom.dcmread(io.BytesIO(encoded))
    units = apply_modality_lut(data.pixel_array, data)
    assert np.array_equal(units, stored * 2.0 - 24)
    assert np.array_equal(shown(encoded, Levels((-1000.0, 400.0))), scaled(units, -1000, 400))
    assert decode_raster(encoded, LIMIT).limits == (-32768 * 2 - 24, 32767 * 2 - 24)


def test_padding_is_no_data():
    stored = XRAY.astype(np.int16)
    stored[:5] = -2000
    stored[5:8] = -1990
    one = decode_raster(dicom(stored, PixelPaddingValue=-2000), LIMIT)
    assert np.array_equal(one.missing[:, :, 0], stored == -2000)
    several = dicom(stored, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1990)
    assert np.array_equal(decode_raster(several, LIMIT).missing[:, :, 0], stored < 0)
    assert (shown(several, Levels((-3000.0, 4095.0)))[:8] == 0).all()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressed_pixels_are_those_that_were_compressed(compression, tmp_path):
    encoded = compressed(dicom(XRAY, bits=12), compression, tmp_path)
    syntax = pydicom.dcmread(io.BytesIO(encoded)).file_meta.TransferSyntaxUID
    assert syntax.is_compressed
    assert np.array_equal(shown(encoded), scaled(XRAY, 0, 4095))


def test_of_several_frames_the_first_is_taken():
    frames = np.stack([XRAY, XRAY[::-1], XRAY // 2])
    assert np.array_equal(shown(dicom(frames, bits=12, frames=3)), scaled(XRAY, 0, 4095))


def test_colours_of_eight_bits_stay_as_they_are():
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = decode_image(dicom(rgb, photometric="RGB"), LIMIT, levels=Levels((50.0, 90.0)))
    assert np.array_equal(image.numpy(), rgb)


def test_a_file_without_the_preamble_is_known_by_its_content():
    assert np.array_equal(shown(dicom(XRAY, bits=12)[132:]), scaled(XRAY, 0, 4095))


def test_a_file_without_pixels_is_bad():
    report = pydicom.dcmread(io.BytesIO(dicom(XRAY, bits=12)))
    for tag in ("PixelData", "Rows", "Columns"):
        delattr(report, tag)
        file = io.BytesIO()
        pydicom.dcmwrite(file, report)
        with pytest.raises(BadImage, match="without a picture"):
            decode_image(file.getvalue(), LIMIT)


@pytest.mark.parametrize("tag", [0x0002, 0x0010, 0x0100])
@pytest.mark.parametrize("values", [0, 2], ids=["empty", "doubled"])
def test_a_tag_with_no_value_or_two_is_bad(tag, values):
    """Samples per pixel, rows, bits allocated: each a number of two bytes in group 0028."""
    encoded = dicom(XRAY, bits=12)
    begin = encoded.index(struct.pack("<HH2s", 0x28, tag, b"US"))
    value = encoded[begin + 8 : begin + 10] * values
    field = encoded[begin : begin + 6] + struct.pack("<H", len(value)) + value
    with pytest.raises(BadImage):
        decode_image(encoded[:begin] + field + encoded[begin + 10 :], LIMIT)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_file_is_bad_in_one_line(share):
    encoded = dicom(XRAY, bits=12)
    with pytest.raises(BadImage) as refusal:
        decode_image(encoded[: int(len(encoded) * share)], LIMIT)
    assert len(str(refusal.value).splitlines()) == 1


def test_the_size_is_checked_before_decoding():
    with pytest.raises(BadImage, match=r"61 x 48 pixels are more than data.max_pixels=2927"):
        decode_image(dicom(XRAY, bits=12), 48 * 61 - 1)


@pytest.mark.parametrize("name", ["rgb_color", "ybr_color", "jpeg2k", "palette", "overlay"])
def test_pydicoms_own_examples(name):
    path = get_testdata_file(f"examples_{name}.dcm", download=False)
    data = pydicom.dcmread(path)
    values = pydicom.pixels.pixel_array(data, index=0)
    if name == "palette":
        values = apply_color_lut(values, data) >> 8
    if name == "overlay":
        values = np.repeat(scaled(values, 0, 4095)[:, :, None], 3, axis=2)
    with open(path, "rb") as file:
        assert np.array_equal(decode_image(file.read(), LIMIT).numpy(), values)


def test_a_preamble_that_makes_it_a_tiff_besides_changes_nothing():
    encoded = b"II*\0" + dicom(XRAY, bits=12)[4:]
    assert np.array_equal(shown(encoded), scaled(XRAY, 0, 4095))


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_every_number_of_bits_with_and_without_a_sign(bits, signed):
    low = -(1 << (bits - 1)) if signed else 0
    kind = ("i" if signed else "u") + ("1" if bits == 8 else "2")
    values = (XRAY.astype(int) * ((1 << bits) - 1) // 4095 + low).astype(kind)
    encoded = dicom(values, bits=bits)
    assert np.array_equal(pydicom.dcmread(io.BytesIO(encoded)).pixel_array, values)
    expected = scaled(values.astype(float), low, low + (1 << bits) - 1)
    assert np.array_equal(shown(encoded), expected)


def test_a_window_is_not_heeded():
    plain = shown(dicom(XRAY, bits=12))
    assert np.array_equal(shown(dicom(XRAY, bits=12, WindowCenter=100, WindowWidth=50)), plain)


def test_a_modality_table_gives_the_values():
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.LUTData = ((np.arange(4096) * 16) % 65536).astype("<u2").tobytes()
    table["LUTData"].VR = "OW"
    table.ModalityLUTType = "US"
    encoded = dicom(XRAY, bits=12, ModalityLUTSequence=[table])
    data = pydicom.dcmread(io.BytesIO(encoded))
    units = apply_modality_lut(data.pixel_array, data)
    assert np.array_equal(units, XRAY.astype(int) * 16)
    assert np.array_equal(shown(encoded), scaled(units.astype(float), 0, 65535))
