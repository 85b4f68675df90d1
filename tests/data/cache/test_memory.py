"""Free memory is the machine's, or what the control groups leave of it."""

import os
from pathlib import Path

import pytest

from cp2fast.data.cache.memory import free_memory

GIB = 1 << 30


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {8 << 20} kB\n")
    return tmp_path / "proc"


def group(folder: Path, files: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")


def test_it_is_what_the_system_says_here() -> None:
    assert 0 < free_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_without_groups_it_is_the_machines(proc: Path, tmp_path: Path) -> None:
    assert free_memory(proc, tmp_path / "none") == 8 * GIB
    assert free_memory(tmp_path / "none", tmp_path / "none") == 0


def test_the_tightest_group_above_counts_and_files_may_be_dropped(
    proc: Path, tmp_path: Path
) -> None:
    (proc / "self" / "cgroup").write_text("0::/job/task\n")
    root = tmp_path / "groups"
    group(root / "job" / "task", {"memory.max": "max", "memory.current": 3 * GIB})
    group(root / "job", {"memory.max": 5 * GIB, "memory.current": 4 * GIB})
    assert free_memory(proc, root) == GIB
    (root / "job" / "memory.stat").write_text(f"anon 5\ninactive_file {2 * GIB}\n")
    assert free_memory(proc, root) == 3 * GIB


def test_groups_of_version_1_count_too(proc: Path, tmp_path: Path) -> None:
    (proc / "self" / "cgroup").write_text("9:cpu:/x\n4:memory:/elsewhere\n")
    root = tmp_path / "groups"
    limits = {"memory.limit_in_bytes": 2 * GIB, "memory.usage_in_bytes": GIB}
    group(root / "memory", limits)  # A container sees its own group as the root.
    assert free_memory(proc, root) == GIB
    group(root / "memory" / "elsewhere", limits | {"memory.usage_in_bytes": 3 * GIB})
    assert free_memory(proc, root) == 0
