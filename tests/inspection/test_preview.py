"""cp2fast preview: pictures on disk, and what is refused."""

import re
from pathlib import Path

import pytest
from PIL import Image

from cp2fast import recipes
from cp2fast.config import FinetuneSettings, PretrainSettings
from cp2fast.errors import UserError
from cp2fast.inspection.preview import preview, similarity
from tests.command_line import cp2fast, refusal
from tests.inspection.tiny import TINY


@pytest.fixture(scope="module")
def run_folder(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    words = [*TINY, f"data.root={scenes}", "train.steps=1", "--out", str(out)]
    assert cp2fast("pretrain", *words).returncode == 0
    return out


def test_each_pair_is_a_row_of_the_picture(settings: PretrainSettings, tmp_path: Path) -> None:
    heights = []
    for count in (1, 2):
        path = tmp_path / f"{count}.png"
        preview(settings, out=path, count=count)
        with Image.open(path) as picture:
            heights.append(picture.height)
            assert picture.width > 1000
    assert heights[1] > heights[0] + 300


def test_the_same_settings_draw_the_same_picture_and_another_seed_another(
    settings: PretrainSettings, tmp_path: Path
) -> None:
    other = settings.model_copy(update={"train": settings.train.model_copy(update={"seed": 1})})
    for name, of in (("a", settings), ("b", settings), ("c", other)):
        preview(of, out=tmp_path / f"{name}.png", count=1)
    first, again, different = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == again
    assert first != different


def test_webp_is_written_where_the_name_says_so(settings: PretrainSettings, tmp_path: Path) -> None:
    preview(settings, out=tmp_path / "pairs.webp", count=1)
    with Image.open(tmp_path / "pairs.webp") as picture:
        assert picture.format == "WEBP"


def test_similarity_maps_of_a_run_need_no_other_settings(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cp2fast("preview", "--model", str(run_folder), "--n", "2")
    assert done.returncode == 0, done.stderr
    assert "missing 0" in done.stdout
    assert "foreground minus background" in done.stdout
    assert re.search(r"^\d+ foreground cells of 8 pairs: ", done.stdout, re.M)
    with Image.open(tmp_path / "similarity.png") as picture:
        assert picture.format == "PNG"


def test_a_checkpoint_is_taken_as_its_run(run_folder: Path, tmp_path: Path) -> None:
    [checkpoint] = (run_folder / "checkpoints").iterdir()
    words = ("--model", str(checkpoint), "--n", "1", "--out", str(tmp_path / "maps.png"))
    done = cp2fast("preview", *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "maps.png").is_file()


def test_a_picture_is_never_overwritten(
    settings: PretrainSettings, run_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.png"
    path.write_text("precious")
    for draw in (
        lambda: preview(settings, out=path, count=1),
        lambda: similarity(run_folder, settings, out=path, count=1),
    ):
        with pytest.raises(UserError, match=r"mine.png exists already.*--out"):
            draw()
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "message"),
    [("pairs.gif", "PNG or WebP"), ("pairs", "PNG or WebP"), ("nowhere/pairs.png", "nowhere")],
)
def test_a_picture_that_cannot_be_written_is_refused_before_the_work(
    settings: PretrainSettings, tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        preview(settings, out=tmp_path / name, count=1)
    assert list(tmp_path.iterdir()) == []


def test_weights_without_a_head_are_refused(settings: PretrainSettings, tmp_path: Path) -> None:
    import torch

    from cp2fast.model.cp2 import build_cp2

    encoder = build_cp2(settings.model, 0).encoder_q
    torch.save(encoder.backbone.state_dict(), tmp_path / "backbone.pt")
    with pytest.raises(UserError, match="no dense embedding"):
        similarity(tmp_path / "backbone.pt", settings, out=tmp_path / "maps.png", count=1)
    assert not (tmp_path / "maps.png").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.background=none", "no key has both foreground and background; the true place"),
        ("augment.crop_area=[0.001, 0.001]", "trained; no key shows a place of its query."),
    ],
)
def test_a_figure_that_these_pairs_do_not_have_is_not_given(
    run_folder: Path, scenes: Path, tmp_path: Path, override: str, said: str
) -> None:
    words = [*TINY, f"data.root={scenes}", override]
    found = str(similarity(run_folder, None, words, out=tmp_path / "maps.png", count=1))
    assert said in found
    assert "nan" not in found


@pytest.mark.parametrize("background", ["batch", "independent"])
def test_figures_are_of_twice_as_many_pairs_as_are_drawn_and_of_eight_at_least(
    run_folder: Path, scenes: Path, tmp_path: Path, background: str
) -> None:
    words = [*TINY, f"data.root={scenes}", f"data.background={background}"]
    for count, pairs in ((1, 8), (5, 10)):
        out = tmp_path / f"{count}.png"
        assert len(similarity(run_folder, None, words, out=out, count=count).pairs) == pairs


def test_pairs_without_foreground_cells_are_refused(
    run_folder: Path, scenes: Path, tmp_path: Path
) -> None:
    words = [*TINY, f"data.root={scenes}", "augment.paste_area=[0.0001, 0.0001]"]
    with pytest.raises(UserError, match=r"no foreground cell.*augment\.paste_area"):
        similarity(run_folder, None, words, out=tmp_path / "maps.png", count=1)
    assert not (tmp_path / "maps.png").exists()


def test_what_is_read_is_checked_before_where_the_picture_goes(tmp_path: Path) -> None:
    there = tmp_path / "mine.png"
    there.write_text("precious")
    for words, named in (
        (["r50", f"data.root={tmp_path}/nowhere"], "there is no folder"),
        (["--model", f"{tmp_path}/nowhere"], "no weights at"),
        (["--model", str(tmp_path)], "is not a run folder"),
    ):
        line = refusal(cp2fast("preview", *words, "--out", there))
        assert named in line
        assert str(tmp_path) in line


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = cp2fast("preview", "r50", "data.root=nowhere", "--out", tmp_path / "preview.png")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "nowhere" in line


def test_a_fine_tuned_run_has_no_similarity_maps(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "best.pt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"")
    (tmp_path / "config.yaml").write_text(recipes.to_yaml(FinetuneSettings()))
    for named in (tmp_path, checkpoint):
        line = refusal(cp2fast("preview", "--model", str(named)))
        assert f"{named} was fine-tuned" in line
        assert "name a run of cp2fast pretrain" in line
