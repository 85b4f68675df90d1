"""``cp2fast bench`` as a user runs it."""

import json
import re

import pytest
from PIL import Image

from cp2fast import benchmark
from cp2fast.errors import UserError
from tests.command_line import cp2fast, refusal
from tests.data import image_files

pytestmark = pytest.mark.slow

TINY = ["model.size=32", "model.backbone=test_resnet", "model.head_channels=16", "model.queue=64"]
QUICK = ["--rounds", "1", "--seconds", "0.01"]


@pytest.fixture
def photos(tmp_path):
    for number in range(8):
        image_files.photo(60 + 7 * number, 90 - 5 * number, number).save(tmp_path / f"{number}.jpg")
    return tmp_path


def test_everything_is_measured_shown_kept_drawn_and_compared(photos, tmp_path) -> None:
    common = [*QUICK, f"data.root={photos}", "data.batch_size=4", "data.workers=1", *TINY]
    kept, chart = tmp_path / "all.json", tmp_path / "all.png"
    done = cp2fast("bench", "all", *common, "--json", kept, "--plot", chart)
    assert done.returncode == 0, done.stderr
    result = json.loads(kept.read_text())
    assert {row["benchmark"] for row in result["results"]} == {"loader", "augment", "train", "run"}
    announced = re.findall(r"^bench (\w+): \d+ \w+ and \w+, .*: at least \d s$", done.stderr, re.M)
    told = re.findall(r"^bench (\w+): round 1 of 1 done", done.stderr, re.M)
    assert announced == ["loader", "augment", "train", "run"]
    assert told == ["loader", "augment", "train", "run"]
    assert {"original", "cp2fast-dali", "cp2fast-cpu", "cp2fast"} <= {
        row["system"] for row in result["results"]
    }
    assert result["bottleneck"] == done.stdout.splitlines()[-1]
    assert re.match(r".* limits: .* reaches \d+% of what .*; .*model\.", result["bottleneck"])
    assert set(result["stages"]) == {"read", "decode", "augment", "model"}
    assert all(row["images_per_second"] > 0 for row in result["results"])
    assert result["versions"]["commit"]
    assert all(report["settings"]["seed"] == 0 for report in result["reports"])
    with Image.open(chart) as image:
        assert image.format == "PNG"

    again = cp2fast("bench", "augment", *common, "--against", kept)
    assert again.returncode == 0, again.stderr
    assert "now / then" in again.stdout


def test_what_was_measured_is_kept_though_a_later_benchmark_fails(photos, tmp_path) -> None:
    kept = tmp_path / "all.json"
    options = [*QUICK, f"data.root={photos}", "data.batch_size=4", "data.workers=1", *TINY]
    on_the_cpu = ["train.device=cpu", "train.precision=fp16"]
    done = cp2fast("bench", "all", *options, *on_the_cpu, "--json", kept)
    assert done.returncode == 2
    assert "train.precision=fp16 needs a GPU" in done.stderr.splitlines()[-1]
    result = json.loads(kept.read_text())
    assert [report["benchmark"] for report in result["reports"]] == ["loader", "augment"]
    assert {"loader: decode", "augment: memory of the CPU"} <= result["ceilings"].keys()


@pytest.mark.parametrize(
    ("times", "named"),
    [
        ({"rounds": 0}, "rounds=0: must be 1 or more"),
        ({"seconds": -1.0}, "seconds=-1: must be 0 or more"),
        ({"seconds": float("nan")}, "seconds=nan: must be 0 or more"),
    ],
)
def test_times_that_cannot_be_are_refused_before_anything_is_measured(times, named) -> None:
    with pytest.raises(UserError, match=f"^{named}$"):
        benchmark("augment", ["data.root=nowhere"], **times)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["loading"], "no benchmark 'loading'"),
        (["augment", "data.root=nowhere"], "nowhere"),
        (["augment", "data.rot=x"], "data.root"),
        (["augment", "--json", "there.json"], "there.json exists already"),
        (["augment", "--plot", "no/chart.png"], "there is no folder no for chart.png"),
        (["augment", "--against", "absent.json"], "absent.json cannot be read (No such file"),
        (["loader", "--beton", "no/a.beton"], "--beton no/a.beton: there is no such .beton file"),
        (["loader", "--beton", "there.json"], "--beton there.json: there is no such .beton file"),
        (["all", "model.backbone=no_such_network"], "model.backbone=no_such_network is not"),
        (["run", "model.size=100"], "must be a multiple of 16; use model.size=96"),
        (["all", "--beton", "."], "--beton .: there is no such .beton file"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(
    tmp_path, monkeypatch, arguments, named
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.json").write_text("mine")
    assert named in refusal(cp2fast("bench", *arguments))
    assert (tmp_path / "there.json").read_text() == "mine"
