"""16 bits in PNG, PGM, PPM, JPEG 2000 and numpy's format: no bit is dropped before the range."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from cp2fast.data.decoding.decode import BadImage, decode_image, decode_raster, image_size
from cp2fast.data.decoding.levels import Levels
from tests.data import image_files, metadata
from tests.processes import Process

LIMIT = 10**6
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 4096, (23, 31, 1), dtype=np.uint16)
COLOUR = RNG.integers(0, 4096, (23, 31, 3), dtype=np.uint16)
WINDOW = Levels((300.0, 900.0))
BOTH = pytest.mark.parametrize("values", [GREY, COLOUR], ids=["grey", "colour"])


def scaled(values, low=300, high=900):
    levels = (((values.astype(float) - low) / (high - low)).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return np.broadcast_to(levels, (*values.shape[:2], 3))


def interlaced_png(values):
    """Written by hand, because neither Pillow nor imagecodecs writes any."""
    lines = [
        b"\0" + row.tobytes()
        for top, left, down, right in (
            *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2)),
            *((0, 1, 2, 2), (1, 0, 2, 1)),
        )
        for row in values[top::down, left::right].astype(">u2")
        if row.size
    ]
    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 0 if channels == 1 else 2, 0, 0, 1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(metadata.chunk(*chunk) for chunk in chunks)


def numpy_file(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


@BOTH
def test_png(values):
    encoded = image_files.write_png(values, 16, 0 if values.shape[2] == 1 else 2)
    assert np.array_equal(imagecodecs.png_decode(encoded).reshape(values.shape), values)
    assert np.array_equal(decode_image(encoded, LIMIT, levels=WINDOW), scaled(values))


@BOTH
@pytest.mark.parametrize("filter_", range(5))
def test_png_of_every_filter(values, filter_):
    smooth = np.sort(values, axis=0)
    encoded = imagecodecs.png_encode(smooth.squeeze(), filter=8 << filter_)
    assert np.array_equal(decode_raster(encoded, LIMIT).values, smooth)


@BOTH
@pytest.mark.parametrize("size", [(23, 31), (1, 1), (3, 2), (2, 5)])
def test_an_interlaced_png(values, size):
    values = values[: size[0], : size[1]]
    encoded = interlaced_png(values)
    assert np.array_equal(imagecodecs.png_decode(encoded).reshape(values.shape), values)
    assert np.array_equal(decode_raster(encoded, LIMIT).values, values)
    assert image_size(encoded, LIMIT) == size


def test_a_damaged_png_ends_no_process():
    """In a process of its own, because libpng by way of torchvision ends it."""
    script = "from tests.data.decoding.decoders.damaged_png import main; main()"
    process = Process(script=script)
    said, errors = process.communicate()
    assert (process.returncode, said) == (0, "{'BadImage': 120}\n"), errors


@BOTH
def test_alpha_is_no_part_of_the_picture(values):
    with_alpha = np.concatenate([values, GREY[::-1]], axis=2)
    encoded = image_files.write_png(with_alpha, 16, 4 if values.shape[2] == 1 else 6)
    assert np.array_equal(decode_image(encoded, LIMIT, levels=WINDOW), scaled(values))


@BOTH
@pytest.mark.parametrize("highest", [4095, 65535])
def test_netpbm(values, highest):
    kind, (height, width, _) = b"P5" if values.shape[2] == 1 else b"P6", values.shape
    header = kind + b"\n# a comment\n%d %d\n%d\n" % (width, height, highest)
    encoded = header + values.astype(">u2").tobytes()
    assert np.array_equal(decode_image(encoded, LIMIT, levels=WINDOW), scaled(values))
    assert np.array_equal(decode_image(encoded, LIMIT), scaled(values, 0, highest))
    read_by_pillow = np.array(Image.open(io.BytesIO(encoded)).convert("RGB"))
    if values.shape[2] == 3:
        assert np.abs(decode_image(encoded, LIMIT).numpy().astype(int) - read_by_pillow).max() <= 1
    assert image_size(encoded, LIMIT) == (height, width)
    with pytest.raises(BadImage, match="ends before its last pixel"):
        decode_image(encoded[:-1], LIMIT)


@BOTH
@pytest.mark.parametrize("codec", ["jp2", "j2k"])
def test_jpeg2000(values, codec):
    encoded = imagecodecs.jpeg2k_encode(
        values.squeeze(), reversible=True, level=0, codecformat=codec, bitspersample=12
    )
    assert np.array_equal(decode_raster(encoded, LIMIT).values, values)
    assert np.array_equal(decode_image(encoded, LIMIT, levels=WINDOW), scaled(values))
    assert np.array_equal(decode_image(encoded, LIMIT), scaled(values, 0, 4095))
    assert image_size(encoded, LIMIT) == values.shape[:2]


@BOTH
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4", ">f4", "<f8"])
def test_numpy(values, dtype):
    for stored in (values, values.squeeze(), np.asfortranarray(values)):
        encoded = numpy_file(stored.astype(dtype))
        assert np.array_equal(decode_image(encoded, LIMIT, levels=WINDOW), scaled(values))
        assert image_size(encoded, LIMIT) == values.shape[:2]


def test_the_bands_of_an_array_are_its_shorter_outer_axis():
    bands = RNG.integers(0, 1000, (13, 23, 31), dtype=np.uint16)
    levels = Levels((300.0, 900.0), (4, 3, 2))
    expected = scaled(bands[[3, 2, 1]].transpose(1, 2, 0))
    for stored in (bands, bands.transpose(1, 2, 0)):
        assert np.array_equal(decode_image(numpy_file(stored), LIMIT, levels=levels), expected)
        with pytest.raises(BadImage, match="13 bands: choose three"):
            decode_image(numpy_file(stored), LIMIT)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros(512, np.float32), r"shape \(512,\), which is not a picture"),
        (np.zeros((2, 3, 4, 5)), "is not a picture"),
        (np.zeros((0, 5)), "is not a picture"),
        (np.zeros((5, 5), complex), "type complex128"),
        (np.array([["a"]]), "is not a picture"),
    ],
)
def test_an_array_that_is_no_picture_is_bad(values, reason):
    with pytest.raises(BadImage, match=reason):
        decode_image(numpy_file(values), LIMIT)


def test_objects_are_not_unpickled():
    file = io.BytesIO()
    np.save(file, np.array([[{}]], object), allow_pickle=True)
    with pytest.raises(BadImage, match="type object"):
        decode_image(file.getvalue(), LIMIT)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_truncated_file_is_bad_in_one_line(share):
    for encoded in (
        image_files.write_png(COLOUR, 16, 2),
        numpy_file(COLOUR),
        imagecodecs.jpeg2k_encode(COLOUR, reversible=True, level=0),
    ):
        with pytest.raises(BadImage) as refusal:
            decode_image(encoded[: int(len(encoded) * share)], LIMIT)
        assert len(str(refusal.value).splitlines()) == 1


def test_the_size_is_checked_before_decoding():
    for encoded in (
        image_files.write_png(COLOUR, 16, 2),
        numpy_file(COLOUR),
        imagecodecs.jpeg2k_encode(COLOUR, reversible=True, level=0),
    ):
        with pytest.raises(BadImage, match=r"31 x 23 pixels are more than data.max_pixels=712"):
            decode_image(encoded, 23 * 31 - 1)


def test_a_size_that_no_image_has_is_bad():
    """The edge of a JPEG 2000 before its origin, and a shape below zero."""
    codestream = bytearray(imagecodecs.jpeg2k_encode(COLOUR, level=0, codecformat="j2k"))
    codestream[20:24] = (40).to_bytes(4)  # YOsiz of 23 rows
    array = numpy_file(np.zeros((40, 30), np.uint8)).replace(b"(40, 30)", b"(-40,30)")
    for encoded, size in ((bytes(codestream), "31 x -17"), (array, "30 x -40")):
        for read in (image_size, decode_image):
            with pytest.raises(BadImage, match=f"its header says {size} pixels"):
                read(encoded, LIMIT)


@pytest.mark.parametrize("dtype", ["bool", "i1", "u1", "<i2", ">i2", "<f2", ">u8"])
def test_numpy_of_every_type_and_order(dtype):
    values = (GREY[:, :, 0] % 100 if dtype != "bool" else GREY[:, :, 0] % 2).astype(dtype)
    for stored in (values, np.asfortranarray(values), values[:, :, None], values[None]):
        image = decode_image(numpy_file(stored), LIMIT, levels=Levels((0.0, 150.0))).numpy()
        if dtype == "bool":
            expected = values * np.uint8(255)
        elif dtype == "u1":
            expected = values
        else:
            expected = scaled(values[:, :, None], 0, 150)[:, :, 0]
        assert np.abs(image[:, :, 1].astype(int) - expected).max() <= (dtype == "<f2"), dtype


def test_what_is_not_finite_in_an_array_is_black():
    values = GREY[:, :, 0].astype(np.float32)
    values[0], values[1], values[2] = np.nan, np.inf, -np.inf
    image = decode_image(numpy_file(values), LIMIT, levels=Levels((-500.0, 4095.0))).numpy()
    assert (image[:3] == 0).all()
    assert (image[3:] > 0).all()
