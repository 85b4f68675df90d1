"""What ``cp2fast pack`` prints: progress, then the summary."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cp2fast.config import Bands, DataSettings, RangeSetting, Root
from cp2fast.console import open_console
from cp2fast.cores import available_cores
from cp2fast.data.pack import pack
from cp2fast.data.pack_delivery import REJECTS
from cp2fast.data.packed_jpeg import JpegSettings
from cp2fast.data.urls import public
from cp2fast.wording import counted


def run_pack(
    source: Root,
    out: Path | str,
    max_side: int | None,
    quality: int,
    keep_bytes: bool,
    workers: int | None,
    shard_size: int,
    range_: RangeSetting = "auto",
    bands: Bands | None = None,
) -> None:
    """Pack ``source`` into ``out``; ``workers`` of None is one per core.

    Raises:
        UserError: as ``pack``.
    """
    console = open_console(stderr=True)
    columns = (TextColumn("packing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console)
    bar = progress.add_task("", total=None)
    with ExitStack() as shown:

        def show(done: int, total: int) -> None:
            """Update the bar; it starts with the first image, as earlier errors need no bar."""
            if not progress.live.is_started:
                shown.enter_context(progress)
            progress.update(bar, completed=done, total=total)

        try:
            summary = pack(
                source,
                out,
                JpegSettings(
                    max_side, quality, keep_bytes, DataSettings().max_pixels, range_, bands
                ),
                shard_size=shard_size,
                workers=workers or available_cores(),
                progress=show,
            )
        except KeyboardInterrupt:
            console.print("stopped: the same command goes on where it was")
            raise
    line = f"{counted(summary.images, 'image')}, {_megabytes(summary.bytes_in)} in, "
    line += f"{_megabytes(summary.bytes_out)} out, {len(summary.rejects)} rejected"
    print(f"{public(str(out))}: {line}")
    if summary.range_line:
        print(f"{summary.range_line}; fine-tune on the images themselves with the same")
    for name, reason in summary.rejects[:5]:
        print(f"  {name}: {reason}")
    if summary.rejects:
        print(f"all rejected files and why: {public(str(out)).rstrip('/')}.{REJECTS}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
