"""Convert other libraries' names of a backbone's tensors to timm's.

A layout is recognised by a name that no other layout has. Its prefix (``teacher.backbone.``) is
kept in all names, so that ``layouts.best_match`` can tell a network from its average.
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
    """A library's names for one kind of backbone."""

    marker: str
    """Pattern of a name that only this layout has."""
    rules: tuple[Rule, ...]
    """Replacements applied to each name, in order."""
    dropped: str = "(?!)"
    """Pattern of names for which timm has no tensor."""
    convert: Callable[[Tensors], Tensors] = lambda tensors: tensors
    """Converts tensors that differ in more than their names."""


def to_timm(tensors: Mapping[str, Tensor], layouts: Iterable[Names]) -> Tensors:
    """The tensors by timm's names; tensors of no known layout are unchanged."""
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
    """Adapt names to the network's variant of timm's transformers.

    Some variants have separate biases for query and value and none for the key, or no bias at all,
    and use other names for the scales of their residual branches.
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
    """A replacement with the number plus one: ``downsample`` may end a stage or begin the next."""
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
    """Fuse separate query, key and value tensors into one; a missing bias becomes 0."""
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
