"""The sentence names the stage that limits, what is reached of the limit, and the setting."""

import re
from dataclasses import replace

import pytest

from cp2fast.bench.bottleneck import (
    describe_loading,
    describe_training,
    find_limit,
    stages_of_training,
)
from cp2fast.bench.report import Report, results_of
from cp2fast.bench.timing import Rate

FAST = {"read": 9000.0, "decode": 8000.0, "augment": 7000.0}
ON_GPU = {**FAST, "transfer": 6000.0, "model": 5000.0}
SAID = {
    "read": "reading limits: 100 samples/s alone, 100% of the time of the disk.*; keep.*disk",
    "decode": "decoding limits: 100 samples/s alone, .* of the cores.*; raise data.workers",
    "augment": "augmentation limits: 100 samples/s alone.*model.size",
    "transfer": "the transfer to the GPU limits: 100 samples/s.* of the bus.*data.decode=gpu",
    "model": "the model limits: 100 samples/s alone.*model.head",
}


def reports(rates: dict[str, float]):
    """Of the loader, whose best source reaches half, and of the step, at a quarter."""
    loading = {stage: rate for stage, rate in rates.items() if stage != "model"}
    pairs = find_limit({s: rate for s, rate in loading.items() if s != "read"}).rate
    half = find_limit(loading).rate / 2
    sources = {
        "cp2fast-torch": Rate((half / 9,)),
        "cp2fast-dali": Rate((half,)),
        "cp2fast-ffcv": Rate((9 * half,)),
        "decode-dali": Rate((99 * half,)),
    }
    ceilings = {"decode packed": 10**6, **loading, "pairs": pairs}
    limited_by = {"cp2fast-torch": "pairs", "cp2fast-dali": "pairs", "decode-dali": "decode"}
    steps = {"original": Rate((1.0,)), "cp2fast": Rate((rates["model"],))}
    peak = {"matrix products": 4 * rates["model"]}
    return (
        Report("loader", {}, results_of(sources, ceilings, limited_by), ceilings, ""),
        Report("train", {}, results_of(steps, peak, {"cp2fast": "matrix products"}), peak, ""),
    )


@pytest.mark.parametrize("stage", SAID)
def test_on_a_gpu_each_stage_is_named_when_it_is_the_slowest(stage) -> None:
    rates = ON_GPU | {stage: 100.0}
    sentence = describe_training(*reports(rates))
    assert re.search(SAID[stage], sentence), sentence
    reached = (
        "the step reaches 25% of what matrix"
        if stage == "model"
        else "cp2fast-dali reaches 50% of what loading"
    )
    assert reached in sentence
    assert all(f"{other} " in sentence for other in ON_GPU if other != stage)
    assert sentence.count("\n") == 0


@pytest.mark.parametrize("stage", ["read", "decode", "augment", "model"])
def test_without_a_gpu_nothing_is_transferred(stage) -> None:
    rates = {**FAST, "model": 5000.0} | {stage: 100.0}
    sentence = describe_training(*reports(rates))
    assert re.search(SAID[stage], sentence), sentence
    assert "transfer" not in sentence
    assert ("train.device=cuda" in sentence) == (stage in ("augment", "model"))


@pytest.mark.parametrize("stage", ["read", "decode", "augment", "transfer"])
def test_the_loaders_own_sentence(stage) -> None:
    rates = {name: rate for name, rate in ON_GPU.items() if name != "model"} | {stage: 100.0}
    sentence = describe_loading({"cp2fast-torch": 1.0, "cp2fast-dali": 50.0}, rates)
    assert re.search(SAID[stage], sentence), sentence
    assert "cp2fast-dali reaches 50%" in sentence


def test_stages_of_one_resource_take_turns_and_resources_work_side_by_side() -> None:
    disk = find_limit({"read": 250.0, "decode": 400.0, "augment": 1600.0})
    assert (disk.stage, disk.rate, disk.share) == ("read", 250.0, 1.0)
    cores = find_limit({"read": 330.0, "decode": 400.0, "augment": 1600.0})
    assert (cores.stage, cores.rate, cores.share) == (
        "decode",
        pytest.approx(320),
        pytest.approx(0.8),
    )
    gpu = {"read": 999.0, "decode": 400.0, "transfer": 900.0, "augment": 700.0}
    assert find_limit(gpu).rate == pytest.approx(400)
    both = find_limit({**gpu, "model": 700.0})  # the GPU composes and trains
    assert (both.rate, both.share) == (pytest.approx(350), pytest.approx(0.5))


def test_the_stages_are_those_of_both_benchmarks() -> None:
    loader, train = reports(ON_GPU)
    assert stages_of_training(loader, train) == ON_GPU
    del loader.ceilings["transfer"]
    on_cpu = stages_of_training(replace(loader, missing={"transfer": "no GPU"}), train)
    assert set(on_cpu) == {"read", "decode", "augment", "model"}
