import numpy as np
import pytest
import torch

from cp2fast.data.decode import BadImage, decode_image, read_image
from cp2fast.data.images import ImageSet
from tests.data import image_files

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
        read_image(ImageSet.of_files([tmp_path / "folder.jpg"]), 0)
    with pytest.raises(BadImage, match="cannot be read: No such file"):
        read_image(ImageSet.of_files([tmp_path / "dangling.jpg"]), 0)
