"""What a run shows of its features on the way, without being changed by it."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cp2fast.config import PretrainSettings
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.scenes import generate_scenes
from cp2fast.model.cp2 import build_cp2
from cp2fast.model.segmenter import Segmenter
from cp2fast.pretrain.watch import PICTURE, Watch, frozen_copy
from tests.command_line import refusal
from tests.pretrain.runs import run


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    generate_scenes(root, 10, seed=0)
    return root


def settings(scenes: Path, **train: object) -> PretrainSettings:
    model = {"backbone": "test_resnet", "head_channels": 8, "size": 32, "queue": 16}
    return PretrainSettings.model_validate(
        {"data": {"root": scenes}, "model": model, "train": train}
    )


def encoder(of: PretrainSettings, seed: int = 0) -> Segmenter:
    return build_cp2(of.model, seed).encoder_q.train()


def watch(of: PretrainSettings, folder: Path) -> tuple[Watch, list[str]]:
    said: list[str] = []
    (folder / "config.yaml").touch()  # that of a run
    assert of.data.root is not None
    return Watch(of, list_images(of.data.root), folder, said.append), said


def test_looking_leaves_network_and_generator_as_they_were(scenes: Path, tmp_path: Path) -> None:
    of = settings(scenes, probe=str(scenes))
    network = encoder(of)
    before, generator = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    look, said = watch(of, tmp_path)
    look.picture(network, 1)
    assert look.probe(network) is not None
    assert said == []
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert network.training


def test_the_picture_is_turned_to_the_colours_of_the_one_before(
    scenes: Path, tmp_path: Path
) -> None:
    of = settings(scenes)
    look, _ = watch(of, tmp_path)
    look.picture(encoder(of), 1)
    first = np.load(tmp_path / "features.npz")["last"]
    assert (tmp_path / PICTURE).read_bytes().startswith(b"\x89PNG")
    other, _ = watch(of, tmp_path)  # as after a resume
    other.picture(encoder(of), 2)
    np.testing.assert_allclose(np.load(tmp_path / "features.npz")["last"], first, atol=1e-6)
    other.picture(encoder(of, seed=5), 3)
    changed = np.load(tmp_path / "features.npz")["last"]
    assert (changed * first).sum() > 0


def test_the_picture_keeps_the_features_from_before_the_first_step(
    scenes: Path, tmp_path: Path
) -> None:
    of = settings(scenes)
    look, _ = watch(of, tmp_path)
    look.picture(encoder(of), 0)
    with Image.open(tmp_path / PICTURE) as picture:
        height = picture.height
    look.picture(encoder(of, seed=5), 3)
    with Image.open(tmp_path / PICTURE) as picture:
        assert picture.height > height
    kept = dict(np.load(tmp_path / "features.npz"))
    assert kept["first"].shape == kept["last"].shape
    assert not np.allclose(kept["first"], kept["last"])
    assert [name[-10:] for name in kept["names"][:2]] == ["_00000.jpg", "_00001.jpg"]


def test_a_probe_is_logged_by_both_judges(scenes: Path, tmp_path: Path) -> None:
    of = settings(scenes, probe=str(scenes))
    found = watch(of, tmp_path)[0].probe(encoder(of))
    assert found is not None
    assert 0 < found.linear.miou < 1
    assert 0 < found.knn.miou < 1


def test_without_a_set_there_is_no_probe(scenes: Path, tmp_path: Path) -> None:
    assert watch(settings(scenes), tmp_path)[0].probe(encoder(settings(scenes))) is None


def test_what_fails_is_named_once_and_left_out(scenes: Path, tmp_path: Path) -> None:
    of = settings(scenes, probe=str(tmp_path / "nothing"))
    look, said = watch(of, tmp_path)
    assert look.probe(encoder(of)) is None
    assert look.probe(encoder(of)) is None
    [line] = said
    assert "the probe failed and is left out from now on" in line
    assert "there is no folder or file" in line
    look.picture(encoder(of), 2)
    assert (tmp_path / PICTURE).exists()


def test_a_copy_has_the_weights_and_is_frozen(scenes: Path) -> None:
    network = encoder(settings(scenes))
    copied = frozen_copy(network, settings(scenes))
    assert not copied.training
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    for name, value in copied.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])


@pytest.mark.slow
def test_a_run_probes_as_often_as_asked_and_at_its_end(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run(out, scenes, f"train.probe={scenes}", "train.probe_every=2", "train.steps=3")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "probe_linear" in row] == [2, 3]
    assert all(0 < row["probe_knn"] < 1 for row in rows if "probe_knn" in row)
    assert [row["step"] for row in rows if "effective_rank" in row] == [1, 2, 3]
    assert (out / PICTURE).exists()
    assert (out / "curves.png").exists()


def test_a_probe_set_that_is_none_is_refused_before_the_run(scenes: Path, tmp_path: Path) -> None:
    line = refusal(run(tmp_path / "run", scenes, f"train.probe={tmp_path}", "train.steps=1"))
    assert "holds no labelled images" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_probe_that_fails_on_the_way_does_not_end_the_run(scenes: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(scenes, broken)
    for photo in broken.glob("JPEGImages/*.jpg"):  # found when they are decoded
        photo.write_bytes(photo.read_bytes()[: photo.stat().st_size // 2])
    done = run(tmp_path / "run", scenes, f"train.probe={broken}", "train.steps=2")
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("the probe failed and is left out from now on") == 1
