"""One archive of the small files of evidence.py's folder, to be fetched from another machine."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

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


def pack(out: Path, target: Path) -> Path:
    """Make ``ARCHIVE`` in ``target`` of the small files of ``out``; pictures become WebP."""
    target.mkdir(parents=True, exist_ok=True)
    aside = target / f"{ARCHIVE}.partial"
    with tarfile.open(aside, "w:gz", compresslevel=6) as tar:
        for name, content in _small(out):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return aside.replace(target / ARCHIVE)


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
