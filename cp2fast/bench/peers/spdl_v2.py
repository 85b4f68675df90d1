"""SPDL's pipeline: its decoder and torchvision's v2 transforms in threads, not processes.

numbers -> threads: read, decode, two views as foregrounds, two as backgrounds -> batch -> paste
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from cp2fast.bench.peers.torchvision_v2 import paste, viewer
from cp2fast.data.decoding.decode import decode_image
from cp2fast.data.image_sets.image_set import ImageSet

_INSTALL = "pip install spdl-core spdl-io"
BATCHES_AHEAD = 3


def problem() -> str | None:
    """Why SPDL cannot be measured here, with the fix; None if it can."""
    try:
        import spdl.io
        import spdl.pipeline

        spdl.io.demux_config()
    except ModuleNotFoundError:
        return f"SPDL is not installed: {_INSTALL}"
    except Exception:  # Its decoder needs FFmpeg, which the wheel expects on the system.
        return "SPDL finds no FFmpeg: apt-get install ffmpeg"
    return None


def composed(
    images: ImageSet, numbers: Iterator[list[int]], batch_size: int, size: int, threads: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Query, key and masks of batches of ``batch_size``, endlessly."""
    import spdl.io
    from spdl.pipeline import PipelineBuilder

    views_of = viewer(size)

    def view(number: int) -> tuple[Tensor, Tensor]:
        encoded = images.read(number)
        try:
            decoded: Tensor = spdl.io.to_torch(spdl.io.load_image(encoded))
        except RuntimeError:  # not a common image
            decoded = decode_image(encoded, 10**9)
        return views_of(decoded.permute(2, 0, 1))

    pipeline = (
        PipelineBuilder()
        .add_source(number for step in numbers for number in step)
        .pipe(view, concurrency=threads)
        .aggregate(batch_size)
        .pipe(paste)
        .add_sink(BATCHES_AHEAD)
        .build(num_threads=threads)
    )
    with pipeline.auto_stop():
        yield from pipeline
