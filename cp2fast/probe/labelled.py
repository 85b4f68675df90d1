"""Which of many labelled images a probe looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` of the items, evenly spread over them, in order."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]
