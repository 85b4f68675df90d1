import pytest

from cp2fast.data.decoding.jpeg import is_intact, read_header
from tests.data import image_files


@pytest.mark.parametrize(
    ("name", "components", "common"),
    [
        ("4:2:0", 3, True),
        ("progressive", 3, True),
        ("restart markers", 3, True),
        ("grey", 1, True),
        ("YCCK", 4, False),
        ("CMYK without Adobe marker", 4, False),
    ],
)
def test_the_header_tells_size_and_kind(name, components, common):
    header = read_header(image_files.jpeg_files()[name])
    assert (header.height, header.width) == (61, 83)
    assert header.components == components
    assert header.is_common == common


@pytest.mark.parametrize("name", image_files.jpeg_files())
def test_a_whole_jpeg_is_intact(name):
    encoded = image_files.jpeg_files()[name]
    assert is_intact(encoded, read_header(encoded))
    assert is_intact(encoded + b"\0 some camera's trailer", read_header(encoded))


@pytest.mark.parametrize(
    "name",
    ["truncated_early", "truncated_half", "truncated_late", "marker_in_the_middle"],
)
def test_damage_in_the_scan_shows(name):
    encoded = image_files.bad_files()[f"{name}.jpg"]
    assert not is_intact(encoded, read_header(encoded))


def test_a_thumbnail_does_not_pass_for_the_end():
    thumbnail = image_files.encode(image_files.photo(16, 16), "JPEG")
    encoded = image_files.encode(image_files.photo(90, 60), "JPEG")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2) + thumbnail
    with_thumbnail = encoded[:2] + segment + encoded[2:]
    assert is_intact(with_thumbnail, read_header(with_thumbnail))
    truncated = with_thumbnail[:-40]
    assert not is_intact(truncated, read_header(truncated))


@pytest.mark.parametrize(
    "name", ["signature_only.jpg", "header_only.jpg", "half_header.jpg", "no_such_size.jpg"]
)
def test_a_broken_header_is_none(name):
    assert read_header(image_files.bad_files()[name]) is None
