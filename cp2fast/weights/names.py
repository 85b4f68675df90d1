"""Other libraries' names of a backbone's tensors, and timm's for the same.

A layout is known by one name that no other has. What stands before it (``teacher.backbone.``) stays
before all names, so that ``layouts.best_match`` can tell a network from its average.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Tensors: TypeAlias = dict[str, Tensor]
Rule: TypeAlias = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class Names:
    """One library's names of one kind of backbone.

    Attributes:
        marker: the name, as a pattern, that only this layout has.
        rules: what is replaced in each name, in order.
        dropped: names, as a pattern, that timm has no tensor for.
        convert: of tensors that differ in more than their names.
    """

    marker: str
    rules: tuple[Rule, ...]
    dropped: str = "(?!)"
    convert: Callable[[Tensors], Tensors] = lambda tensors: tensors


def to_timm(tensors: Mapping[str, Tensor], layouts: Iterable[Names]) -> Tensors:
    """The tensors by timm's names; those of no layout as they are."""
    renamed = dict(tensors)
    for layout in layouts:
        marker = re.compile(rf"(?<![^.])(?:{layout.marker})$")
        prefixes = {name[: found.start()] for name in renamed if (found := marker.search(name))}
        for prefix in sorted(prefixes, key=len, reverse=True):
            under = {n.removeprefix(prefix): t for n, t in renamed.items() if n.startswith(prefix)}
            kept = {name: t for name, t in renamed.items() if not name.startswith(prefix)}
            own = _fused(layout.convert(_renamed(under, layout)))
            renamed = kept | {prefix + name: tensor for name, tensor in own.items()}
    return renamed


def fitted(tensors: Mapping[str, Tensor], wanted: Iterable[str]) -> Tensors:
    """The same with the names of the variant of timm's transformers that the network is.

    Some have the query's and the value's bias apart and none of the key, or none at all, and name
    the scales of their residual branches in another way.
    """
    ends = {name.rpartition(".")[2] for name in wanted}
    fused = any(name.endswith("attn.qkv.bias") for name in wanted)
    result: Tensors = {}
    for name, tensor in tensors.items():
        if "gamma_1" in ends:
            name = re.sub(r"\bls([12])\.gamma$", r"gamma_\1", name)
        if name.endswith("attn.qkv.bias") and not fused and ends:
            query, _, value = tensor.chunk(3)
            stem = name.removesuffix("qkv.bias")
            if "q_bias" in ends:
                result |= {f"{stem}q_bias": query, f"{stem}v_bias": value}
                continue
            if not tensor.any():
                continue
        result[name] = tensor
    return result


def next_stage(before: str, after: str) -> Callable[[re.Match[str]], str]:
    """A replacement with the matched number plus one: ``downsample`` ends a stage or begins one."""
    return lambda found: f"{before}{int(found[1]) + 1}{after}"


def _renamed(tensors: Tensors, layout: Names) -> Tensors:
    renamed = {}
    for name, tensor in tensors.items():
        if re.search(layout.dropped, name):
            continue
        for pattern, replacement in layout.rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def _fused(tensors: Tensors) -> Tensors:
    """Query, key and value that came apart as one; a bias that one lacks is 0."""
    apart = re.compile(r"(.*attn\.)([qkv])\.(weight|bias)")
    groups: dict[tuple[str, str], Tensors] = {}
    fused: Tensors = {}
    for name, tensor in tensors.items():
        found = apart.fullmatch(name)
        if found is None:
            fused[name] = tensor
        else:
            groups.setdefault((found[1], found[3]), {})[found[2]] = tensor
    for (stem, kind), parts in groups.items():
        absent = torch.zeros_like(next(iter(parts.values())))
        joined = [parts.get(part, absent) for part in "qkv"]
        fused[f"{stem}qkv.{kind}"] = torch.cat(joined)
    return fused
