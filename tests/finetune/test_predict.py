"""Predictions: files, folders, sizes; nothing of the user's is overwritten."""

import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from cp2fast.config import FinetuneSettings
from cp2fast.data.scenes import voc_palette
from cp2fast.errors import UserError
from cp2fast.finetune.predict import predict
from cp2fast.finetune.start import build_network, resolve
from tests import command_line
from tests.command_line import cp2fast
from tests.servers import S3

SIZES = {"a.jpg": (40, 61), "b.png": (40, 61), "deep/c.jpg": (33, 20)}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = resolve(
        FinetuneSettings.model_validate(
            {
                "data": {"root": "scenes", "short_side": 32, "workers": 1, "batch_size": 2},
                "model": {"backbone": "test_resnet", "head_channels": 8, "size": 32},
            }
        )
    )
    state = {
        "kind": "finetune",
        "model": build_network(settings.model, 3, seed=0).state_dict(),
        "settings": settings.model_dump(mode="json"),
        "classes": ["sky", "road", "car"],
    }
    path = tmp_path_factory.mktemp("model") / "network.pt"
    torch.save(state, path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    random = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(image).save(folder / name)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_every_photo_gets_a_mask_and_an_overlay_of_its_size(
    checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    before = content(photos)
    predict(checkpoint, [photos], tmp_path / "masks")
    assert content(photos) == before
    made = {name: tmp_path / "masks" / Path(name).with_suffix(".png") for name in SIZES}
    for name, path in made.items():
        with Image.open(path) as mask:
            assert mask.size[::-1] == SIZES[name]
            assert mask.mode == "P"
            assert mask.getpalette("RGB") == list(voc_palette())
            assert np.asarray(mask).max() < 3
        with Image.open(path.with_name(f"{path.stem}_overlay.jpg")) as drawn:
            assert drawn.size[::-1] == SIZES[name]
    assert len(content(tmp_path / "masks")) == 2 * len(SIZES)


def test_probabilities_are_those_of_the_mask(
    checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    predict(checkpoint, [photos], tmp_path / "masks", probabilities=True)
    for name, size in SIZES.items():
        path = tmp_path / "masks" / Path(name).with_suffix(".npz")
        with np.load(path) as kept, Image.open(path.with_suffix(".png")) as mask:
            probabilities = kept["probabilities"].astype(np.float32)
            assert kept["classes"].tolist() == ["sky", "road", "car"]
            labels = np.asarray(mask)
        assert probabilities.shape == (3, *size)
        assert np.allclose(probabilities.sum(axis=0), 1, atol=2e-3)
        chosen = np.take_along_axis(probabilities, labels[None].astype(int), axis=0)[0]
        assert (probabilities.max(axis=0) - chosen).max() < 1e-3


def test_only_one_photo_of_a_batch_has_its_probabilities_in_memory(
    checkpoint: Path, tmp_path: Path
) -> None:
    state = torch.load(checkpoint, weights_only=True)
    state["settings"]["data"]["batch_size"] = 8
    torch.save(state, tmp_path / "network.pt")
    for number in range(9):
        folder = tmp_path / ("one" if number == 0 else "eight")
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (400, 300), (number, 20, 30)).save(folder / f"{number}.png")

    def most_memory(name: str) -> int:
        out = tmp_path / "out" / name
        tracemalloc.start()
        predict(tmp_path / "network.pt", tmp_path / name, out, probabilities=True)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    one, eight = most_memory("one"), most_memory("eight")
    assert eight < one + 8 * 5 * 300 * 400  # a photo has 3 bytes a pixel, its probabilities 6


def test_a_photo_too_large_is_segmented_in_tiles_of_its_own_size(
    checkpoint: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(1)
    picture = random.integers(0, 256, (90, 150, 3), np.uint8)
    for name in ("large.png", "small.png"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(picture if name == "large.png" else picture[:64, :64]).save(
            tmp_path / "photos" / name
        )
    predict(checkpoint, [tmp_path / "photos"], tmp_path / "masks", probabilities=True, tile=64)
    with np.load(tmp_path / "masks" / "large.npz") as kept:
        probabilities = kept["probabilities"]
    with np.load(tmp_path / "masks" / "small.npz") as kept:
        corner = kept["probabilities"]  # the first tile, as a photo of its own
    assert probabilities.shape == (3, 90, 150)
    assert np.allclose(probabilities[:, :56, :56], corner[:, :56, :56], atol=2e-3)
    with Image.open(tmp_path / "masks" / "large.png") as mask:
        labels = np.asarray(mask)[None].astype(int)
    chosen = np.take_along_axis(probabilities, labels, axis=0)[0]
    assert (probabilities.max(axis=0) - chosen).max() < 1e-3


def test_a_picture_that_is_mapped_is_segmented_as_one_that_is_read(
    checkpoint: Path, tmp_path: Path
) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (100, 70, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(picture).save(tmp_path / "photos" / "read.png")
    tifffile.imwrite(tmp_path / "photos" / "plain.tif", picture)
    tifffile.imwrite(tmp_path / "photos" / "packed.tif", picture, compression="zlib", tile=(16, 16))
    named = [tmp_path / "photos" / name for name in ("read.png", "plain.tif", "packed.tif")]
    predict(checkpoint, named, tmp_path / "masks", tile=48)
    masks = {path.name: path.read_bytes() for path in (tmp_path / "masks").glob("*.png")}
    assert masks["read.png"] == masks["plain.png"] == masks["packed.png"]


def test_masks_are_in_the_colours_of_the_run(
    checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    state = torch.load(checkpoint, weights_only=True)
    state["colours"] = [[1, 2, 3], [250, 50, 83], [36, 179, 83]]
    torch.save(state, tmp_path / "coloured.pt")
    predict(tmp_path / "coloured.pt", [photos / "a.jpg"], tmp_path / "masks")
    with Image.open(tmp_path / "masks" / "a.png") as mask:
        assert mask.getpalette("RGB")[:9] == [1, 2, 3, 250, 50, 83, 36, 179, 83]


def test_a_tilde_is_the_home_folder(
    checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "network.pt").symlink_to(checkpoint)
    for number, named in enumerate(["~/photos", [Path("~/photos/a.jpg"), "~/photos/b.png"]]):
        predict("~/network.pt", named, f"~/masks{number}")
        assert (tmp_path / f"masks{number}" / "a.png").exists()


def test_files_may_be_named_one_by_one(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    predict(checkpoint, [photos / "a.jpg", photos / "deep"], tmp_path / "masks")
    assert set(content(tmp_path / "masks")) == {
        "a.png",
        "a_overlay.jpg",
        "c.png",
        "c_overlay.jpg",
    }


def refusal(model: Path, inputs: list[Path], out: Path) -> str:
    with pytest.raises(UserError) as caught:
        predict(model, inputs, out)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_inputs_are_never_overwritten(checkpoint: Path, photos: Path) -> None:
    before = content(photos)
    assert "among the photos" in refusal(checkpoint, [photos], photos / "masks")
    assert "b.png" in refusal(checkpoint, [photos / "b.png"], photos)
    assert content(photos) == before


def test_masks_do_not_go_among_the_photos_that_are_named_one_by_one(
    checkpoint: Path, photos: Path
) -> None:
    before = content(photos)
    assert "among the photos" in refusal(checkpoint, [photos / "a.jpg"], photos)
    assert content(photos) == before


def test_masks_that_are_there_are_not_overwritten(
    checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "b.png").write_bytes(b"precious")
    message = refusal(checkpoint, [photos], tmp_path / "masks")
    assert "b.png exists; nothing is overwritten" in message
    assert content(tmp_path / "masks") == {"b.png": b"precious"}


def test_a_folder_that_cannot_be_made_is_named_before_the_work(
    checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    message = refusal(checkpoint, [photos], tmp_path / "file" / "masks")
    assert str(tmp_path / "file" / "masks") in message
    assert "choose another --out" in message


def test_two_photos_of_one_name_are_refused(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "a.png").write_bytes((photos / "b.png").read_bytes())
    assert "would replace" in refusal(checkpoint, [photos], tmp_path / "masks")
    assert not (tmp_path / "masks").exists()


def test_a_photo_named_as_the_folder_of_another_is_refused_before_the_work(
    checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "deep").rename(photos / "a.png")
    assert "masks/a.png" in refusal(checkpoint, [photos], tmp_path / "masks")
    assert not (tmp_path / "masks").exists()


def test_a_name_too_long_for_its_overlay_is_refused_before_the_work(
    checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "b.png").rename(photos / f"{'n' * 251}.png")
    assert "more than 255 bytes" in refusal(checkpoint, [photos], tmp_path / "masks")
    assert not (tmp_path / "masks").exists()


def test_a_photo_that_cannot_be_read_is_named_after_the_others(
    checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "bad.jpg").write_bytes(b"nothing")
    (photos / "worse.jpg").write_bytes(b"<html>")
    found = predict(checkpoint, photos, tmp_path / "masks")
    assert set(found.unreadable) == {str(photos / "bad.jpg"), str(photos / "worse.jpg")}
    assert found.masks == {
        str(photos / name): tmp_path / "masks" / Path(name).with_suffix(".png") for name in SIZES
    }
    assert found.classes == ("sky", "road", "car")
    assert len(content(tmp_path / "masks")) == 2 * len(SIZES)
    done = cp2fast("predict", checkpoint, photos, "--out", tmp_path / "again")
    line = command_line.refusal(done)
    assert "bad.jpg: text" in line
    assert "(and 1 more, all named above)" in line
    assert "bad.jpg: text" in done.stdout
    assert "worse.jpg: an HTML page" in done.stdout


def test_a_pretraining_is_refused(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    torch.save(state | {"kind": "pretrain"}, tmp_path / "pretraining.pt")
    message = refusal(tmp_path / "pretraining.pt", [photos], tmp_path / "masks")
    assert "finetune-voc" in message


def test_what_is_not_there_is_named(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    assert "nothing.jpg" in refusal(checkpoint, [tmp_path / "nothing.jpg"], tmp_path / "masks")
    assert "nothing.pt" in refusal(tmp_path / "nothing.pt", [photos], tmp_path / "masks")


@pytest.mark.slow
def test_photos_may_be_named_in_every_way_that_data_root_takes(
    checkpoint: Path, photos: Path, s3: S3, tmp_path: Path
) -> None:
    """A list, a pattern, a shard and an object store give the masks of the folder."""
    predict(checkpoint, [photos], tmp_path / "folder")
    expected = content(tmp_path / "folder")
    (tmp_path / "list.txt").write_text("\n".join(map(str, photos.rglob("*.*"))))
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(photos, ".")
    roots = {
        "list": Path(f"@{tmp_path}/list.txt"),
        "pattern": photos / "**" / "*.*",
        "shard": tmp_path / "photos.tar",
        "bucket": s3.upload(photos, "to-predict"),
    }
    for name, root in roots.items():
        predict(checkpoint, [root], tmp_path / name)
        assert content(tmp_path / name) == expected, name


def test_a_name_in_a_shard_does_not_lead_out_of_the_folder_of_the_masks(
    checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for name in ("../../up.jpg", "/root.jpg"):
            member = tarfile.TarInfo(name)
            member.size = (photos / "a.jpg").stat().st_size
            tar.addfile(member, (photos / "a.jpg").open("rb"))
    predict(checkpoint, [tmp_path / "photos.tar"], tmp_path / "out" / "masks")
    names = {"up.png", "up_overlay.jpg", "root.png", "root_overlay.jpg"}
    assert set(content(tmp_path / "out")) == {f"masks/{name}" for name in names}
