"""timm's models: which there are, and their weights, such as ``timm/resnet50.a1_in1k``."""

from __future__ import annotations

import difflib
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import huggingface_hub.constants
import timm
from safetensors import SafetensorError
from torch import Tensor

from cp2fast.errors import UserError, is_out_of_memory
from cp2fast.model.families import matching

_PREFIX = "timm/"
_log = logging.getLogger(__name__)


class Listed(NamedTuple):
    """A value for ``model.backbone``, its family, and its weights: ``model.init=timm/NAME.TAG``."""

    name: str
    family: str
    weights: tuple[str, ...]


def list_models(pattern: str = "*") -> list[Listed]:
    """The backbones whose names match a shell's pattern; without ``*`` or ``?``, in any part.

    Raises:
        UserError: none matches.
    """
    found = matching(pattern if set(pattern) & set("*?[") else f"*{pattern}*")
    tags = defaultdict(list)
    for full in timm.list_pretrained():
        name, _, tag = full.partition(".")
        tags[name].append(tag)
    return [Listed(name, family.title, tuple(tags[name])) for name, family in sorted(found.items())]


def is_timm_name(name: str) -> bool:
    """Whether ``name`` is a timm model rather than a file."""
    return name.startswith(_PREFIX) or timm.is_model(name)


def download(name: str) -> dict[str, Tensor]:
    """The pretrained weights of a model (``MODEL`` or ``MODEL.TAG``), from timm's cache or the net.

    Raises:
        UserError: timm has no such weights, they cannot be downloaded, or are damaged.
    """
    model = name.removeprefix(_PREFIX)
    if not timm.models.is_model_pretrained(model):
        known = timm.list_pretrained()
        nearest = difflib.get_close_matches(model, known, n=1, cutoff=0)[0]
        raise UserError(f"timm has no pretrained weights '{model}': the nearest is timm/{nearest}")
    if not huggingface_hub.constants.HF_HUB_OFFLINE:  # failing attempts take a minute
        _log.info(
            "loading timm/%s from its cache or the network; without a network, HF_HUB_OFFLINE=1 "
            "avoids waiting for it",
            model,
        )
    try:
        with _quiet_retries():
            return timm.create_model(model, pretrained=True).state_dict()  # type: ignore[no-any-return]
    except SafetensorError as error:
        raise UserError(
            f"timm/{model} in {huggingface_hub.constants.HF_HUB_CACHE} is damaged "
            f"({_first_sentence(error)}): remove it there and it is downloaded again"
        ) from error
    except Exception as error:  # httpx's are neither OSErrors nor RuntimeErrors
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"timm/{model} cannot be downloaded here ({_first_sentence(error)}): download it where "
            "there is a network and name the file, as in model.init=FILE.safetensors"
        ) from error


@contextmanager
def _quiet_retries() -> Iterator[None]:
    """Suppress the warning printed at every failed attempt to reach the server."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _first_sentence(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0].rstrip(".")
