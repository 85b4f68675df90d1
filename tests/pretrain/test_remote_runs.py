"""Runs on pictures that lie elsewhere: the same losses, through faults, kills and restarts."""

import tarfile
from pathlib import Path

import pytest

from tests.pretrain.runs import losses, run, write_photos
from tests.servers import S3, web_server

COUNT = 24


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos") / "all", COUNT)


@pytest.fixture(scope="module")
def shards(photos: Path) -> Path:
    """The same photos in four shards, by their names."""
    folder = photos.parent / "shards"
    folder.mkdir()
    for number in range(4):
        with tarfile.open(folder / f"part-{number:03d}.tar", "w") as tar:
            for path in sorted(photos.iterdir())[number * 6 : number * 6 + 6]:
                tar.add(path, path.name)
    return folder


@pytest.fixture(scope="module")
def expected(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[float, ...]]:
    """The losses of two epochs and a bit on the folder itself."""
    out = tmp_path_factory.mktemp("runs") / "folder"
    assert run(out, photos, "train.steps=14").returncode == 0
    return losses(out)


def test_folder_list_shards_and_object_store_give_the_same_losses(
    photos: Path,
    shards: Path,
    expected: list[tuple[float, ...]],
    s3: S3,
    tmp_path: Path,
) -> None:
    (tmp_path / "photos.txt").write_text("\n".join(map(str, sorted(photos.iterdir()))))
    bucket = s3.upload(photos.parent, "losses")
    for name, root in {
        "list": f"@{tmp_path}/photos.txt",
        "shards": str(shards),
        "pattern": f"{shards}/part-{{000..003}}.tar",
        "several": f"[{shards}/part-000.tar,{bucket}/shards/part-00[12].tar,{shards}/part-003.tar]",
        "objects": f"{bucket}/all",
        "remote shards": f"{bucket}/shards",
    }.items():
        out = tmp_path / name
        done = run(out, root, "train.steps=14")
        assert done.returncode == 0, done.stderr
        assert losses(out) == expected, name


def test_a_web_server_gives_the_same_losses(
    photos: Path, shards: Path, expected: list[tuple[float, ...]], s3: S3, tmp_path: Path
) -> None:
    with web_server(photos.parent) as url:
        for name in ("all", "shards"):
            out = tmp_path / name
            done = run(out, f"{url}/{name}", "train.steps=14")
            assert done.returncode == 0, done.stderr
            assert losses(out) == expected, name
