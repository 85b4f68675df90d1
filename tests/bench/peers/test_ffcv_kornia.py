"""FFCV's loader with kornia composes pairs without end, and leaves the process as it was."""

import sys
import threading
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from cp2fast.bench.peers import ffcv_kornia
from cp2fast.config import IMAGENET_STD
from cp2fast.data.image_sets.listing import list_images

SIZE = 32
CPU = torch.device("cpu")
needs_ffcv = pytest.mark.skipif(
    find_spec("ffcv") is None, reason="apt-get install libopencv-dev libturbojpeg0-dev pkg-config"
)


class Pictures:
    """Eight labelled pictures of many sizes: three checkered, the others grey."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, number: int) -> tuple[int, np.ndarray]:
        y, x = np.indices((40 + 3 * number, 80 - 5 * number)) // 8
        grey = 255 * ((x + y) % 2) if number < 3 else np.full_like(x, 127)
        return number, np.repeat(grey[..., None], 3, 2).astype(np.uint8)


def checkered(images: torch.Tensor, where: torch.Tensor) -> list[bool]:
    """Whether the pixels of each image that ``where`` says are checkered, of whatever colour."""
    pixels = images * torch.tensor(IMAGENET_STD)[:, None, None]
    return [
        bool(image[:, chosen].std(1).max() > 1e-4)
        for image, chosen in zip(pixels, where, strict=True)
    ]


@needs_ffcv
def test_pairs_of_what_ffcv_wrote_epoch_after_epoch(tmp_path) -> None:
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    path, threads = tmp_path / "pictures.beton", torch.get_num_threads()
    fields = {"label": IntField(), "picture": RGBImageField(write_mode="jpg")}
    DatasetWriter(str(path), fields, num_workers=1).from_indexed_dataset(Pictures())
    torch.set_num_threads(3)
    try:
        composed = ffcv_kornia.composed(list_images(path), 4, SIZE, 1, CPU)
        for _ in range(3):
            found = 0
            for _ in range(2):
                query, key, query_mask, key_mask = next(composed)
                assert torch.get_num_threads() == 3
                assert query.shape == key.shape == (4, 3, SIZE, SIZE)
                foreground = checkered(query, query_mask)
                assert checkered(key, key_mask) == foreground
                assert checkered(query, ~query_mask) == foreground[-1:] + foreground[:-1]
                assert checkered(key, ~key_mask) == foreground[-2:] + foreground[:-2]
                found += sum(foreground)
            assert found == 3  # each picture once an epoch
        composed.close()
    finally:
        torch.set_num_threads(threads)
    assert "EpochIterator" not in {type(thread).__name__ for thread in threading.enumerate()}


def test_a_missing_or_broken_ffcv_is_named_with_the_line_that_fixes_it(
    tmp_path, monkeypatch
) -> None:
    with monkeypatch.context() as hidden:
        hidden.setitem(sys.modules, "ffcv", None)
        assert "not installed: apt-get install" in ffcv_kornia.problem()
    (tmp_path / "ffcv.py").write_text("raise ImportError('libopencv_core.so: no such file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    said = ffcv_kornia.problem()
    assert "broken (ImportError: libopencv_core.so: no such file)" in said
    assert "pip install ffcv" in said
