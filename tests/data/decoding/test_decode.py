import io
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from cp2fast.data.decoding.decode import BadImage, decode_image
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.packing.packed_jpeg import JpegSettings, pack_jpeg
from tests.data import image_files, metadata

LIMIT = 1_000_000


@pytest.mark.parametrize("name", image_files.jpeg_files() | image_files.other_files())
def test_every_format_reads_as_pillow_reads_it(name):
    encoded = (image_files.jpeg_files() | image_files.other_files())[name]
    image = decode_image(encoded, LIMIT)
    expected = image_files.as_pillow_reads(encoded)
    assert image.dtype == torch.uint8
    assert image.is_contiguous()
    assert image.shape == expected.shape
    assert np.abs(image.numpy().astype(int) - expected).max() <= 1


@pytest.mark.parametrize("name", image_files.sixteen_bit_files())
def test_sixteen_bits_are_scaled_to_eight(name):
    encoded, expected = image_files.sixteen_bit_files()[name]
    assert np.array_equal(decode_image(encoded, LIMIT).numpy(), expected)


def test_the_orientation_turns_the_image():
    upright = decode_image(image_files.jpeg_files()["exif 1"], LIMIT)
    turned = decode_image(image_files.jpeg_files()["exif 6"], LIMIT)
    assert turned.shape == (upright.shape[1], upright.shape[0], 3)
    assert torch.equal(turned, upright.rot90(-1, (0, 1)))


@pytest.mark.parametrize("name", image_files.bad_files())
def test_a_bad_file_is_refused_with_one_line(name):
    with pytest.raises(BadImage) as refusal:
        decode_image(image_files.bad_files()[name], LIMIT)
    reason = str(refusal.value)
    assert reason
    assert len(reason.splitlines()) == 1
    assert "0x7f" not in reason  # no addresses: the same file gives the same reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_size_is_checked_before_decoding(kind):
    encoded = image_files.encode(image_files.photo(40, 30), kind)
    assert decode_image(encoded, 40 * 30).shape == (30, 40, 3)
    header_alone = encoded if kind == "WEBP" else encoded[: len(encoded) - 20]
    with pytest.raises(BadImage, match=r"40 x 30 pixels are more than data.max_pixels=1199"):
        decode_image(header_alone, 40 * 30 - 1)


def test_a_side_beyond_what_the_op_can_place_is_refused():
    long = io.BytesIO()
    Image.new("1", (2**23 + 1, 1)).save(long, "PNG")
    with pytest.raises(BadImage, match="8388609 x 1 pixels: a side may have 8388608"):
        decode_image(long.getvalue(), 10**9)


@pytest.mark.parametrize("share", np.linspace(0.05, 0.999, 25))
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_truncated_anywhere_is_refused(progressive, share):
    encoded = image_files.encode(image_files.photo(120, 90), "JPEG", progressive=progressive)
    with pytest.raises(BadImage):
        decode_image(encoded[: int(len(encoded) * share)], LIMIT)


def test_a_file_that_cannot_be_read_is_bad(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadImage, match="cannot be read: Is a directory"):
        ImageSet.of_files([tmp_path / "folder.jpg"]).read(0)
    with pytest.raises(BadImage, match="cannot be read: No such file"):
        ImageSet.of_files([tmp_path / "dangling.jpg"]).read(0)


PHOTO = image_files.photo(40, 30)
JPEG, PNG = image_files.encode(PHOTO, "JPEG"), image_files.encode(PHOTO, "PNG")
LONG = zlib.compress(b"a" * (2 << 20))
PROFILE = b"Raw profile type exif\0"

CHUNKS = {
    "a long compressed text": metadata.chunk(b"zTXt", b"Comment\0\0" + LONG),
    "a long international text": metadata.chunk(b"iTXt", b"Comment\0\1\0\0\0" + LONG),
    "a long profile": metadata.chunk(b"iCCP", b"prof\0\0" + LONG),
    "a long plain text": metadata.chunk(b"tEXt", b"Comment\0" + b"a" * (2 << 20)),
    "seventy texts": metadata.chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * (1 << 20))) * 70,
    "a profile that is none": metadata.chunk(b"iCCP", b"x\0\0notzlib"),
    "a text that is none": metadata.chunk(b"iTXt", b"k\0\1\0\0\0notzlib"),
    "a short gamma": metadata.chunk(b"gAMA", b"\0"),
    "a short resolution": metadata.chunk(b"pHYs", b"\0" * 3),
    "a short transparency": metadata.chunk(b"tRNS", b"\0"),
    "a wrong checksum": metadata.chunk(b"tIME", b"\7\xe0\1\1\1\1\1")[:-4] + bytes(4),
    "no hexadecimal": metadata.chunk(b"tEXt", PROFILE + b"\nexif\n  20\nzzzz\n"),
    "four bytes of Exif": metadata.chunk(b"eXIf", b"II*\0"),
    "garbage for Exif": metadata.chunk(b"eXIf", b"\x99" * 60),
}


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_no_chunk_beside_the_pixels_makes_a_png_bad(chunk, before):
    encoded = metadata.in_png(PNG, CHUNKS[chunk], before=before)
    assert np.array_equal(decode_image(encoded, LIMIT), np.array(PHOTO))


SEGMENTS = {
    "a short Adobe segment": metadata.segment(0xEE, b"Adobe\0"),
    "a short JFIF segment": metadata.segment(0xE0, b"JFIF\0"),
    "a broken Photoshop segment": metadata.segment(0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\xff"),
    "a broken multi-picture segment": metadata.segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff"),
    "profiles out of order": metadata.segment(0xE2, b"ICC_PROFILE\0\5\2abc"),
    "XMP that is no text": metadata.xmp_segment(metadata.xmp(1, b"caf\xa8")),
    "two Exif segments": metadata.exif_segment(metadata.turned(1)) * 2,
    "a segment without length": b"\xff\xe5\0\0",
    "fill bytes": b"\xff" * 7,
}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("segment", SEGMENTS)
def test_no_segment_beside_the_pixels_makes_a_jpeg_bad(segment, mode):
    plain = image_files.encode(PHOTO.convert(mode), "JPEG")
    for keep in (None, JpegSettings(None, 90, keep_bytes=True, max_pixels=LIMIT)):
        encoded = metadata.in_jpeg(plain, SEGMENTS[segment])
        if keep is not None:
            packed = pack_jpeg(encoded, keep).encoded
            assert packed == encoded or mode != "RGB"
        assert torch.equal(decode_image(encoded, LIMIT), decode_image(plain, LIMIT))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (image_files.bad_files()["twelve_bits.jpg"], "a JPEG image of 12 bits a channel"),
        (b"\xff\x0a" + bytes(50), "a JPEG XL image"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), "a JPEG 2000 image"),
        (b"\0\0\0\x1cftypheic" + bytes(50), "a HEIC image"),
        (b"<!DOCTYPE html><title>404", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer"),
        (bytes(600), "a file of zeros"),
        (b"", "empty file"),
    ],
)
def test_what_is_no_image_is_named(content, kind):
    with pytest.raises(BadImage, match=kind):
        decode_image(content, LIMIT)
