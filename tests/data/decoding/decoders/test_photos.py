"""The formats of photos, beside what Pillow and pillow-heif read of the same file."""

import io

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps

from cp2fast.data.decoding.decode import BadImage, decode_image, image_size
from cp2fast.data.decoding.levels import Levels
from tests.data import image_files

LIMIT = 10**6
PHOTO = image_files.photo(64, 48)
KINDS = {"AVIF": {"quality": 90}, "JPEG2000": {}, "PPM": {}, "BMP": {}, "GIF": {}, "WEBP": {}}


def heic(image, **options):
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=95, chroma=444, **options)
    return file.getvalue()


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def upright(image, orientation):
    turned = image.copy()
    turned.getexif()[0x0112] = orientation
    return np.array(ImageOps.exif_transpose(turned))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_pillow_reads(kind, mode):
    encoded = image_files.encode(PHOTO.convert(mode), kind, **KINDS[kind])
    expected = np.array(Image.open(io.BytesIO(encoded)).convert("RGB"))
    assert np.array_equal(decode_image(encoded, LIMIT, levels=Levels((9.0, 99.0), (3,))), expected)
    assert image_size(encoded, LIMIT) == expected.shape[:2]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_heic_is_what_pillow_heif_reads(mode):
    encoded = heic(PHOTO.convert(mode))
    expected = pillow_heif.open_heif(encoded).to_pillow().convert("RGB")
    assert np.array_equal(decode_image(encoded, LIMIT).numpy(), np.array(expected))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_a_photo_that_its_container_turns_is_turned_once(kind, orientation):
    """Both writers put an Exif orientation into the container; both are lossy."""
    if kind == "HEIC":
        encoded = heic(PHOTO, exif=exif(orientation))
    else:
        encoded = image_files.encode(PHOTO, "AVIF", quality=90, exif=exif(orientation))
    turned = upright(PHOTO, orientation)
    image = decode_image(encoded, LIMIT).numpy()
    assert image.shape == turned.shape
    assert np.abs(image.astype(int) - turned).mean() < 6
    assert image_size(encoded, LIMIT) == turned.shape[:2]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["HEIC", "AVIF", "JPEG2000", "PPM", "BMP"])
def test_a_truncated_file_is_bad_in_one_line(kind, share):
    encoded = heic(PHOTO) if kind == "HEIC" else image_files.encode(PHOTO, kind)
    with pytest.raises(BadImage) as refusal:
        decode_image(encoded[: int(len(encoded) * share)], LIMIT)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["HEIC", "AVIF", "JPEG2000", "PPM", "BMP", "GIF"])
def test_the_size_is_checked_before_decoding(kind):
    encoded = heic(PHOTO) if kind == "HEIC" else image_files.encode(PHOTO, kind)
    with pytest.raises(BadImage, match=r"64 x 48 pixels are more than data.max_pixels=3071"):
        decode_image(encoded, 64 * 48 - 1)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_of_an_animation_the_first_frame_is_taken(kind):
    frames = [image_files.photo(64, 48, seed=seed) for seed in range(3)]
    options = {"save_all": True, "append_images": frames[1:], "duration": 50}
    encoded = image_files.encode(frames[0], kind, **options)
    with Image.open(io.BytesIO(encoded)) as image:
        assert image.n_frames == 3
        image.seek(0)
        expected = np.array(image.convert("RGB"))
    assert np.array_equal(decode_image(encoded, LIMIT).numpy(), expected)
