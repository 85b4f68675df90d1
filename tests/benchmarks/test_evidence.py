"""benchmarks/evidence.py: fair arms, an honest report, and a rehearsal at a tiny size."""

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import gpu_stages
from cp2fast.data.scenes import generate_scenes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import evidence  # noqa: E402
import evidence_arms  # noqa: E402
import evidence_data  # noqa: E402
import evidence_report  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evidence")
    generate_scenes(root / "source" / "nuclei-voc", 24, seed=0)
    evidence_data.prepare(root / "source", root / "data", [0, 1, 2], long_side=80)
    return root / "data"


def probe_result(arm: str, seed: int, linear: list[float]) -> dict[str, Any]:
    probes = [
        {"labels": 0.125, "place": "backbone", "seed": draw, "knn": 0.1, "linear": value}
        for draw, value in enumerate(linear)
    ]
    return {"job": {"kind": "probe", "key": f"camvid/{arm}/few/seed{seed}"}, "probes": probes}


def test_copies_are_small_and_their_lists_fixed(data: Path) -> None:
    lists = {
        file.stem: file.read_text().split()
        for file in (data / "nuclei" / "ImageSets" / "Segmentation").glob("*.txt")
    }
    assert set(lists["recipe_train"]) | set(lists["recipe_val"]) == set(lists["train"])
    assert not set(lists["recipe_train"]) & set(lists["recipe_val"])
    assert not set(lists["train"]) & set(lists["val"])
    assert len(lists["few0"]) == round(len(lists["train"]) / 8)
    assert set(lists["few0"]) < set(lists["train"])
    with Image.open(data / "nuclei" / "JPEGImages" / f"{lists['val'][0]}.jpg") as photo:
        assert max(photo.size) == 80
        size = photo.size
    with Image.open(data / "nuclei" / "SegmentationClass" / f"{lists['val'][0]}.png") as mask:
        assert mask.size == size
    assert len(list((data / "nuclei-unlabelled").iterdir())) == len(lists["train"])


def test_the_spread_of_draws_and_that_of_pretrainings_are_told_apart() -> None:
    """Draws of labels judge the same weights: they say nothing of another pretraining."""
    found = evidence_report.spread({"seed0": {"a": 0.2, "b": 0.4}, "seed1": {"a": 0.3, "b": 0.5}})
    assert found.mean == pytest.approx(0.35)
    assert found.over_draws == pytest.approx(0.1 * 2**0.5)
    assert found.over_seeds == pytest.approx(0.05 * 2**0.5)
    one = evidence_report.spread({"seed0": {"a": 0.2}})
    assert (one.over_draws, one.over_seeds, one.seeds) == (None, None, 1)


def test_differences_are_paired_by_pretraining_and_draw() -> None:
    values = {("random", 0): [0.20, 0.30], ("random", 1): [0.1, 0.5]}
    values |= {("cp2", 0): [0.26, 0.36], ("cp2", 1): [0.14, 0.54], ("cp2", 2): [0.9, 0.9]}
    results = [probe_result(arm, seed, linear) for (arm, seed), linear in values.items()]
    judged = {one["judge"]: one["miou"] for one in evidence_report.comparisons(results)}
    by_arm = judged["linear, backbone"]
    found = evidence_report.difference(by_arm["cp2"], by_arm["random"])
    assert found is not None
    assert (found.mean, found.seeds) == (pytest.approx(0.05), 2)
    assert found.over_draws == pytest.approx(0)
    assert found.over_seeds == pytest.approx(0.01 * 2**0.5)
    assert evidence_report.difference(by_arm["cp2"], {}) is None


def test_a_change_is_taken_when_it_helps_both_arms_together_and_the_best_of_each_key() -> None:
    linear = {
        "base": 0.2,
        "model.queue=512": 0.22,
        "model.queue=8192": 0.23,
        "train.lr=0.0005": 0.2,
    }
    rows = [
        {"change": change, "linear": value, "arms": {"cp2": {}, "no-paste": {}}}
        for change, value in linear.items()
    ]
    chosen = evidence_arms.chosen(evidence_arms.BASE, rows)
    assert chosen == evidence_arms.BASE | {"model.queue": 8192}
    one_arm = [row | {"arms": {"cp2": {}}} for row in rows[1:]]
    assert evidence_arms.chosen(evidence_arms.BASE, [rows[0], *one_arm]) == evidence_arms.BASE


def test_a_larger_network_is_shown_but_not_chosen() -> None:
    rows = [
        {"change": change, "linear": value, "arms": {"cp2": {}, "no-paste": {}}}
        for change, value in {"base": 0.20, "model.backbone=resnet50": 0.30}.items()
    ]
    assert evidence_arms.chosen(evidence_arms.BASE, rows) == evidence_arms.BASE


def test_the_arms_differ_in_nothing_but_what_names_them(data: Path) -> None:
    arguments = evidence.parse([str(data), "--cpu-hours", "1", "--sets", "nuclei"])
    words = {
        arm: set(evidence_arms.pretrain_words(arguments, evidence_arms.BASE, "nuclei", arm, 1))
        for arm in evidence_arms.ARMS
    }
    for arm, own in evidence_arms.ARMS.items():
        assert words[arm] ^ words["cp2"] == set(own)


def test_the_stage_of_gpu_sh_is_a_rehearsal_that_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First within CPU hours, then within minutes of the clock, of which all is done before."""
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # the script sets them for its workers
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = tmp_path / "results" / "evidence"
    job = gpu_stages.Job(gpu=False, photos=tmp_path, scenes=tmp_path, out=kept.parent)
    [command] = gpu_stages.STAGES["evidence"].commands(job)
    first, done_by_first = rehearse(command.words[2:], kept, monkeypatch)
    [out] = tmp_path.glob("*/evidence/results")
    again = ["--tiny", "--gpu-minutes", "60", "--out", str(out.parent), "--keep", str(kept)]
    report, done = rehearse(again, kept, monkeypatch)
    assert done == done_by_first
    assert report["comparisons"] == first["comparisons"]
    judges = {one["judge"] for one in report["comparisons"]}
    assert judges == {"linear, backbone", "k-NN, backbone", "fine-tuning"}
    for one in report["comparisons"]:
        assert set(one["miou"]) == {"random", "cp2", "no-dense", "no-paste"}
    with tarfile.open(kept / "evidence.tar.gz") as archive:
        names = archive.getnames()
    assert {"evidence.json", "probes-nuclei.webp", "runs/nuclei/cp2/seed0/metrics.jsonl"} <= {
        *names
    }
    assert not any(name.endswith((".pt", ".pth")) for name in names)
    results = out.glob("pretrain-*/**/*.json")
    assert {json.loads(file.read_text())["steps"] for file in results} == {2}


def rehearse(
    words: list[str], kept: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], dict[Path, int]]:
    """The report that it leaves, and when each job's result was written."""
    monkeypatch.setattr("sys.argv", ["evidence.py", *words])
    evidence.main()
    report = json.loads((kept / "evidence.json").read_text())
    assert report["left_out"] == []
    results = kept.parents[1].glob("*/evidence/results/**/*.json")
    return report, {file: file.stat().st_mtime_ns for file in results}
