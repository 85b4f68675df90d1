"""Find a network's tensors in a file, under any wrappers, prefixes and names.

Libraries wrap a network in dictionaries (``state_dict``, ``model``, ``teacher``) and modules
(``module.``, ``encoder_q.``, ``backbone.``). There is no list of these: a network is found by its
own names, at the place that has the most of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from cp2fast.weights.foreign import LAYOUTS
from cp2fast.weights.names import fitted, to_timm

METADATA = "__metadata__"
"""Key under which ``files.read_content`` stores the text metadata of a .safetensors file."""

_PARTS = ("", "backbone.", "decode_head.")
"""Prefixes of a whole network, a bare backbone or a bare head, or both in one flat file."""

_WRAPPING_MODULES = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
)
"""Wrappers added by data parallel training, compiling and so on; ignored in names."""

_TIMM_IN_MMSEG = re.compile(r"\bbackbone\.timm_model\.(model\.)?")
"""mmseg's TIMMBackbone contains timm's model, which wraps a transformer in another module."""

_AVERAGED = re.compile(r"(?<![a-z])(ema|teacher)(?![a-z])")
_LESSER = re.compile(r"(?<![a-z])(student|momentum|target|encoder_k)(?![a-z])")
"""Words that mark a less suitable copy. A running average is usually the better network, as in DINO
and timm, but not where it only provides targets for the network itself, as in MoCo."""

_NUMBERED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""Modules of a ResNet in ``Sequential(*resnet.children())``, as built by lightly."""


@dataclass
class Match:
    """The tensors at one place in a file.

    Attributes:
        inside: keys of the dictionaries around them, outermost first.
        prefix: prefix of the network's names.
        tensors: tensors by the network's names.
        unexpected: names at this place that the network does not have, without the prefix.
    """

    inside: tuple[str, ...]
    prefix: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)

    @property
    def is_average(self) -> bool:
        """Whether the file calls this network a running average."""
        return bool(_AVERAGED.search(self._place))

    @property
    def _place(self) -> str:
        return ".".join((*self.inside, self.prefix)).lower()

    def merits(self) -> tuple[int, int, int]:
        """Larger for a preferable match: more of the network, or a more suitable copy."""
        trained = sum(not name.endswith("num_batches_tracked") for name in self.tensors)
        rank = self.is_average - bool(_LESSER.search(self._place))
        return trained, rank, len(self.inside)


def best_match(content: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> Match:
    """The place in a file's nested dictionaries and lists with the most names of a network."""
    found = [
        match
        for inside, tensors in _dictionaries(content)
        for match in _matches(inside, _renamed(tensors, wanted), wanted)
    ]
    return max([Match((), ""), *found], key=Match.merits)


def _dictionaries(
    content: Mapping[str, Any], inside: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Each dictionary with all tensors inside it, at any depth; outer dictionaries first."""
    yield inside, flattened(content)
    for name, value in _children(content):
        if isinstance(value, Mapping | list | tuple):
            yield from _dictionaries(_named(value), (*inside, name))


def flattened(content: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """All tensors by name; names include the keys of enclosing dictionaries."""
    found: dict[str, Tensor] = {}
    for name, value in _children(content):
        if isinstance(value, Tensor):
            found[prefix + name] = value
        elif isinstance(value, Mapping | list | tuple):
            found |= flattened(_named(value), f"{prefix}{name}.")
    return found


def _children(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Entries that may belong to a network; not the optimiser, whose tensors have equal names."""
    for key, value in content.items():
        name = str(key)
        if name != METADATA and not name.lower().startswith("optim"):
            yield name, value


def _named(value: Mapping[str, Any] | Sequence[Any]) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {str(i): one for i, one in enumerate(value)}


def _matches(
    inside: tuple[str, ...], tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> list[Match]:
    """A match for each prefix with at least one name of the network."""
    found: dict[str, Match] = {}
    for name, tensor in tensors.items():
        steps = name.split(".")
        for step in range(len(steps)):
            rest = ".".join(steps[step:])
            own = next((part + rest for part in _PARTS if part + rest in wanted), None)
            if own is not None:
                prefix = name.removesuffix(rest)
                found.setdefault(prefix, Match(inside, prefix)).tensors.setdefault(own, tensor)
    for prefix, match in found.items():
        under = [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]
        match.unexpected = [
            name for name in under if not any(part + name in match.tensors for part in _PARTS)
        ]
    return list(found.values())


def _renamed(tensors: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """The tensors by timm's names, without wrapping modules."""
    renamed = {}
    for name, tensor in tensors.items():
        plain = ".".join(step for step in name.split(".") if step not in _WRAPPING_MODULES)
        renamed[_TIMM_IN_MMSEG.sub("backbone.", plain)] = tensor
    renamed = fitted(to_timm(renamed, LAYOUTS), wanted)
    return _without_numbers(renamed)


def _without_numbers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Restore the names of each ResNet that was made a sequence of its modules."""
    end = "4.0.conv1.weight"
    stems = [name.removesuffix(end) for name in tensors if name.endswith(end)]
    for prefix in (stem for stem in stems if f"{stem}1.running_mean" in tensors):
        renamed = {}
        for name, tensor in tensors.items():
            number, dot, rest = name.removeprefix(prefix).partition(".")
            known = name.startswith(prefix) and number in _NUMBERED
            renamed[f"{prefix}{_NUMBERED[number]}{dot}{rest}" if known else name] = tensor
        tensors = renamed
    return tensors
