"""Which bands doctor proposes, and the statistics of what they show."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cp2fast.config import PretrainSettings
from cp2fast.data.decoding.decode import decode_raster
from cp2fast.data.decoding.levels import Levels
from cp2fast.data.decoding.raster import BYTE, Raster
from cp2fast.data.image_sets.listing import list_images
from cp2fast.inspection.proposal import Proposal, propose, propose_bands, statistics

NAMES = {
    "colours": (["Blue", "Green", "Red", "NIR", "Undefined"], (3, 2, 1)),
    "Sentinel-2's": ([f"B{n:02}" for n in range(1, 14)], (4, 3, 2)),
    "a sentence": (["Band 5 - red", "Band 3 - green", "Band 1 - blue", "mask"], (1, 2, 3)),
}


def bands(count, names=()):
    values = np.zeros((4, 4, count), np.uint16)
    return Raster(values, (0.0, 65535.0), None, has_bands=True, names=tuple(names))


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("role", ["description", "colorinterp"])
def test_bands_that_gdal_has_named_are_found_by_their_names(kind, role):
    names, expected = NAMES[kind]
    items = (
        f'<Item name="X" sample="{place}" role="{role}">{name}</Item>'
        for place, name in enumerate(names)
    )
    text = f"<GDALMetadata>{''.join(items)}</GDALMetadata>"
    file = io.BytesIO()
    values = np.zeros((8, 9, len(names)), np.uint16)
    tag = (42112, "s", 0, text, True)
    tifffile.imwrite(file, values, photometric="minisblack", planarconfig="contig", extratags=[tag])
    raster = decode_raster(file.getvalue(), 1000)
    assert raster.names == tuple(names)
    assert propose_bands([raster])[:2] == (expected, "as the file names them")


def test_bands_without_names_are_guessed_by_their_number_and_said_to_be():
    assert propose_bands([bands(13)] * 3 + [bands(4)])[0] == (4, 3, 2)
    assert propose_bands([bands(8)])[0] == (5, 3, 2)
    assert propose_bands([bands(2)])[0] == (1,)
    for count in range(2, 40):
        chosen, reason, _ = propose_bands([bands(count)])
        assert max(chosen) <= count
        assert reason.startswith("a guess by their number")


def test_the_files_without_names_are_told_from_those_that_say_what_is_the_picture():
    picture = Raster(np.zeros((4, 4, 3), np.uint8), BYTE, 3)
    chosen, _, kind = propose_bands([picture] * 4 + [bands(4)] * 3 + [bands(13)])
    assert (chosen, kind) == ((1, 2, 3), "uint16, 4 bands")


def test_files_that_say_what_is_the_picture_need_no_proposal():
    grey = bands(1)._replace(colours=1)
    assert propose_bands([grey]) == (None, "", "")
    assert propose_bands([]) == (None, "", "")


def test_mean_and_deviation_are_those_of_the_pixels_with_data():
    values = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    missing = np.zeros((30, 40, 1), bool)
    missing[:7] = True
    mean, std = statistics([Raster(values, BYTE, 3, missing=missing)], Levels())
    left = values[7:].reshape(-1, 3) / 255
    assert mean == pytest.approx(left.mean(axis=0), abs=6e-4)
    assert std == pytest.approx(left.std(axis=0), abs=6e-4)


def test_a_deviation_is_never_nothing():
    _, std = statistics([Raster(np.full((4, 4, 1), 9, np.uint8), BYTE, 1)], Levels())
    assert std == (0.001,) * 3
    assert statistics([], Levels()) == (None, None)


def proposal_of(root: Path) -> Proposal:
    return propose(list_images(root), PretrainSettings())


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_few_pngs_among_jpegs_do_not_decide_mean_and_deviation(tmp_path: Path, depth: type):
    for number in range(30):
        Image.new("RGB", (32, 24), (200, 200, 200)).save(tmp_path / f"{number}.jpg")
    dark = np.arange(24 * 32, dtype=depth).reshape(24, 32) // 100
    for number in range(3):
        Image.fromarray(dark).save(tmp_path / f"dark {number}.png")
    found = proposal_of(tmp_path)
    assert found.mean is not None
    assert found.mean == pytest.approx([30 / 33 * 200 / 255] * 3, abs=0.05)
    assert sum(found.values.values()) == 33


def test_range_and_bands_are_those_of_few_deep_images_among_many(tmp_path: Path):
    for number in range(600):
        Image.new("RGB", (16, 16), "grey").save(tmp_path / f"{number:03}.jpg")
    values = np.full((16, 16, 13), 900, np.uint16) + np.arange(13, dtype=np.uint16)
    file = tmp_path / "deep.tif"
    tifffile.imwrite(file, values, photometric="minisblack", planarconfig="contig")
    found = proposal_of(tmp_path)
    assert found.range == (901.0, 903.0)
    assert found.bands == (4, 3, 2)
    assert found.mean == pytest.approx([128 / 255] * 3, abs=0.02)
