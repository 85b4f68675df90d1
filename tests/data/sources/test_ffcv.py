"""FFCV, where it is installed, reads the .beton files of ours, and we read its."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cp2fast.config import DataSettings
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.choice import choose_source
from cp2fast.data.sources.open import open_source
from tests.data import betons, image_files
from tests.processes import Process

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    """FFCV sets torch's thread count for the whole process; other tests depend on it."""
    before = torch.get_num_threads()
    pytest.importorskip("ffcv", reason="apt-get install libopencv-dev libturbojpeg0-dev pkg-config")
    yield
    torch.set_num_threads(before)


class Pictures:
    """Label, picture, name."""

    def __init__(self, count: int = 40) -> None:
        self.pictures = [
            np.array(image_files.photo(30 + 3 * i, 90 - 2 * i, seed=i)) for i in range(count)
        ]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, number: int) -> tuple[int, np.ndarray, np.ndarray, float]:
        name = np.frombuffer(b"n" * (number % 3), np.uint8)  # Some are empty.
        return number, name, self.pictures[number], 0.5


def decode(images: ImageSet, source: str, tmp_path: Path) -> list[torch.Tensor]:
    settings = DataSettings(source=source, workers=2)
    numbers = iter(np.arange(len(images)).reshape(4, -1))
    choice = choose_source(settings, images, CPU)
    bad = BadImages(tmp_path / "run", max_fraction=0)
    batches = open_source(choice, settings, images, numbers, 0, CPU, bad)
    return [batch.image(i).clone() for batch in batches for i in range(len(batch))]


@pytest.mark.parametrize("mode", ["raw", "jpg", "proportion"])
def test_what_ffcv_writes_every_source_reads(mode: str, tmp_path: Path) -> None:
    from ffcv.fields import BytesField, FloatField, IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    pictures, path = Pictures(), tmp_path / "pictures.beton"
    fields = {
        "label": IntField(),
        "name": BytesField(),
        "image": RGBImageField(write_mode=mode, jpeg_quality=95),
        "weight": FloatField(),
    }
    DatasetWriter(str(path), fields, num_workers=2).from_indexed_dataset(pictures, chunksize=7)
    images = list_images(path)
    decoded = {source: decode(images, source, tmp_path) for source in ("ffcv", "torch", "dali")}
    for number, picture in enumerate(pictures.pictures):
        image = decoded["ffcv"][number]
        expected = image_files.as_pillow_reads(images.read(number))
        assert np.array_equal(image.numpy(), expected)
        assert image.shape == picture.shape
        assert np.abs(image.numpy().astype(int) - picture).mean() < (6 if mode != "raw" else 1e-9)
        assert torch.equal(image, decoded["torch"][number])
        assert torch.equal(image, decoded["dali"][number])


@pytest.mark.parametrize("os_cache", [True, False])
def test_what_we_write_plain_ffcv_reads(os_cache: bool, tmp_path: Path) -> None:
    from ffcv.fields.rgb_image import SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption

    photos = [image_files.photo(400, 300, seed=i) for i in range(40)]
    packed = [
        betons.PackedJpeg(image_files.encode(photo, "JPEG", quality=100, subsampling=0), 300, 400)
        for photo in photos
    ]
    path = betons.write_beton(tmp_path / "ours.beton", packed)
    assert path.stat().st_size > 3 * (1 << 21)  # Several pages.
    loader = Loader(
        str(path),
        batch_size=8,
        num_workers=1,
        order=OrderOption.SEQUENTIAL,
        os_cache=os_cache,
        pipelines={"image": [SimpleRGBImageDecoder()]},
    )
    read = np.concatenate([np.array(batch) for (batch,) in loader])
    assert read.shape == (40, 300, 400, 3)
    for image, ours in zip(read, packed, strict=True):
        expected = image_files.as_pillow_reads(ours.encoded)
        # FFCV takes the fast inverse DCT; two different photos differ by 80.
        assert np.abs(image.astype(int) - expected).mean() < 4


def test_our_source_needs_no_ffcv_and_leaves_torchs_threads_alone(tmp_path: Path) -> None:
    path = betons.write_beton(tmp_path / "ours.beton", betons.photos(4))
    script = """
import sys, torch
from pathlib import Path
import numpy as np
from cp2fast.config import DataSettings
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.sources.choice import choose_source
from cp2fast.data.sources.open import open_source
torch.set_num_threads(2)
images, settings, cpu = list_images(Path(sys.argv[1])), DataSettings(), torch.device("cpu")
choice = choose_source(settings, images, cpu)
bad = BadImages(Path(sys.argv[1] + ".run"), 0)
(batch,) = open_source(choice, settings, images, iter([np.arange(4)]), 0, cpu, bad)
print(choice.name, len(batch), torch.get_num_threads(), "ffcv" in sys.modules)
"""
    output, errors = Process(path, script=script).communicate()
    assert output.strip() == "turbo 4 2 False", errors
