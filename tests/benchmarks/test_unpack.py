"""Packages that travelled as wheels and as parts of an archive are put together again."""

import os
import random
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks.unpack import unpack

pytestmark = pytest.mark.slow


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    """An archive of a megabyte, more than pipes hold."""
    sent, content = tmp_path / "sent", tmp_path / "content"
    sent.mkdir()
    content.write_bytes(random.Random(0).randbytes(1 << 20))
    with tarfile.open(sent / "site.tar.xz", "w:xz") as tar:
        tar.add(content, "content")
    return sent


def unpack_apart(sent: Path, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "benchmarks/unpack.py", sent, sent.parent / "site"],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_an_archive_that_tar_refuses_ends_it_with_a_line(sent: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "tar").write_text("#!/bin/sh\nexit 2\n")
    (tools / "tar").chmod(0o755)
    done = unpack_apart(sent, f"{tools}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert f"cannot unpack {sent / 'site.tar.xz'}" in done.stderr


def test_an_archive_without_its_end_is_refused_and_not_taken_for_unpacked(sent: Path) -> None:
    archive = sent / "site.tar.xz"
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    assert f"cannot unpack {archive}" in unpack_apart(sent).stderr
    archive.write_bytes(whole)
    assert unpack_apart(sent).stdout == "unpacked site.tar.xz\n"


def test_wheels_and_the_parts_of_an_archive_are_unpacked_once(tmp_path: Path) -> None:
    sent, site, made = tmp_path / "sent", tmp_path / "site", tmp_path / "made"
    sent.mkdir()
    made.mkdir()
    with zipfile.ZipFile(sent / "one-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("one/__init__.py", "")
    library = bytes(range(256)) * 4096
    (made / "lib.so").write_bytes(library)
    archive = tmp_path / "two.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(made, "two")
    subprocess.run(["split", "-d", "-b", "300", archive, sent / "two.tar.xz."], check=True)

    assert unpack(sent, site) == ["one-1.0-py3-none-any.whl", "two.tar.xz"]
    assert (site / "one" / "__init__.py").exists()
    assert (site / "two" / "lib.so").read_bytes() == library
    (site / "two" / "lib.so").unlink()
    assert unpack(sent, site) == []
    assert not (site / "two" / "lib.so").exists()
