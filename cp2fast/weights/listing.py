"""``cp2fast models``: the backbones that there are, and the weights that timm has for them."""

from __future__ import annotations

from collections import defaultdict

import timm

from cp2fast.model.families import matching


def run_models(pattern: str) -> None:
    """List the backbones whose names match, each with its family and its weights.

    Args:
        pattern: of names, as a shell matches files; one without ``*`` or ``?`` is looked for
            anywhere in them.

    Raises:
        UserError: none matches.
    """
    found = matching(pattern if set(pattern) & set("*?[") else f"*{pattern}*")
    tags = _tags()
    rows = [(name, family.title, " ".join(tags[name])) for name, family in sorted(found.items())]
    head = ("model.backbone", "family", "weights, as in model.init=timm/MODEL.TAG")
    widths = [max(len(row[column]) for row in (head, *rows)) for column in (0, 1)]
    for name, title, weights in (head, *rows):  # no table: names are copied, and must be whole
        print(f"{name:<{widths[0]}}  {title:<{widths[1]}}  {weights}".rstrip())


def _tags() -> dict[str, list[str]]:
    """The tags of timm's pretrained weights by name of model."""
    tags = defaultdict(list)
    for full in timm.list_pretrained():
        name, _, tag = full.partition(".")
        tags[name].append(tag)
    return tags
