"""Runs on aerial tiles, x-rays and a phone's pictures, from doctor's recipe to predictions."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cp2fast import recipes
from cp2fast.config import PretrainSettings
from cp2fast.weights.trained import open_trained
from tests.command_line import cp2fast, refusal
from tests.data.picture_sets import aerial, phone, tile, write_tile, x_rays
from tests.pretrain.runs import TINY, losses, run

pytestmark = pytest.mark.slow

STEPS = "train.steps=2"


def stored(out: Path) -> PretrainSettings:
    return recipes.load(PretrainSettings, str(out / "config.yaml"), [])


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return aerial(tmp_path_factory.mktemp("aerial") / "tiles")


@pytest.fixture(scope="module")
def aerial_run(tiles: Path) -> Path:
    out = tiles.with_name("run")
    done = run(out, tiles, STEPS, "data.bands=4,3,2")
    assert done.returncode == 0, done.stderr
    return out


def test_the_range_that_was_found_is_said_and_kept(aerial_run: Path, tiles: Path) -> None:
    data = stored(aerial_run).data
    assert isinstance(data.range, tuple)
    assert data.bands == (4, 3, 2)
    again = run(tiles.with_name("again"), tiles, STEPS, "data.bands=[4,3,2]")
    low, high = data.range
    assert f"data.range=[{low:.0f},{high:.0f}]" in again.stdout
    assert losses(tiles.with_name("again")) == losses(aerial_run)


def test_a_resumed_run_keeps_its_range_though_auto_is_said_again(
    tiles: Path, tmp_path: Path
) -> None:
    words = ("data.bands=4,3,2", "data.range=auto")
    assert run(tmp_path / "run", tiles, "train.steps=1", *words).returncode == 0
    before = stored(tmp_path / "run").data
    done = run(tmp_path / "run", tiles, STEPS, *words, "--resume")
    assert done.returncode == 0, done.stderr
    assert stored(tmp_path / "run").data == before
    other = run(tmp_path / "run", tiles, "train.steps=3", "data.range=0,5", words[0], "--resume")
    assert "data.range=(0.0, 5.0), but the run" in refusal(other)


def test_many_bands_without_a_choice_are_refused_in_one_line(tiles: Path, tmp_path: Path) -> None:
    line = refusal(run(tmp_path / "run", tiles, STEPS))
    assert "13 bands: choose three with data.bands=[RED,GREEN,BLUE]" in line
    assert not (tmp_path / "run").exists()


def test_fine_tuning_and_prediction_see_what_pretraining_saw(
    aerial_run: Path, tmp_path: Path
) -> None:
    for number in range(8):
        values = tile(number)
        write_tile(tmp_path / "set" / "images" / f"{number}.tif", values)
        (tmp_path / "set" / "masks").mkdir(exist_ok=True)
        mask = (values[:, :, 3] > 1500).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / "set" / "masks" / f"{number}.png")
    tuned = cp2fast(
        *("finetune-voc", f"data.root={tmp_path / 'set'}", f"model.init={aerial_run}"),
        *("train.steps=2", "data.batch_size=2", "model.size=32", "data.short_side=40"),
        *("train.device=cpu", "data.workers=1", "--out", str(tmp_path / "tuned")),
    )
    assert tuned.returncode == 0, tuned.stderr
    data = yaml.safe_load((tmp_path / "tuned" / "config.yaml").read_text())["data"]
    assert tuple(data["range"]) == stored(aerial_run).data.range
    assert data["bands"] == [4, 3, 2]
    found = cp2fast("predict", tmp_path / "tuned", tmp_path / "set" / "images", "--out",
                    tmp_path / "masks")  # fmt: skip
    assert found.returncode == 0, found.stderr
    overlay = np.array(Image.open(tmp_path / "masks" / "0_overlay.jpg"))
    assert overlay.shape == (70, 90, 3)
    assert np.ptp(overlay) > 150  # Mapped by its range; by its type it would be nearly black.


def test_exports_say_what_the_network_was_shown(aerial_run: Path, tmp_path: Path) -> None:
    weights = tmp_path / "tiles.safetensors"
    done = cp2fast("export", aerial_run, "--to", "timm", "--out", weights)
    assert done.returncode == 0, done.stderr
    (low, high), bands = open_trained(aerial_run).values
    assert bands == (4, 3, 2)
    card = next(path.read_text() for path in tmp_path.iterdir() if path.suffix == ".md")
    assert f"{low:.0f} became 0, and {high:.0f} 1" in card
    assert "the bands [4, 3, 2]" in card


def test_a_packed_set_is_what_a_run_on_the_files_sees(
    aerial_run: Path, tiles: Path, tmp_path: Path
) -> None:
    packed = cp2fast("pack", tiles, tmp_path / "tiles.tar", "--bands", "4,3,2", "--quality", "95")
    assert packed.returncode == 0, packed.stderr
    low, high = stored(aerial_run).data.range
    assert f"data.range=[{low:.0f},{high:.0f}]" in packed.stdout
    assert run(tmp_path / "run", tmp_path / "tiles.tar", STEPS).returncode == 0
    packed_loss, loss = losses(tmp_path / "run")[0][1], losses(aerial_run)[0][1]
    assert packed_loss == pytest.approx(loss, rel=0.1)  # JPEG is lossy
    assert "13 bands" in refusal(cp2fast("pack", tiles, tmp_path / "none.tar"))


def test_x_rays_of_both_polarities(tmp_path: Path) -> None:
    done = run(tmp_path / "run", x_rays(tmp_path / "x"), STEPS)
    assert done.returncode == 0, done.stderr
    low, high = stored(tmp_path / "run").data.range
    assert 0 < low < 1500 < high < 4096


def test_a_phones_pictures(tmp_path: Path) -> None:
    done = run(tmp_path / "run", phone(tmp_path / "phone"), STEPS)
    assert done.returncode == 0, done.stderr
    assert stored(tmp_path / "run").data.range == "auto"


def test_doctors_recipe_previews_and_trains(tiles: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "my.yaml"
    words = [word for word in TINY if "log_every" not in word]
    found = cp2fast("doctor", *words, f"data.root={tiles}", "--write", recipe, "--json",
                    tmp_path / "doctor.json")  # fmt: skip
    assert found.returncode == 0, found.stdout
    assert f"next: cp2fast pretrain {recipe}" in found.stdout
    proposed = recipes.load(PretrainSettings, str(recipe), [])
    assert proposed.data.bands == (4, 3, 2)
    assert "Sentinel-2" in recipe.read_text()
    written = json.loads((tmp_path / "doctor.json").read_text())["data"]["proposal"]
    assert written["range"] == list(proposed.data.range)
    shown = np.concatenate([tile(number)[:, :, [3, 2, 1]].reshape(-1, 3) for number in range(8)])
    shown = shown[(shown > 0).all(axis=1)]
    low, high = proposed.data.range
    levels = ((shown - low) / (high - low)).clip(0, 1)
    assert proposed.augment.mean == pytest.approx(levels.mean(axis=0), abs=0.02)
    assert proposed.augment.std == pytest.approx(levels.std(axis=0), abs=0.02)
    preview = cp2fast("preview", recipe, "--n", "1", "--out", tmp_path / "preview.png")
    assert preview.returncode == 0, preview.stderr
    trained = cp2fast("pretrain", recipe, STEPS, "--out", tmp_path / "run")
    assert trained.returncode == 0, trained.stderr
    assert "already" in refusal(cp2fast("doctor", f"data.root={tiles}", "--write", recipe))
    assert "data.root=DIR" in refusal(cp2fast("doctor", "--write", tmp_path / "other.yaml"))
