"""TIFF of every make, beside what tifffile and Pillow read of it."""

import contextlib
import io
import random
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from cp2fast.data.decoding.decode import BadImage, decode_image, decode_raster, image_size
from cp2fast.data.decoding.levels import Levels, missing_of
from tests.data import image_files

LIMIT = 10**6
RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 4096, (37, 53), dtype=np.uint16)
BANDS = RNG.integers(0, 10_000, (13, 37, 53), dtype=np.uint16)


def tiff(values, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def scaled(values, low, high):
    """Independent of the package: exact rational arithmetic, halves up."""
    levels = np.floor((values.astype(np.float64) - low) / (high - low) * 255 + 0.5)
    return levels.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd", "packbits", "lzma"])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"byteorder": ">"}, {"bigtiff": True}])
def test_sixteen_bits_with_a_range(compression, options):
    encoded = tiff(DEEP, compression=compression, **options)
    image = decode_image(encoded, LIMIT, levels=Levels((100.0, 3900.0))).numpy()
    expected = scaled(tifffile.imread(io.BytesIO(encoded)), 100, 3900)
    assert np.array_equal(image, np.repeat(expected[:, :, None], 3, axis=2))
    assert image_size(encoded, LIMIT) == DEEP.shape


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64", "int32", "uint8"])
def test_three_of_many_bands(planar, dtype):
    bands = (BANDS % 200).astype(dtype)
    values = bands if planar == "separate" else bands.transpose(1, 2, 0)
    encoded = tiff(values, photometric="minisblack", planarconfig=planar)
    image = decode_image(encoded, LIMIT, levels=Levels((0.0, 150.0), (4, 3, 2))).numpy()
    chosen = bands[[3, 2, 1]].transpose(1, 2, 0)
    assert np.array_equal(image, chosen if dtype == "uint8" else scaled(chosen, 0, 150))
    with pytest.raises(BadImage, match="13 bands: choose three"):
        decode_image(encoded, LIMIT)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "LAB", "YCbCr", "RGBA", "LA"])
def test_eight_bits_of_every_colour_as_pillow_reads_them(mode):
    photo = image_files.photo(40, 30).convert("RGBA" if mode == "LA" else "RGB").convert(mode)
    encoded = image_files.encode(photo, "TIFF")
    expected = np.array(Image.open(io.BytesIO(encoded)).convert("RGB"))
    assert np.array_equal(decode_image(encoded, LIMIT).numpy(), expected)


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", "group4"])
def test_what_pillow_compressed(compression):
    photo = image_files.photo(40, 30).convert("1" if compression == "group4" else "RGB")
    encoded = image_files.encode(photo, "TIFF", compression=compression)
    expected = np.array(Image.open(io.BytesIO(encoded)).convert("RGB")).astype(int)
    assert np.abs(decode_image(encoded, LIMIT).numpy() - expected).max() <= 1


def test_the_bands_that_the_file_calls_colours_need_no_choice():
    bands = BANDS[:4].transpose(1, 2, 0)
    near_infrared = tiff(bands, photometric="rgb", extrasamples=["unspecified"])
    image = decode_image(near_infrared, LIMIT, levels=Levels((0.0, 9999.0))).numpy()
    assert np.array_equal(image, scaled(bands[:, :, :3], 0, 9999))
    chosen = decode_image(near_infrared, LIMIT, levels=Levels((0.0, 9999.0), (4, 1, 2))).numpy()
    assert np.array_equal(chosen, scaled(bands[:, :, [3, 0, 1]], 0, 9999))


def test_white_is_zero_where_the_file_says_so():
    encoded = tiff(DEEP, photometric="miniswhite")
    image = decode_image(encoded, LIMIT, levels=Levels((0.0, 4095.0))).numpy()
    assert np.array_equal(image[:, :, 0], 255 - scaled(DEEP, 0, 4095))


@pytest.mark.parametrize(("nodata", "dtype"), [("0", "uint16"), ("-9999", "float32")])
def test_what_gdal_calls_no_data_is_black(nodata, dtype):
    values = np.where(DEEP < 400, float(nodata), DEEP + 1.0).astype(dtype)
    encoded = tiff(values, extratags=[(42113, "s", 0, nodata, True)])
    raster = decode_raster(encoded, LIMIT)
    assert np.array_equal(raster.missing[:, :, 0], DEEP < 400)
    image = decode_image(encoded, LIMIT, levels=Levels((-20_000.0, 4096.0))).numpy()
    assert (image[DEEP < 400] == 0).all()
    assert (image[DEEP >= 400] > 0).all()


@pytest.mark.parametrize("axes", ["CYX", "ZCYX", "TZCYX"])
def test_the_channels_of_a_microscope_are_bands_and_of_all_else_the_first_is_taken(axes):
    shape = (*({"T": 2, "Z": 3, "C": 4}[axis] for axis in axes[:-2]), 21, 33)
    stack = RNG.integers(0, 60_000, shape, dtype=np.uint16)
    first = stack.reshape(-1, 4, 21, 33)[0]
    for kind in ({"ome": True}, {"imagej": True}):
        encoded = tiff(stack, metadata={"axes": axes}, **kind)
        image = decode_image(encoded, LIMIT, levels=Levels((0.0, 59_999.0), (3, 1, 2))).numpy()
        assert np.array_equal(image, scaled(first[[2, 0, 1]].transpose(1, 2, 0), 0, 59_999)), kind


def test_of_several_pages_the_first_is_taken():
    pages = [Image.fromarray(DEEP), Image.fromarray(DEEP[::-1].copy())]
    encoded = image_files.encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    image = decode_image(encoded, LIMIT, levels=Levels((0.0, 4095.0))).numpy()
    assert np.array_equal(image[:, :, 0], scaled(DEEP, 0, 4095))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_once(orientation):
    encoded = tiff(DEEP, extratags=[(274, "H", 1, orientation, True)])
    image = decode_image(encoded, LIMIT, levels=Levels((0.0, 4095.0))).numpy()
    turned = {
        2: np.fliplr(DEEP), 3: np.rot90(DEEP, 2), 4: np.flipud(DEEP), 5: DEEP.T,
        6: np.rot90(DEEP, -1), 7: np.rot90(DEEP.T, 2), 8: np.rot90(DEEP),
    }.get(orientation, DEEP)  # fmt: skip
    assert np.array_equal(image[:, :, 0], scaled(turned, 0, 4095))
    assert image_size(encoded, LIMIT) == turned.shape


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "LAB"])
def test_the_orientation_is_applied_once_whatever_the_colours(mode):
    photo = image_files.photo(40, 30).convert(mode)
    upright = decode_image(image_files.encode(photo, "TIFF"), LIMIT).numpy()
    exif = Image.Exif()
    exif[274] = 6
    encoded = image_files.encode(photo, "TIFF", exif=exif)
    assert np.array_equal(decode_image(encoded, LIMIT).numpy(), np.rot90(upright, -1))
    assert image_size(encoded, LIMIT) == (40, 30)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.7, 0.98])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_a_truncated_file_is_bad_in_one_line(compression, share):
    encoded = tiff(DEEP, compression=compression, rowsperstrip=4)
    with pytest.raises(BadImage) as refusal:
        decode_image(encoded[: int(len(encoded) * share)], LIMIT)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("tag", "written", "damaged"),
    [(320, (3, 768), (3, 48)), (258, (3, 1, 8), (3, 1, 8456))],
    ids=["fewer colours than values", "no such depth"],
)
def test_a_palette_that_does_not_fit_is_a_bad_image(tag, written, damaged):
    def entry(type_: int, count: int, *value: int) -> bytes:
        return struct.pack(f"<HHI{len(value)}I", tag, type_, count, *value)

    encoded = tiff(
        np.full((6, 5), 200, np.uint8),
        photometric="palette",
        colormap=np.zeros((3, 256), np.uint16),
    )
    assert entry(*written) in encoded
    with pytest.raises(BadImage):
        decode_image(encoded.replace(entry(*written), entry(*damaged)), LIMIT)


@pytest.mark.parametrize("photometric", ["minisblack", "palette", "rgb"])
def test_any_changed_byte_gives_a_picture_or_is_bad(photometric):
    colours = {"colormap": np.zeros((3, 256), np.uint16)} if photometric == "palette" else {}
    values = np.zeros((6, 5, 3) if photometric == "rgb" else (6, 5), np.uint8)
    encoded = tiff(values, photometric=photometric, **colours)
    generator = random.Random(0)
    for _ in range(200):
        damaged = bytearray(encoded)
        damaged[generator.randrange(min(300, len(encoded)))] = generator.randrange(256)
        for read in (decode_image, image_size):
            with contextlib.suppress(BadImage):
                read(bytes(damaged), LIMIT)


def test_what_would_not_fit_in_memory_is_refused_by_its_header():
    small = tiff(np.zeros((64, 64), np.uint8), compression="zlib")
    with pytest.raises(BadImage, match=r"64 x 64 pixels are more than data.max_pixels=4095"):
        decode_image(small, 64 * 64 - 1)
    deep = tiff(np.zeros((40, 64, 64)), photometric="minisblack", planarconfig="separate")
    with pytest.raises(BadImage, match=r"64 x 64 pixels of 320 bytes are more than 32 bytes"):
        decode_image(deep, 64 * 64)


def test_complex_numbers_are_no_picture():
    with pytest.raises(BadImage, match="type complex64"):
        decode_image(tiff(np.zeros((8, 8), np.complex64)), LIMIT)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_the_orientation_of_a_bigtiff_is_applied(orientation, byteorder):
    tag = [(274, "H", 1, orientation, True)]
    encoded = tiff(DEEP, extratags=tag, bigtiff=True, byteorder=byteorder)
    image = decode_image(encoded, LIMIT, levels=Levels((0.0, 4095.0))).numpy()
    turned = {3: np.rot90(DEEP, 2), 6: np.rot90(DEEP, -1), 8: np.rot90(DEEP)}.get(orientation, DEEP)
    assert np.array_equal(image[:, :, 0], scaled(turned, 0, 4095))
    assert image_size(encoded, LIMIT) == turned.shape


@pytest.mark.parametrize(
    "dtype", ["uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]
)
def test_no_data_is_found_in_every_type(dtype):
    nodata = 7 if dtype.startswith("u") else -7
    values = np.where(DEEP < 400, nodata, DEEP.astype(int) % 1000 + 10).astype(dtype)
    encoded = tiff(values, extratags=[(42113, "s", 0, str(nodata), True)])
    raster = decode_raster(encoded, LIMIT)
    assert np.array_equal(raster.missing[:, :, 0], DEEP < 400)
    image = decode_image(encoded, LIMIT, levels=Levels((0.0, 1020.0))).numpy()[:, :, 0]
    assert np.array_equal(image, np.where(DEEP < 400, 0, scaled(values, 0, 1020)))


@pytest.mark.parametrize("text", ["-3.4028234663852886e+38", "-3.40282e+38", "nan", "1e+20"])
def test_no_data_as_gdal_prints_it_is_that_of_the_type(text):
    """A float32 is printed with more or with fewer digits than it has."""
    missing = np.float32("nan") if text == "nan" else np.float32(text)
    if text == "-3.40282e+38":
        missing = np.finfo(np.float32).min
    values = np.where(DEEP < 400, missing, DEEP).astype(np.float32)
    encoded = tiff(values, extratags=[(42113, "s", 0, text, True)])
    assert np.array_equal(missing_of(decode_raster(encoded, LIMIT))[:, :, 0], DEEP < 400)
    image = decode_image(encoded, LIMIT, levels=Levels((0.0, 4095.0))).numpy()[:, :, 0]
    assert np.array_equal(image, np.where(DEEP < 400, 0, scaled(DEEP, 0, 4095)))


def test_half_precision_is_mapped_like_single():
    values = (DEEP / 8).astype(np.float16)
    image = decode_image(tiff(values), LIMIT, levels=Levels((10.0, 500.0))).numpy()
    assert np.abs(image[:, :, 0].astype(int) - scaled(values, 10, 500)).max() <= 1


@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:0"])
def test_jpeg_in_a_tiff_is_what_pillow_makes_of_it(chroma):
    photo = np.array(image_files.photo(64, 48))
    subsampling = {"4:4:4": (1, 1), "4:2:0": (2, 2)}[chroma]
    encoded = tiff(
        photo,
        photometric="ycbcr",
        compression="jpeg",
        subsampling=subsampling,
        rowsperstrip=48,
    )
    expected = np.array(Image.open(io.BytesIO(encoded)).convert("RGB")).astype(int)
    assert np.abs(decode_image(encoded, LIMIT).numpy() - expected).mean() < 1


@pytest.mark.parametrize("bits", [1, 2, 4, 12, 14])
def test_bits_that_fill_no_byte(bits):
    values = (DEEP % (1 << bits)).astype(np.uint8 if bits <= 8 else np.uint16)
    one = {"photometric": "minisblack"}
    encoded = tiff(values.astype(bool), **one) if bits == 1 else tiff(values, bitspersample=bits)
    read = tifffile.imread(io.BytesIO(encoded)).astype(np.float64)
    image = decode_image(encoded, LIMIT).numpy()[:, :, 0]
    assert np.array_equal(image, scaled(read, 0, (1 << bits) - 1))
