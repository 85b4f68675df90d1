"""What is kept of evidence.py's runs: one archive of all that is small, and one network's weights.

Results travel over links that take few files of few megabytes, and a call may be ended at any time:
the archive is made anew as the jobs end, replaced as a whole, and never larger than ``MOST_BYTES``.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

MOST_BYTES = 13 * 2**20
ARCHIVE = "evidence.tar.gz"
PATTERNS = (
    "*.json",
    "results/**/*.json",
    "runs/**/metrics.jsonl",
    "finetune/**/metrics.jsonl",
    "*.png",
    "runs/*/*/seed0/features.png",
    "logs/**/*.txt",
)
"""The most important first: what no longer fits is left out."""
_PART = 14 * 10**6
"""Bytes of a part of a file of weights."""


def pack(out: Path, target: Path, most_bytes: int = MOST_BYTES) -> Path:
    """Make ``ARCHIVE`` in ``target`` of what is small in ``out``; pictures become WebP."""
    target.mkdir(parents=True, exist_ok=True)
    aside = target / f"{ARCHIVE}.partial"
    with aside.open("wb") as raw, tarfile.open(fileobj=raw, mode="w:gz", compresslevel=6) as tar:
        for name, content in _small(out):
            if raw.tell() + len(content) > most_bytes:
                break
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    aside.replace(target / ARCHIVE)
    return target / ARCHIVE


def keep_network(run: Path, target: Path) -> list[Path]:
    """A run's network in half precision: ``network.pt``, or its parts ``network.pt.00`` and so on.

    ``cat network.pt.* > network.pt`` joins them.
    """
    import torch

    from cp2fast.weights.trained import open_trained

    network = open_trained(run).network
    half = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    content = io.BytesIO()
    torch.save(half, content)
    view, parts = content.getbuffer(), []
    for number, start in enumerate(range(0, len(view), _PART)):
        parts.append(target / f"network.pt.{number:02}")
        parts[-1].write_bytes(view[start : start + _PART])
    return parts


def _small(out: Path) -> Iterator[tuple[str, bytes]]:
    for pattern in PATTERNS:
        for file in sorted(out.glob(pattern)):
            name = file.relative_to(out)
            if file.suffix == ".png":
                yield str(name.with_suffix(".webp")), _webp(file)
            else:
                yield str(name), file.read_bytes()


def _webp(file: Path) -> bytes:
    content = io.BytesIO()
    with Image.open(file) as picture:
        picture.convert("RGB").save(content, "WEBP", quality=85)
    return content.getvalue()
