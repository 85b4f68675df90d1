"""Packs of the photos in conftest.py, and what they leave."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from cp2fast.data.packing.pack import PackSummary, pack
from cp2fast.data.packing.packed_jpeg import JpegSettings

KEEP = JpegSettings(None, 90, keep_bytes=True, max_pixels=1_000_000)

outs = pytest.mark.parametrize("out", ["photos.beton", "shards", "photos.tar"])


class Stopped(Exception):  # noqa: N818
    """What stops a pack."""


def stop_at(image: int) -> Callable[[int, int], None]:
    """A ``progress`` that stops the pack after that image."""

    def progress(done: int, total: int) -> None:
        if done == image:
            raise Stopped

    return progress


def stopped(source: Path | str, out: Path | str, at: int, **options: int) -> None:
    """A pack that stops after an image; the options are those of ``pack``."""
    with contextlib.suppress(Stopped):
        pack(source, out, KEEP, progress=stop_at(at), **options)


def do(source: Path, out: Path, settings=KEEP, shard_size=25, workers=2) -> PackSummary:
    return pack(
        source,
        out,
        settings,
        shard_size=shard_size,
        workers=workers,
        progress=lambda done, total: None,
    )


def contents(out: Path) -> dict[str, bytes]:
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    return {file.name if out.is_dir() else "": file.read_bytes() for file in files}


def left_behind(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())
