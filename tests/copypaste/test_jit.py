"""What is compiled is kept between processes, but never past a change of what it is made of."""

import os
import subprocess
import sys
from pathlib import Path
from resource import RLIMIT_FSIZE, setrlimit

import pytest

import cp2fast

pytestmark = pytest.mark.slow

KERNEL = """
from package import helper
from cp2fast.copypaste.jit import jit, keep_compiled

number = jit(helper.number)

@jit
def kernel():
    return number()

keep_compiled(kernel)
print(kernel(), sum(kernel.stats.cache_hits.values()))
"""


HELPER = """
from package.constants import NUMBER

def number():
    return NUMBER
"""


def run(folder: Path, returns: int, largest_file: int = -1, **environment: str) -> str:
    """What a new process prints: the number two imports away, and whether the kernel was kept.

    It may write files of at most ``largest_file`` bytes, where that is not negative.
    """
    package = folder / "package"
    package.mkdir(exist_ok=True)
    if not (package / "kernel.py").exists():
        (package / "kernel.py").write_text(KERNEL)
    (package / "helper.py").write_text(HELPER)
    (package / "constants.py").write_text(f"NUMBER = {returns}\n")
    done = subprocess.run(
        [sys.executable, "-B", "-c", "import package.kernel"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(cp2fast.__file__).parents[1])} | environment,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: setrlimit(RLIMIT_FSIZE, (largest_file, largest_file)),
    )
    return done.stdout.strip()


def test_kept_between_processes_until_a_source_changes(tmp_path: Path) -> None:
    assert run(tmp_path, 1) == "1 0"
    assert run(tmp_path, 1) == "1 1"
    assert run(tmp_path, 2) == "2 0"


def test_compiled_every_time_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__pycache__").write_text("not a folder")
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "NUMBA_CACHE_DIR": ""}
    assert run(tmp_path, 1, **nowhere) == "1 0"
    assert run(tmp_path, 1, **nowhere) == "1 0"


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_compiled_anew_where_a_kept_file_is_damaged(tmp_path: Path, suffix: str) -> None:
    """As by a node that goes down before its disk has what was written."""
    assert run(tmp_path, 1) == "1 0"
    for damaged in tmp_path.glob(f"package/__pycache__/*.{suffix}"):
        os.truncate(damaged, 0)
    assert run(tmp_path, 1) == "1 0"
    assert run(tmp_path, 1) == "1 1"


def test_a_full_disk_keeps_nothing_and_nothing_outdated(tmp_path: Path) -> None:
    assert run(tmp_path, 1) == "1 0"
    with (tmp_path / "package" / "kernel.py").open("a") as source:
        source.write("# another version\n")
    for _ in range(2):
        assert run(tmp_path, 2, largest_file=4096) == "2 0"
    assert run(tmp_path, 2) == "2 0"
    assert run(tmp_path, 2) == "2 1"
