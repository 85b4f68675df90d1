"""Packages that travelled as wheels and as parts of an archive are put together again."""

import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks.unpack import unpack

pytestmark = pytest.mark.slow


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
