"""FFCV's own loader, then kornia's augmentations on whole batches: two decodes per sample.

FFCV yields images of a single size, so each view has its own pipeline that decodes the image, crops
and resizes, as in FFCV-SSL. Two differences remain: crops are resized by area instead of
antialiased bilinear, and a sample's background is the foreground crop of a neighbour in the batch,
with its own colours and blur.
"""

from __future__ import annotations

import queue
import subprocess
import sys
from collections.abc import Generator
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from cp2fast.bench.peers import kornia_aug
from cp2fast.data.image_sets.image_set import ImageSet

BATCHES_AHEAD = 3
"""FFCV's default; one more is in progress."""
_INSTALL = "apt-get install libopencv-dev libturbojpeg0-dev pkg-config && pip install ffcv"


def problem() -> str | None:
    """Why FFCV cannot be used, with the fix; None if it can.

    It is imported in a separate process, because in this one it would start threads, which prevent
    forking, and set torch's number of threads to one.
    """
    if find_spec("ffcv") is None:
        return f"ffcv is not installed: {_INSTALL}"
    done = subprocess.run(
        [sys.executable, "-c", "import ffcv"], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return None
    reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return f"ffcv is installed but broken ({reason}): {_INSTALL}"


def composed(
    images: ImageSet, batch_size: int, size: int, threads: int, device: torch.device
) -> Generator[tuple[Tensor, Tensor, Tensor, Tensor], None, None]:
    """Query, key and their masks, batch after batch, endlessly over the epochs.

    Args:
        images: images of a ``.beton``, at least one batch.
        batch_size: B.
        size: S.
        threads: FFCV's threads; at most numba's number.
        device: device for kornia.
    """
    paste = kornia_aug.composer_of_crops()
    for views in _views(images.shards[0], batch_size, size, threads):
        # Copies, because FFCV reuses its own memory.
        query, key = (view.to(device, non_blocking=True) / 255 for view in views)
        yield paste(query, key, key.roll(1, 0), query.roll(2, 0))


def _views(
    path: str, batch_size: int, size: int, threads: int
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Two crops uint8 ``[B, 3, S, S]`` of each image."""
    before = torch.get_num_threads()
    loader = _loader(path, batch_size, size, threads)
    while True:
        epoch = iter(loader)
        try:
            first = next(epoch)
            torch.set_num_threads(before)  # FFCV has set it to its own until now
            yield first
            yield from epoch
        finally:
            _stop(epoch)


def _stop(epoch: Any) -> None:
    """End FFCV's thread, which would decode to the end of the epoch, then wait for room."""
    epoch.iter_ixes = iter(())
    while epoch.is_alive():
        with suppress(queue.Empty):
            epoch.output_queue.get_nowait()
        epoch.join(0.001)


def _loader(path: str, batch_size: int, size: int, threads: int) -> Any:
    import numba
    from ffcv.fields import RGBImageField
    from ffcv.fields.decoders import RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.pipeline import PipelineSpec
    from ffcv.reader import Reader
    from ffcv.transforms import ToTensor, ToTorchImage

    fields = Reader(path).handlers
    image = next(name for name, field in fields.items() if isinstance(field, RGBImageField))

    def view() -> Any:
        decoder = RandomResizedCropRGBImageDecoder((size, size), scale=(0.2, 1.0))
        return PipelineSpec(
            image, decoder=decoder, transforms=[ToTensor(), ToTorchImage(channels_last=False)]
        )

    return Loader(
        path,
        batch_size,
        num_workers=max(1, min(threads, numba.config.NUMBA_NUM_THREADS)),
        order=OrderOption.RANDOM,
        pipelines=dict.fromkeys(fields) | {"query": view(), "key": view()},
        batches_ahead=BATCHES_AHEAD,
    )
