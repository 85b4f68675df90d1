"""``cp2fast probe`` and ``embed`` as a user runs them."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import numpy as np
import pytest

from cp2fast.data.scenes import generate_scenes
from cp2fast.errors import UserError
from cp2fast.probe.compare import compare_probes
from cp2fast.probe.features import Place
from tests.command_line import cp2fast, refusal
from tests.weights.export.trained_networks import save_finetuning, save_pretraining

SMALL = ["data.short_side=48", "data.workers=1", "model.device=cpu"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("probe")
    generate_scenes(root / "scenes", 8, seed=0)
    save_pretraining(root / "run")
    save_finetuning(root / "tuned")
    (root / "lr=0.1").mkdir()
    return root


def test_a_run_beside_random_weights(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["probe", "random", root / "run", f"data.root={root / 'scenes'}", *SMALL]
    done = cp2fast(*words, "--labels", "0.5", "--seeds", "2", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "linear over random" in done.stdout
    content = json.loads((out / "probe.json").read_text())
    train = (root / "scenes" / "ImageSets" / "Segmentation" / "train.txt").read_text().split()
    assert content["labelled_images"] == round(0.5 * len(train))
    assert [one["network"] for one in content["results"]] == ["random", str(root / "run")]
    for one in content["results"]:
        assert len(one["linear"]["miou"]) == len(one["knn"]["miou"]) == 2
    first, other = (fmean(one["linear"]["miou"]) for one in content["results"])
    assert f"{other - first:+.1%} σ" in done.stdout
    assert (out / "probe.png").read_bytes().startswith(b"\x89PNG")
    assert "exists already" in refusal(cp2fast(*words, "--out", out))


def test_the_features_are_those_of_the_place(root: Path) -> None:
    overrides = [f"data.root={root / 'scenes'}", *SMALL]
    scores = [
        compare_probes([str(root / "run")], overrides=overrides, labels=1, seeds=1, place=place)
        for place in get_args(Place)
    ]
    assert len({probed.values("linear")[0] for (probed,) in scores}) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["random"], "data.root is not set"),
        (["data.root=scenes"], "name what to probe"),
        (["random", "random", "data.root=scenes"], "named twice"),
        (["random", "data.root=scenes", "--labels", "0"], "--labels 0"),
        (["random", "data.root=nothing"], "there is no folder or file nothing"),
        (
            ["random", "data.root=s3://bucket/voc"],
            "s3://bucket/voc: images with masks are read from this machine only",
        ),
        (["nowhere", "data.root=scenes"], "nowhere"),
        (["scenes/classes.txt", "data.root=scenes"], "classes.txt"),
        (["scenes/../lr=0.1", "data.root=scenes"], "lr=0.1 is not a run folder"),
    ],
)
def test_bad_input_gets_one_line(
    root: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    placed = [word.replace("scenes", str(root / "scenes")) for word in words]
    assert message in refusal(cp2fast("probe", *placed, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"place": "neck"}, "place=neck: must be one of backbone, head, embedding"),
        ({"seeds": 0}, "--seeds 0: must be a whole number, 1 or more"),
        ({"seeds": 1.5}, "--seeds 1.5: must be a whole number, 1 or more"),
    ],
)
def test_in_python_a_wrong_place_or_number_of_seeds_is_refused_before_any_work(
    root: Path, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    overrides = ["model.backbone=resnet18", f"data.root={root / 'scenes'}", *SMALL]
    with pytest.raises(UserError) as caught:
        compare_probes(["random"], overrides=overrides, out=tmp_path / "out", **given)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_photos_become_vectors_and_a_picture(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.npz"
    done = cp2fast("embed", root / "run", root / "scenes", "--out", out)
    assert done.returncode == 0, done.stderr
    found = np.load(out)
    assert found["names"].shape == (8,)
    np.testing.assert_allclose(np.linalg.norm(found["vectors"], axis=1), 1, rtol=1e-5)
    assert out.with_suffix(".png").exists()
    assert "exists already" in refusal(
        cp2fast("embed", root / "run", root / "scenes", "--out", out)
    )


@pytest.mark.parametrize(
    ("run", "out", "message"),
    [
        ("run", "vectors.csv", ".npz or .parquet"),
        ("run", "nowhere/vectors.npz", "there is no folder"),
        ("tuned", "vectors.npz", "was fine-tuned"),
    ],
)
def test_embed_refuses_in_one_line(
    root: Path, tmp_path: Path, run: str, out: str, message: str
) -> None:
    done = cp2fast("embed", root / run, root / "scenes", "--out", tmp_path / out)
    assert message in refusal(done)
