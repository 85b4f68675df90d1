"""``cp2fast models``: the available backbones and timm's weights for them."""

from __future__ import annotations

from collections import defaultdict

import timm

from cp2fast.model.families import matching


def run_models(pattern: str) -> None:
    """List the backbones with matching names, each with its family and weights.

    Args:
        pattern: pattern of names, as in a shell; without ``*`` or ``?`` it may match any part
            of a name.

    Raises:
        UserError: none matches.
    """
    found = matching(pattern if set(pattern) & set("*?[") else f"*{pattern}*")
    tags = _tags()
    rows = [(name, family.title, " ".join(tags[name])) for name, family in sorted(found.items())]
    head = ("model.backbone", "family", "weights, as in model.init=timm/MODEL.TAG")
    widths = [max(len(row[column]) for row in (head, *rows)) for column in (0, 1)]
    for name, title, weights in (head, *rows):  # no table: names must be complete for copying
        print(f"{name:<{widths[0]}}  {title:<{widths[1]}}  {weights}".rstrip())


def _tags() -> dict[str, list[str]]:
    """Tags of timm's pretrained weights by model name."""
    tags = defaultdict(list)
    for full in timm.list_pretrained():
        name, _, tag = full.partition(".")
        tags[name].append(tag)
    return tags
