"""Whatever is cached, a run has the same losses bit for bit: resumed, and on two ranks, too."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import cp2fast
from tests.command_line import refusal
from tests.pretrain.runs import TINY, losses, run, wait_for_step, words, write_photos
from tests.processes import two_ranks

pytestmark = pytest.mark.slow

TWELVE = "train.steps=12"
HALF = f"data.cache_gib={60_000 / 2**30}"


@pytest.fixture(scope="module", params=["batch", "independent"])
def uncached(request, photos: Path, tmp_path_factory) -> tuple[str, Path]:
    background = f"data.background={request.param}"
    out = tmp_path_factory.mktemp("runs") / "uncached"
    done = run(out, photos, TWELVE, background, "data.cache=off")
    assert done.returncode == 0, done.stderr
    assert "cache:" not in done.stdout
    return background, out


WHOLE, PART = "all 22 images", r"\d+ of 22 images, 0 MiB of 0 MiB"


@pytest.mark.parametrize(
    ("settings", "held"),
    [([], WHOLE), ([HALF], PART), (["data.source=dali"], WHOLE)],
    ids=["whole", "half", "dali"],
)
def test_the_losses_are_those_without_a_cache(
    uncached: tuple[str, Path], photos: Path, tmp_path: Path, settings: list[str], held: str
) -> None:
    background, out = uncached
    done = run(tmp_path / "run", photos, TWELVE, background, "data.cache=host", *settings)
    assert done.returncode == 0, done.stderr
    assert re.search(f"cache: in host memory, {held}", done.stdout)
    assert losses(tmp_path / "run") == losses(out)


class EndError(Exception):
    """Ends a run from its callback."""


@pytest.fixture(scope="module")
def broken(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first seven of twelve steps with everything cached, ended by an error."""
    out = tmp_path_factory.mktemp("runs") / "broken"

    def end(row: Mapping[str, Any]) -> None:
        if row["step"] == 7:
            raise EndError

    settings = dict(word.split("=") for word in (*TINY, TWELVE, "train.checkpoint_minutes=1e-9"))
    overrides = {**settings, "data.root": photos, "data.cache": "host"}
    with pytest.raises(EndError):
        cp2fast.pretrain(overrides=overrides, out=out, on_row=end, quiet=True)
    return out


@pytest.mark.parametrize("then", ["data.cache=off", HALF])
def test_a_broken_run_may_go_on_with_another_cache(
    undisturbed: Path, broken: Path, photos: Path, tmp_path: Path, then: str
) -> None:
    out = shutil.copytree(broken, tmp_path / "run")
    done = run(out, photos, TWELVE, then, "--resume")
    assert done.returncode == 0, done.stderr
    assert losses(out) == losses(undisturbed)


def test_another_max_side_is_another_run(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(out, photos, "train.steps=2", "data.max_side=40").returncode == 0
    again = run(out, photos, "train.steps=3", "data.max_side=30", "--resume")
    assert "data.max_side=30, but the run" in refusal(again)


def shares(process: int) -> tuple[int, int]:
    """KiB of the cache that a process maps, and those it is charged with."""
    text = Path(f"/proc/{process}/smaps").read_text()
    maps = re.findall(r"memfd:cp2fast-cache.*?\nRss: +(\d+).*?\nPss: +(\d+)", text, re.S)
    rss, pss = zip(*maps, strict=True)
    return sum(map(int, rss)), sum(map(int, pss))


def test_two_ranks_fill_one_cache_which_counts_once(photos: Path, tmp_path: Path) -> None:
    large = write_photos(tmp_path / "photos", 40)
    long = "train.steps=100000"
    ranks = two_ranks(*words(tmp_path / "off", large, long, "data.cache=off"))
    wait_for_step(tmp_path / "off", 12, ranks[0])
    for rank in ranks:
        rank.kill()
        rank.communicate()

    ranks = two_ranks(*words(tmp_path / "on", large, long, "data.cache=host"))
    wait_for_step(tmp_path / "on", 12, ranks[0])
    mapped, charged = zip(*(shares(rank.pid) for rank in ranks), strict=True)
    assert min(mapped) > 200  # Both have touched all of it.
    assert sum(charged) == pytest.approx(max(mapped), rel=0.2)
    for rank in ranks:
        rank.kill()
        rank.communicate()
    assert losses(tmp_path / "on")[:12] == losses(tmp_path / "off")[:12]
