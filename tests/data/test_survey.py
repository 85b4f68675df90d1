"""The range that data.range=auto comes to, and what is refused before a run begins."""

import numpy as np
import pytest

from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.survey import SAMPLE, candidates, find_range, survey
from cp2fast.errors import UserError
from tests.data import image_files
from tests.data.decoding.decoders.test_deep import numpy_file
from tests.data.dicom_files import x_ray
from tests.data.picture_sets import aerial, phone, tile, x_rays

LIMIT = 10**6
BANDS = (4, 3, 2)


def test_the_range_is_the_1st_to_the_99th_percentile_without_what_is_no_data(tmp_path):
    images = list_images(aerial(tmp_path))
    values = np.concatenate([tile(number)[:, :, [3, 2, 1]].ravel() for number in range(8)])
    low, high = np.percentile(values[values > 0], (1, 99))
    found, line = find_range(images, "auto", BANDS, LIMIT, threads=2)
    assert found == pytest.approx((low, high), abs=25)  # of a sample of each tile's pixels
    assert found[0].is_integer()
    assert line == (
        "range: the 1st to the 99th percentile of 8 images becomes 0 to 255 "
        f"(data.range=[{found[0]:.0f},{found[1]:.0f}])"
    )


def test_the_range_is_that_of_the_data_set_whatever_reads_it(tmp_path):
    first, again = list_images(x_rays(tmp_path / "a")), list_images(x_rays(tmp_path / "b"))
    found = survey(first, None, LIMIT, threads=1)
    assert found == survey(again, None, LIMIT, threads=3)
    values = np.concatenate([x_ray(80, 64, number).ravel() for number in range(8)])
    assert found.range == pytest.approx(np.percentile(values, (1, 99)), abs=25)
    assert found.wide == 8


def test_floats_and_nan(tmp_path):
    values = np.linspace(-3, 7, 10_000, dtype=np.float32).reshape(100, 100)
    values[:10] = np.nan
    (tmp_path / "a.npy").write_bytes(numpy_file(values))
    low, high = survey(list_images(tmp_path), None, LIMIT, threads=1).range
    assert (low, high) == pytest.approx((-1.91, 6.91), abs=0.02)


def test_where_all_have_eight_bits_nothing_is_found_and_nothing_decoded(tmp_path):
    phone(tmp_path / "phone")
    for number in range(4):
        image_files.photo(20, 20).save(tmp_path / "phone" / f"{number}.png")
    images = list_images(tmp_path / "phone")
    assert find_range(images, "auto", None, LIMIT, threads=1) == ("auto", "")
    names = {images.name(number) for number in candidates(images)}
    assert names == {str(tmp_path / "phone" / f"{number}.png") for number in range(4)}


def test_what_was_set_is_kept(tmp_path):
    images = list_images(x_rays(tmp_path, 3))
    assert find_range(images, "type", None, LIMIT, threads=1) == ("type", "")
    assert find_range(images, (0.0, 99.0), None, LIMIT, threads=1) == ((0.0, 99.0), "")


def test_values_that_are_all_alike_have_no_range(tmp_path):
    (tmp_path / "a.npy").write_bytes(numpy_file(np.full((9, 9), 300, np.uint16)))
    assert find_range(list_images(tmp_path), "auto", None, LIMIT, threads=1) == ("auto", "")


@pytest.mark.parametrize(
    ("bands", "reason"),
    [
        (None, r"tile_\d.TIF: 13 bands: choose three with data.bands"),
        ((1, 2, 14), r"tile_\d.TIF: 13 bands, and data.bands asks for number 14"),
    ],
)
@pytest.mark.parametrize("range_", ["auto", "type"])
def test_bands_that_must_be_chosen_are_refused_before_the_run(tmp_path, bands, reason, range_):
    images = list_images(aerial(tmp_path, 3))
    with pytest.raises(UserError, match=reason):
        find_range(images, range_, bands, LIMIT, threads=1)


def test_a_few_tiles_of_too_few_bands_are_bad_images_and_end_nothing(tmp_path):
    aerial(tmp_path, 3)
    (tmp_path / "grey.npy").write_bytes(numpy_file(np.zeros((9, 9), np.uint16)))
    found, _ = find_range(list_images(tmp_path), "auto", BANDS, LIMIT, threads=1)
    assert found[1] > 1000


def test_broken_files_are_passed_over(tmp_path):
    x_rays(tmp_path, 3)
    (tmp_path / "broken.dcm").write_bytes(b"none")
    assert survey(list_images(tmp_path), None, LIMIT, threads=1).sampled == 3


def test_no_more_than_a_sample_is_looked_at(tmp_path):
    for number in range(SAMPLE + 20):
        (tmp_path / f"{number}.npy").write_bytes(numpy_file(np.full((3, 3), number, np.uint16)))
    assert survey(list_images(tmp_path), None, LIMIT, threads=1).sampled == SAMPLE
