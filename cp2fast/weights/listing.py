"""The available backbones and timm's weights for them."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import timm

from cp2fast.model.families import matching


class Listed(NamedTuple):
    """A backbone.

    Attributes:
        name: value for ``model.backbone``.
        family: name of its family.
        weights: values for ``model.init``, less ``timm/NAME.``.
    """

    name: str
    family: str
    weights: tuple[str, ...]


def list_models(pattern: str = "*") -> list[Listed]:
    """The backbones with matching names.

    Args:
        pattern: pattern of names, as in a shell; without ``*`` or ``?`` it may match any part
            of a name.

    Raises:
        UserError: none matches.
    """
    found = matching(pattern if set(pattern) & set("*?[") else f"*{pattern}*")
    tags = defaultdict(list)
    for full in timm.list_pretrained():
        name, _, tag = full.partition(".")
        tags[name].append(tag)
    return [Listed(name, family.title, tuple(tags[name])) for name, family in sorted(found.items())]
