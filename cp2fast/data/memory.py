"""The host memory that this process may still take: the machine's, or its control group's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")


def free_memory(proc: Path = _PROC, groups: Path = _GROUPS) -> int:
    """Bytes: what the system has available, or less where a control group allows less.

    What a group holds of files and could drop again counts as free, as it does in the system's
    figure. 0 where the system does not say.
    """
    lines = _read(proc / "meminfo").splitlines()
    available = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    if not available:
        return 0
    limits = [limit - used for limit, used in _limits(proc, groups)]
    return max(0, min([available[0] * 1024, *limits]))


def _limits(proc: Path, groups: Path) -> Iterator[tuple[int, int]]:
    """Limit and use, in bytes, of the groups that this process is in and of those above them."""
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers == "":  # version 2
            root, names = groups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = groups / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # Inside a container the path may be that outside of it; its own group is then the root.
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
    """None where there is no such file, or no limit ("max")."""
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
