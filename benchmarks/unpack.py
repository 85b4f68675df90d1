"""Unpack wheels and .tar.xz archives of packages into a folder for PYTHONPATH.

    python benchmarks/unpack.py FOLDER SITE

An archive that is too large for one transfer may be split
(``split -d -b 40m site.tar.xz site.tar.xz.``): parts are joined in the order of their numbers. An
archive that was unpacked before is left as it is.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path


def unpack(folder: Path, site: Path) -> list[str]:
    """Unpack what lies in ``folder`` into ``site``; returns the names of what was unpacked now."""
    site.mkdir(parents=True, exist_ok=True)
    unpacked = []
    for name, parts in archives(folder):
        done = site / f".{name}.unpacked"
        if done.exists():
            continue
        if name.endswith(".whl"):
            zipfile.ZipFile(io.BytesIO(_joined(parts))).extractall(site)  # noqa: S202  # not a tar
        else:
            _extract_tar_xz(parts, site)
        done.touch()
        unpacked.append(name)
    return unpacked


def archives(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """The archives of a folder by name, each with its parts in order."""
    parts: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        name = path.stem if path.suffix[1:].isdecimal() else path.name
        if name.endswith((".whl", ".tar.xz")):
            parts.setdefault(name, []).append(path)
    yield from parts.items()


def _joined(parts: list[Path]) -> bytes:
    return b"".join(part.read_bytes() for part in parts)


def _extract_tar_xz(parts: list[Path], site: Path) -> None:
    """Use the xz command on all cores if there is one, which is many times faster."""
    if shutil.which("xz") is None:
        with tarfile.open(fileobj=io.BytesIO(_joined(parts)), mode="r:xz") as archive:
            archive.extractall(site, filter="data")
        return
    # The shell's pipe ends with any of them; one held open here would keep xz waiting for ever.
    script = 'cat -- "$@" | xz --decompress --stdout --threads=0 | tar --extract --directory "$0"'
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script, site, *parts], check=False)
    if done.returncode:
        sys.exit(f"cannot unpack {parts[0]}: exit code {done.returncode}")


if __name__ == "__main__":
    for unpacked_name in unpack(Path(sys.argv[1]), Path(sys.argv[2])):
        print(f"unpacked {unpacked_name}")
