"""FFCV, where it is installed, works with the rest of the environment."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cp2fast.data.source import available_sources

problem = available_sources()["ffcv"]
if problem:
    pytest.skip(problem, allow_module_level=True)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """FFCV sets torch's thread count for the whole process; other tests depend on it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Pictures:
    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.pictures = [random.integers(0, 256, (5 + i, 9, 3), np.uint8) for i in range(4)]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, number: int) -> tuple[np.ndarray]:
        return (self.pictures[number],)


def test_looking_for_it_leaves_torchs_threads_alone() -> None:
    script = """
import torch
from cp2fast.data.source import available_sources
torch.set_num_threads(2)
assert available_sources()["ffcv"] is None
print(torch.get_num_threads())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "2", done.stderr


def test_what_it_writes_it_reads_back(tmp_path: Path) -> None:
    from ffcv.fields import RGBImageField
    from ffcv.fields.rgb_image import CenterCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.writer import DatasetWriter

    pictures, beton = Pictures(), tmp_path / "pictures.beton"
    fields = {"image": RGBImageField(write_mode="raw")}
    DatasetWriter(str(beton), fields, num_workers=1).from_indexed_dataset(pictures)
    loader = Loader(
        str(beton),
        batch_size=2,
        num_workers=1,
        order=OrderOption.SEQUENTIAL,
        pipelines={"image": [CenterCropRGBImageDecoder((5, 5), ratio=1.0)]},
    )
    read = np.concatenate([np.array(batch) for (batch,) in loader])
    assert read.shape == (4, 5, 5, 3)
    assert np.abs(read[0].astype(int) - pictures.pictures[0][:, 2:7]).max() == 0
