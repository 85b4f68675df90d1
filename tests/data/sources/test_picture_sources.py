"""Every source, from a folder and from shards, gives the same pixels of every kind of image."""

import tarfile

import numpy as np
import pytest
import torch

from cp2fast.config import DataSettings
from cp2fast.data.decoding.decode import decode_image
from cp2fast.data.decoding.levels import Levels
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.choice import choose_source
from cp2fast.data.sources.open import open_source
from tests.data import image_files
from tests.data.picture_sets import aerial, phone, x_rays

CPU = torch.device("cpu")
DATA = DataSettings(range=(100.0, 3000.0), bands=(4, 3, 2), workers=1, cache="off")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    aerial(root, 2)
    x_rays(root, 2)
    phone(root, 2)
    image_files.photo(30, 40).save(root / "photo.jpg")
    for kind in ("jp2", "avif", "ppm", "gif", "bmp", "jfif"):
        image_files.photo(30, 40).save(root / f"photo.{kind}", None if kind != "jfif" else "JPEG")
    return root


@pytest.fixture(scope="module")
def shard(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("shard") / "0.tar"
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, file.name)
    return path


@pytest.mark.parametrize("source", ["turbo", "dali", "torch"])
@pytest.mark.parametrize("place", ["folder", "shard"])
def test_all_sources_agree(source, place, request, tmp_path):
    images = list_images(request.getfixturevalue(place))
    assert len(images) == 13
    data = DATA.model_copy(update={"source": source})
    numbers = np.arange(len(images))
    bad = BadImages(tmp_path, 0)
    choice = choose_source(data, images, CPU)
    (batch,) = open_source(choice, data, images, iter([numbers]), 0, CPU, bad)
    assert bad.bad == 0
    levels = Levels.of(data.range, data.bands)
    for number in range(len(images)):
        expected = decode_image(images.read(number), data.max_pixels, levels=levels)
        assert torch.equal(batch.image(number), expected), images.name(number)
