"""``import cp2fast``: what the commands do, as functions."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import cp2fast
from cp2fast.data.scenes import generate_scenes
from tests.pretrain.runs import PHOTOS, TINY, losses, run, write_photos

pytestmark = pytest.mark.slow

OVERRIDES = dict(word.split("=") for word in TINY) | {"train.steps": 3}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), PHOTOS)


@pytest.fixture(scope="module")
def pretrained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> cp2fast.Run:
    out = tmp_path_factory.mktemp("runs") / "python"
    return cp2fast.pretrain(overrides={**OVERRIDES, "data.root": photos}, out=out, quiet=True)


def test_importing_it_imports_no_torch_and_every_name_is_there() -> None:
    """A function stays one when the package of its name is imported."""
    script = """
import sys, cp2fast
from inspect import isfunction
assert not {"torch", "numpy", "pydantic"} & set(sys.modules), sorted(sys.modules)
import cp2fast.pretrain.task, cp2fast.probe.features
from cp2fast.finetune import task
assert isfunction(cp2fast.pretrain) and isfunction(cp2fast.finetune) and isfunction(cp2fast.probe)
from cp2fast.pretrain.task import PretrainTask
assert task.FinetuneTask is not PretrainTask
for name in cp2fast.__all__:
    assert callable(getattr(cp2fast, name)), name
assert not hasattr(cp2fast, "nothing")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_pretraining_gives_what_the_command_gives(
    pretrained: cp2fast.Run, photos: Path, tmp_path: Path
) -> None:
    assert pretrained.step == 3
    assert pretrained.is_complete
    assert run(tmp_path / "command", photos, "train.steps=3").returncode == 0
    assert losses(pretrained.folder.path) == losses(tmp_path / "command")


def test_a_quiet_run_prints_nothing_and_a_callback_gets_each_row(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = []
    settings = cp2fast.Settings(**nested({**OVERRIDES, "data.root": photos}))
    cp2fast.pretrain(settings, out=tmp_path / "run", on_row=rows.append, quiet=True)
    assert capfd.readouterr() == ("", "")
    assert [(row["step"], row["loss"]) for row in rows] == [
        row[:2] for row in losses(tmp_path / "run")
    ]


def test_what_a_callback_raises_ends_the_run_which_goes_on_later(
    pretrained: cp2fast.Run, photos: Path, tmp_path: Path
) -> None:
    class EnoughError(Exception):
        pass

    def raise_it(row: object) -> None:
        raise EnoughError

    overrides = {**OVERRIDES, "data.root": photos}
    with pytest.raises(EnoughError):
        cp2fast.pretrain(overrides=overrides, out=tmp_path, on_row=raise_it, quiet=True)
    resumed = cp2fast.pretrain(out=tmp_path, resume=True, quiet=True)
    assert resumed.is_complete
    assert losses(tmp_path) == losses(pretrained.folder.path)


def test_a_run_in_a_thread_trains_too(photos: Path, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    overrides = {**OVERRIDES, "data.root": photos, "train.steps": 1}
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(cp2fast.pretrain, None, overrides, out=tmp_path / "run", quiet=True)
        assert done.result().is_complete


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data.rot": "photos"}, "unknown setting data.rot=photos: the nearest is data.root"),
        ({"train.steps": "many"}, "train.steps=many is not a whole number"),
        ({"data.root": Path("nowhere"), "data.batch_size": 2}, "use data.batch_size=3 or more"),
        ({"data.root": Path("nowhere")}, "nowhere"),
        ({"augment.crop_area": (1, 0.2)}, "must go from low to high"),
        ({"model.backbone": object()}, "model.backbone=<object"),
    ],
)
def test_bad_input_raises_the_line_that_the_command_prints(
    overrides: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(cp2fast.UserError) as caught:
        cp2fast.pretrain(overrides={**OVERRIDES, **overrides}, out=tmp_path / "run", quiet=True)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


AT_HOME: dict[str, Callable[[Path, Path], object]] = {
    "pretrain out": lambda run, photos: cp2fast.pretrain(
        overrides={**OVERRIDES, "data.root": photos}, out="~/taken"
    ),
    "finetune out": lambda run, photos: cp2fast.finetune(out="~/taken"),
    "preview out": lambda run, photos: cp2fast.preview(out="~/taken.png"),
    "similarity weights": lambda run, photos: cp2fast.similarity("~/nothing"),
    "similarity out": lambda run, photos: cp2fast.similarity(run, out="~/taken.png"),
    "check_data root": lambda run, photos: cp2fast.check_data("~/nothing"),
    "check_data out": lambda run, photos: cp2fast.check_data(photos, out="~/taken.png"),
    "embed photos": lambda run, photos: cp2fast.embed(run, "~/nothing"),
    "embed out": lambda run, photos: cp2fast.embed(run, photos, "~/taken.npz"),
    "pack source": lambda run, photos: cp2fast.pack("~/nothing", "new.tar"),
    "pack out": lambda run, photos: cp2fast.pack(photos, "~/taken.tar"),
    "probe network": lambda run, photos: cp2fast.probe("~/nothing", photos),
    "probe data": lambda run, photos: cp2fast.probe(run, "~/nothing"),
    "compare_probes out": lambda run, photos: cp2fast.compare_probes(["random"], out="~/taken"),
    "benchmark beton": lambda run, photos: cp2fast.benchmark("loader", beton="~/nothing.beton"),
    "arrange_voc folder": lambda run, photos: cp2fast.arrange_voc("~/taken.png"),
    "export run": lambda run, photos: cp2fast.export("~/nothing", "timm"),
    "export out": lambda run, photos: cp2fast.export(run, "timm", "~/taken.safetensors"),
    "load": lambda run, photos: cp2fast.load("~/nothing"),
}


@pytest.mark.parametrize("call", AT_HOME.values(), ids=AT_HOME)
def test_a_tilde_is_the_home_folder_in_every_path(
    call: Callable[[Path, Path], object],
    pretrained: cp2fast.Run,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each call is refused for what is in the home folder, or is not there."""
    home, here = tmp_path / "home", tmp_path / "here"
    (home / "taken").mkdir(parents=True)
    here.mkdir()
    for name in ("taken/file", "taken.png", "taken.npz", "taken.tar", "taken.safetensors"):
        (home / name).touch()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    with pytest.raises(cp2fast.UserError, match=re.escape(f"{home}/")):
        call(pretrained.folder.path, photos)
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"place": "neck"}, "place=neck: must be one of backbone, head, embedding"),
        ({"seeds": []}, "seeds is empty: name one or more"),
        ({"short_side": 0}, "short_side=0: must be at least 1 pixel"),
        ({"device": "gpu"}, "device=gpu cannot be used"),
        ({"labels": 2.0}, "labels=2: must be above 0 and at most 1"),
    ],
)
def test_a_probe_refuses_what_it_cannot_do(
    pretrained: cp2fast.Run, given: dict[str, object], message: str
) -> None:
    with pytest.raises(cp2fast.UserError) as caught:
        cp2fast.probe(pretrained.folder.path, "nowhere", **given)
    assert message in str(caught.value)


def test_a_tile_too_small_to_see_anything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(cp2fast.UserError, match="tile=0: must be at least 32 pixels"):
        cp2fast.predict(tmp_path / "run", "photos", tmp_path / "masks", tile=0)
    assert not (tmp_path / "masks").exists()


def test_a_recipe_with_an_impossible_name_is_refused() -> None:
    with pytest.raises(cp2fast.UserError, match="File name too long"):
        cp2fast.pretrain("a" * 300)


def test_fine_tuning_gives_its_scores(pretrained: cp2fast.Run, tmp_path: Path) -> None:
    generate_scenes(tmp_path / "scenes", 10, seed=5)
    overrides = {
        "data.root": tmp_path / "scenes",
        "data.batch_size": 3,
        "data.workers": 1,
        "data.short_side": 40,
        "model.size": 32,
        "model.init": str(pretrained.folder.path),
        "train.device": "cpu",
        "train.steps": 2,
    }
    out = tmp_path / "run"
    scores = cp2fast.finetune("voc_r50", overrides, out=out, quiet=True)
    assert 0 <= scores.miou <= scores.pixel_accuracy <= 1
    assert cp2fast.finetune(out=out, resume=True, quiet=True) == scores
    network = cp2fast.load(out)
    assert network.classes == tuple(scores.per_class)
    [probed] = cp2fast.probe(
        network, tmp_path / "scenes", labels=1, seeds=[0], short_side=32, device="cpu"
    )
    assert 0 <= probed.linear.miou <= 1
    assert torch.equal(
        network.backbone.state_dict()["bn1.running_mean"],
        cp2fast.load(out).backbone.state_dict()["bn1.running_mean"],
    )


def test_a_resumed_pretraining_is_not_taken_for_a_fine_tuning(pretrained: cp2fast.Run) -> None:
    with pytest.raises(cp2fast.UserError, match="holds a pretraining"):
        cp2fast.finetune(out=pretrained.folder.path, resume=True)


def test_an_export_gives_its_file(pretrained: cp2fast.Run, tmp_path: Path) -> None:
    out = cp2fast.export(pretrained.folder.path, "timm", tmp_path / "backbone.safetensors")
    assert out == tmp_path / "backbone.safetensors"
    assert out.stat().st_size > 0


def nested(overrides: dict[str, object]) -> dict[str, dict[str, object]]:
    tree: dict[str, dict[str, object]] = {}
    for key, value in overrides.items():
        section, _, name = key.partition(".")
        tree.setdefault(section, {})[name] = value
    return tree
