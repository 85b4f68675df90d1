"""Vectors of photos: from a run, written, compared."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from cp2fast import load
from cp2fast.data.decoding.levels import Levels
from cp2fast.data.image_sets.listing import list_images
from cp2fast.probe.embed import Embedded, draw_neighbours, embed, nearest, write
from tests.data.image_files import photo
from tests.servers import S3
from tests.weights.export.trained_networks import save_pretraining


def test_photos_have_unit_vectors_and_those_that_cannot_be_read_are_left_out(
    tmp_path: Path,
) -> None:
    save_pretraining(tmp_path / "run")
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(2):
        photo(40, 60, number).save(photos / f"{number}.png")
    Image.open(photos / "0.png").save(photos / "same.png")
    (photos / "bad.jpg").write_bytes(b"<html>")
    found = embed(tmp_path / "run", str(photos))
    assert [Path(name).name for name in found.names] == ["0.png", "1.png", "same.png"]
    cosines = found.vectors @ found.vectors.T
    np.testing.assert_allclose(np.diag(cosines), 1, rtol=1e-5)
    np.testing.assert_allclose(cosines[0, 2], 1, rtol=1e-5)
    assert cosines[0, 1] < 0.9999
    [(name, reason)] = found.left_out
    assert Path(name).name == "bad.jpg"
    assert "HTML" in reason
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "run"]


def test_a_vector_is_the_direction_of_the_mean_of_unit_vectors(tmp_path: Path) -> None:
    """Of a photo whose short side is the run's ``model.size``."""
    network = load(save_pretraining(tmp_path / "run"))
    (tmp_path / "photos").mkdir()
    photo(96, 64, 0).save(tmp_path / "photos/0.png")
    with Image.open(tmp_path / "photos/0.png") as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (network.mean, network.std))
    with torch.no_grad():
        dense = network.embed((pixels - mean) / std)
    expected = F.normalize(F.normalize(dense, dim=1).mean(dim=(2, 3)), dim=1)
    found = embed(tmp_path / "run", str(tmp_path / "photos")).vectors
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.slow
def test_photos_at_a_url_have_the_vectors_of_the_folder(s3: S3, tmp_path: Path) -> None:
    save_pretraining(tmp_path / "run")
    (tmp_path / "photos").mkdir()
    for number in range(2):
        photo(40, 60, number).save(tmp_path / f"photos/{number}.png")
    here = embed(tmp_path / "run", str(tmp_path / "photos"))
    there = embed(tmp_path / "run", s3.upload(tmp_path / "photos", "to-embed"))
    np.testing.assert_array_equal(there.vectors, here.vectors)


def test_the_nearest_are_those_of_the_largest_cosine_without_oneself() -> None:
    angles = np.radians([0, 10, 25, 90])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert nearest(vectors, range(4), 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert nearest(vectors, [3, 1], 2).tolist() == [[2, 1], [0, 2]]
    assert nearest(vectors, range(4), 9).shape == (4, 3)


def test_a_photo_that_is_gone_when_neighbours_are_drawn_is_grey(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (40, 60), "red").save(tmp_path / f"{number}.png")
    images = list_images(tmp_path)
    (tmp_path / "1.png").unlink()
    found = Embedded([0, 1, 2], ["0", "1", "2"], np.eye(3, dtype=np.float32))
    draw_neighbours(found, images, Levels(), tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as drawn:
        pixels = np.array(drawn.convert("RGB"))
    red, grey = ((pixels == colour).all(axis=2).sum() for colour in ((255, 0, 0), (128,) * 3))
    assert red > grey > 1000


def test_parquet_holds_names_and_vectors_and_bytes_that_are_no_text_as_escapes(
    tmp_path: Path,
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    vectors = np.eye(3, dtype=np.float32)
    names = ["a", "ü", os.fsdecode(b"b\xff")]
    write(Embedded([0, 1, 2], names, vectors), tmp_path / "v.parquet")
    table = parquet.read_table(tmp_path / "v.parquet")
    assert table["name"].to_pylist() == ["a", "ü", r"b\udcff"]
    write(Embedded([0, 1, 2], names, vectors), tmp_path / "v.npz")
    assert np.load(tmp_path / "v.npz")["names"].tolist() == names
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist()), vectors)
