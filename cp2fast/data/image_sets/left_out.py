"""Files that are left out: counted by suffix, and what would make them readable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from cp2fast.data.decoding.formats import what_reads
from cp2fast.errors import UserError

_SHOWN = 5
"""Number of suffixes named in a message."""

LeftOut = tuple[tuple[str, int], ...]
"""Suffixes with counts, the most frequent first."""


def most_first(counts: Mapping[str, int]) -> LeftOut:
    """Suffixes with counts, the most frequent first."""
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def together(parts: Sequence[LeftOut]) -> LeftOut:
    """The counts of all parts."""
    counts = Counter[str]()
    for part in parts:
        counts.update(dict(part))
    return most_first(counts)


def in_words(left_out: LeftOut) -> str:
    """The most frequent suffixes with their counts, and what would make these files readable."""
    named = [_counted(suffix, count) for suffix, count in left_out[:_SHOWN]]
    return ", ".join(named + ["and others"] * (len(left_out) > _SHOWN))


def no_members(where: str, left_out: Mapping[str, int]) -> UserError:
    """The error for shards without images; ``left_out`` counts what they hold instead."""
    there = in_words(most_first(left_out))
    reason = f"there are {there}" if there else "no member ends in an image's suffix, as .jpg"
    return UserError(f"no images in {where}: {reason}")


def _counted(suffix: str, count: int) -> str:
    command = what_reads(suffix)
    return f"{count:,} {suffix}" + (f" (to read them: {command})" if command else "")
