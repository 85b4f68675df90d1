"""The host memory that is free for this process, within its control group's limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")


def free_memory(proc: Path = _PROC, groups: Path = _GROUPS) -> int:
    """Free memory in bytes: of the system, or less if a control group's limit is lower.

    File pages that a group could drop count as free, as they do in the system's figure. 0 if the
    system does not report it.
    """
    lines = _read(proc / "meminfo").splitlines()
    available = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    if not available:
        return 0
    limits = [limit - used for limit, used in _limits(proc, groups)]
    return max(0, min([available[0] * 1024, *limits]))


def _limits(proc: Path, groups: Path) -> Iterator[tuple[int, int]]:
    """Limit and usage, in bytes, of this process's control groups and their parents."""
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers == "":  # version 2
            root, names = groups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = groups / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the path may be the one outside; the container's own group is then the
        # root.
        folder = root / name.lstrip("/")
        for group in (folder, *folder.parents):
            limit, used = (_number(group / file) for file in names[:2])
            if limit is not None and used is not None:
                yield limit, used - _droppable(group / "memory.stat", names[2])
            if group == root:
                break


def _droppable(path: Path, key: str) -> int:
    values = dict(line.split(" ", 1) for line in _read(path).splitlines() if " " in line)
    return int(values.get(key, "0"))


def _number(path: Path) -> int | None:
    """The number in a file; None if there is no such file, or no limit ("max")."""
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
