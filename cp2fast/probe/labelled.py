"""Choose the labelled images that a probe uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` items, evenly spread, in order."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]
