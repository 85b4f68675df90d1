"""Runs on pictures that lie elsewhere: the same losses, through faults, kills and restarts."""

import shutil
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.remote.disk_cache import DiskCache
from tests.command_line import cp2fast
from tests.pretrain.runs import (
    losses,
    metrics,
    run,
    wait_for_step,
    words,
    write_photos,
)
from tests.processes import Process
from tests.servers import S3, Proxy, certificate, found_at, set_environment, web_server

pytestmark = pytest.mark.slow

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
        "several": f"[{shards}/part-{{000..001}}.tar,{bucket}/shards/part-00[23].tar]",
        "objects": f"{bucket}/all",
        "remote shards": f"{bucket}/shards",
    }.items():
        out = tmp_path / name
        done = run(out, root, "train.steps=14")
        assert done.returncode == 0, done.stderr
        assert losses(out) == expected, name


def test_a_web_server_by_https_gives_the_same_losses(
    photos: Path,
    shards: Path,
    expected: list[tuple[float, ...]],
    s3: S3,
    tmp_path: Path,
) -> None:
    pem = certificate(tmp_path)
    with web_server(photos.parent, pem) as url:
        # In a process of its own, as what is trusted is read once.
        asked = words(tmp_path / "run", f"{url}/shards", "train.steps=14")
        process = Process(*asked, SSL_CERT_FILE=pem)
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert [row[0] for row in losses(tmp_path / "run")] == [row[0] for row in expected]
    assert np.allclose(losses(tmp_path / "run"), expected, rtol=1e-4)


def test_a_run_from_an_object_store_that_is_killed_goes_on_as_if_it_was_not(
    shards: Path, s3: S3, tmp_path: Path
) -> None:
    """In windows of two shards, mid-epoch, with another number of workers and no cache left.

    The run that was not killed reads the same shards from the disk.
    """
    bucket = s3.upload(shards, "killed-run")
    windowed = ["train.steps=14", "data.window=2", "data.cache=off"]
    assert run(tmp_path / "whole", shards, *windowed).returncode == 0
    out = tmp_path / "killed"
    process = Process(*words(out, bucket, *windowed, "train.checkpoint_minutes=0.0001"))
    wait_for_step(out, 4, process)
    process.kill()
    process.wait()
    shutil.rmtree(tmp_path / "cache")
    done = run(out, bucket, *windowed, "data.workers=2", "--resume")
    assert done.returncode == 0, done.stderr
    assert losses(out) == losses(tmp_path / "whole")


def test_a_run_from_remote_shards_goes_on_by_the_words_that_started_it(
    shards: Path, s3: S3, tmp_path: Path
) -> None:
    bucket = s3.upload(shards, "same-words")
    out = tmp_path / "run"
    command, *settings = words(out, bucket, "train.steps=2")
    assert cp2fast(command, "demo", *settings).returncode == 0
    (out / "curves.png").unlink()
    done = cp2fast(command, "demo", *settings, "--resume")
    assert done.returncode == 0, done.stderr
    assert (out / "curves.png").exists()


def test_ten_seconds_of_refusals_do_not_end_a_run(
    shards: Path,
    expected: list[tuple[float, ...]],
    s3: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket = s3.upload(shards, "refused")
    out = tmp_path / "run"
    with Proxy(s3.port) as proxy:
        set_environment(monkeypatch, found_at(proxy.port), tmp_path)
        listed = list_images(bucket)
        shutil.rmtree(tmp_path / "cache" / "cp2fast" / "objects", ignore_errors=True)
        assert len(listed) == COUNT
        proxy.delay = 0.05
        timer = threading.Timer(10, lambda: setattr(proxy, "status", None))
        timer.start()
        proxy.status = "503 Service Unavailable"
        done = run(out, bucket, "train.steps=14")
        timer.join()
    assert done.returncode == 0, done.stderr
    assert losses(out) == expected
    assert metrics(out)[-1]["read_retries"] >= 3


def test_credentials_are_neither_saved_nor_told_and_a_run_goes_on_with_new_ones(
    photos: Path, s3: S3, tmp_path: Path
) -> None:
    with web_server(photos.parent) as url:
        root = f"{url.replace('://', '://me:swordfish@')}/all"
        out = tmp_path / "run"
        stopped = run(out, root, "train.steps=5")
        resumed = run(out, root.replace("swordfish", "marlin"), "train.steps=14", "--resume")
    for done in (stopped, resumed):
        assert done.returncode == 0, done.stderr
        assert "swordfish" not in done.stdout + done.stderr
        assert "marlin" not in done.stdout + done.stderr
    assert [row[0] for row in losses(out)] == list(range(1, 15))
    for path in (*out.rglob("*"), *(tmp_path / "cache").rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            assert b"swordfish" not in content, path
            assert b"marlin" not in content, path
    assert f"{url}/all" in (out / "config.yaml").read_text()


def test_a_rank_that_dies_leaves_a_cache_that_the_next_run_goes_on_with(
    shards: Path, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two processes is killed while it fetches a shard, which it had locked."""
    bucket = s3.upload(shards, "dying")
    script = (
        "import sys, numpy as np; from cp2fast.data.image_sets.listing import list_images;"
        "from cp2fast.data.sources.read_ahead import read_ahead;"
        "from cp2fast.data.remote.disk_cache import DiskCache; from pathlib import Path;"
        "disk = DiskCache(Path(sys.argv[2])); images = list_images(sys.argv[1], disk=disk);"
        "print('listed', flush=True); sys.stdin.readline();"
        "steps = [n for n in read_ahead(images, disk, iter(np.arange(24).reshape(6, 4)))];"
        "print(sum(len(images.read(int(i))) for n in steps for i in n))"
    )
    size = sum(len(images.read(i)) for images in [list_images(shards)] for i in range(COUNT))
    with Proxy(s3.port) as proxy:
        set_environment(monkeypatch, found_at(proxy.port), tmp_path)
        words = [sys.executable, "-c", script, bucket, str(tmp_path / "disk")]
        pipe = subprocess.PIPE
        ranks = [
            subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
            for _ in range(2)
        ]
        for rank in ranks:
            assert rank.stdout is not None
            assert rank.stdout.readline() == "listed\n"
        shutil.rmtree(tmp_path / "disk" / "objects", ignore_errors=True)
        proxy.delay = 2.0
        for rank in ranks:
            assert rank.stdin is not None
            rank.stdin.write("go\n")
            rank.stdin.flush()
        time.sleep(1.0)
        ranks[0].kill()
        proxy.delay = 0.0
        out, error = ranks[1].communicate(timeout=60)
        ranks[0].communicate()
    assert out.strip() == str(size), error
    left = [path.name for path in (tmp_path / "disk" / "objects").rglob(".*")]
    images = list_images(bucket, disk=DiskCache(tmp_path / "disk"))
    assert len(images) == COUNT, left
