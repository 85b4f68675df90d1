"""What ``cp2fast pack`` shows: progress, then the summary."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cp2fast.config import DataSettings
from cp2fast.cores import available_cores
from cp2fast.data.pack import beside, pack, size_on_disk
from cp2fast.data.packed_jpeg import JpegSettings


def run_pack(
    source: Path,
    out: Path,
    max_side: int | None,
    quality: int,
    keep_bytes: bool,
    workers: int | None,
    shard_size: int,
) -> None:
    """Pack ``source`` into ``out``; ``workers`` None is one a core.

    Raises:
        UserError: as ``pack``.
    """
    console = Console(stderr=True)
    columns = (TextColumn("packing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=None)
        try:
            summary = pack(
                source,
                out,
                JpegSettings(max_side, quality, keep_bytes, DataSettings().max_pixels),
                shard_size=shard_size,
                workers=workers or available_cores(),
                progress=lambda done, total: progress.update(bar, completed=done, total=total),
            )
        except KeyboardInterrupt:
            console.print(f"stopped: the same command goes on from {beside(out, 'partial')}")
            raise
    line = f"{summary.images} images, {_megabytes(summary.bytes_in)} in, "
    print(f"{out}: {line}{_megabytes(size_on_disk(out))} out, {len(summary.rejects)} rejected")
    for name, reason in summary.rejects[:5]:
        print(f"  {name}: {reason}")
    if summary.rejects:
        print(f"all rejected files and why: {beside(out, 'rejects.txt')}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
