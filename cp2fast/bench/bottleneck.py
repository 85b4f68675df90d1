"""Find the stage that limits a training, from the rate of each stage alone.

    read -> decode -> transfer -> augment -> model

Stages on the same resource take turns; different resources work in parallel. So the resource that
needs the most time per sample sets the pace, and its slowest stage is the one to change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cp2fast.bench.report import Report, Result, format_rate


class _Stage(NamedTuple):
    """How a sentence describes a stage: its name, where it runs, and the setting to change."""

    name: str
    resource: str
    change: str


_READ = _Stage(
    "reading",
    "disk",
    "keep the images on a faster disk, or make them smaller: cp2fast pack --max-side",
)
_DECODE = _Stage(
    "decoding",
    "cores",
    "raise data.workers where there are more cores, make the images smaller with cp2fast pack "
    "--max-side, or set data.decode=gpu where there is a GPU",
)
_SMALLER_IMAGES = "take smaller images with model.size"
_LIGHTER_MODEL = "a lighter model.head or model.backbone, or a smaller model.size"
_ON_CPU = {
    "read": _READ,
    "decode": _DECODE,
    "augment": _Stage(
        "augmentation", "cores", f"compose on a GPU with train.device=cuda, or {_SMALLER_IMAGES}"
    ),
    "model": _Stage(
        "the model", "cores", f"train on a GPU with train.device=cuda, or take {_LIGHTER_MODEL}"
    ),
}
_ON_GPU = {
    "read": _READ,
    "decode": _DECODE,
    "transfer": _Stage(
        "the transfer to the GPU",
        "bus",
        "make the images smaller with cp2fast pack --max-side, or set data.decode=gpu, which "
        "transfers them encoded",
    ),
    "augment": _Stage("augmentation", "GPU", _SMALLER_IMAGES),
    "model": _Stage(
        "the model", "GPU", f"raise data.batch_size as far as memory goes, or take {_LIGHTER_MODEL}"
    ),
}


@dataclass(frozen=True)
class Limit:
    """The limiting stage.

    Attributes:
        stage: slowest stage of the busiest resource.
        rate: samples per second of this resource, for all its stages together.
        share: share of the resource's time spent in the stage, 0 to 1.
    """

    stage: str
    rate: float
    share: float


def find_limit(rates: Mapping[str, float]) -> Limit:
    """Find the limiting stage.

    Args:
        rates: samples per second of each stage alone: some of ``read``, ``decode``, ``transfer``,
            ``augment`` and ``model``. With ``transfer``, the last two are on a GPU.
    """
    known = _stages(rates)
    needs: dict[str, float] = defaultdict(float)  # seconds per sample, by resource
    for stage, rate in rates.items():
        needs[known[stage].resource] += 1 / rate
    busiest = max(needs, key=needs.__getitem__)
    stage = min((s for s in rates if known[s].resource == busiest), key=rates.__getitem__)
    return Limit(stage, 1 / needs[busiest], 1 / rates[stage] / needs[busiest])


def describe(rates: Mapping[str, float], reached: str) -> str:
    """One sentence: the limiting stage, what is ``reached`` of the limit, the setting to change."""
    found = find_limit(rates)
    stage = _stages(rates)[found.stage]
    others = ", ".join(f"{s} {format_rate(rates[s])}" for s in rates if s != found.stage)
    return (
        f"{stage.name} limits: {format_rate(rates[found.stage])} samples/s alone, {found.share:.0%}"
        f" of the time of the {stage.resource} (the others: {others}); {reached}; {stage.change}"
    )


def describe_loading(composing: Mapping[str, float], rates: Mapping[str, float]) -> str:
    """The sentence for the loader, from the rates of cp2fast's sources and of the stages alone."""
    return describe(rates, _fastest(composing, rates))


def stages_of_training(loader: Report, train: Report) -> dict[str, float]:
    """Samples per second of each stage alone, from the two benchmarks that measure them."""
    loading = {stage: loader.ceilings[stage] for stage in _ON_GPU if stage in loader.ceilings}
    return loading | {"model": _step(train).images_per_second}


def describe_training(loader: Report, train: Report) -> str:
    """The sentence for loader and training step together."""
    rates = stages_of_training(loader, train)
    if find_limit(rates).stage == "model":
        share = _step(train).share_of_ceiling or 0.0
        return describe(rates, f"the step reaches {share:.0%} of what matrix products alone allow")
    composing = {
        result.system: result.images_per_second
        for result in loader.results
        if result.system.startswith("cp2fast-") and result.share_of_ceiling is not None
    }
    loading = {stage: rate for stage, rate in rates.items() if stage != "model"}
    return describe(rates, _fastest(composing, loading))


def _fastest(composing: Mapping[str, float], loading: Mapping[str, float]) -> str:
    best = max(composing, key=composing.__getitem__)
    return f"{best} reaches {composing[best] / find_limit(loading).rate:.0%} of what loading allows"


def _stages(rates: Mapping[str, float]) -> Mapping[str, _Stage]:
    return _ON_GPU if "transfer" in rates else _ON_CPU


def _step(train: Report) -> Result:
    return next(result for result in train.results if result.system == "cp2fast")
