"""A loader without a run around it."""

import functools
import logging
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

import cp2fast
from cp2fast import UserError
from tests.pretrain.runs import write_photos

COUNT, BATCH = 10, 4

open_images = functools.partial(cp2fast.open_images, workers=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), COUNT)


def numbers(batches: object) -> list[list[int]]:
    return [batch.index.tolist() for batch in batches]


def test_an_epoch_is_whole_batches_of_different_images_as_pillow_reads_them(photos: Path) -> None:
    batches = open_images(photos, BATCH)
    assert batches.steps_per_epoch == COUNT // BATCH
    seen = set()
    for batch in batches:
        assert len(batch) == BATCH
        assert batches.epoch == 0
        for position, number in enumerate(batch.index.tolist()):
            expected = np.asarray(Image.open(batches.images.name(number)).convert("RGB"))
            difference = batch.image(position).numpy().astype(int) - expected
            assert abs(difference).max() <= 2
            seen.add(number)
    assert len(seen) == 2 * BATCH


def test_it_goes_on_where_another_stopped_and_says_the_epoch(photos: Path) -> None:
    whole = numbers(open_images(photos, BATCH, epochs=3, seed=5))
    assert len(whole) == 6
    later = open_images(photos, BATCH, epochs=3, seed=5, start=3)
    rest, epochs = [], []
    for batch in later:
        rest.append(batch.index.tolist())
        epochs.append(later.epoch)
    assert rest == whole[3:]
    assert epochs == [1, 2, 2]
    assert numbers(open_images(photos, BATCH, epochs=3, seed=6)) != whole
    assert numbers(open_images(photos, BATCH, epochs=3, start=6)) == []


def test_without_an_end_it_goes_on_until_it_is_closed(photos: Path) -> None:
    batches = open_images(photos, BATCH, epochs=None)
    for _ in range(7):
        next(batches)
    assert batches.epoch == 3
    batches.close()
    with pytest.raises(StopIteration):
        next(batches)


def test_processes_share_each_step(photos: Path) -> None:
    whole = numbers(open_images(photos, BATCH, seed=1))
    first, second = (
        numbers(open_images(photos, BATCH // 2, seed=1, rank=rank, world_size=2)) for rank in (0, 1)
    )
    assert [a + b for a, b in zip(first, second, strict=True)] == whole


def test_a_bad_image_is_logged_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_photos(tmp_path, 5)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING, "cp2fast"):
        batches = open_images(tmp_path, 6)
        [batch] = batches
    assert sum("broken.jpg" in message for message in caplog.messages) == 1
    assert not any("broken" in batches.images.name(i) for i in batch.index.tolist())


def test_a_disk_cache_too_small_for_the_shards_is_refused(photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for photo in photos.iterdir():
            tar.add(photo, photo.name)
    shard = (tmp_path / "0.tar").read_bytes()
    for name in ("0.tar", "1.tar"):
        fsspec.filesystem("memory").pipe_file(f"/window/{name}", shard)
    room = {"disk_cache": tmp_path / "cache", "disk_gib": 1.5 * len(shard) / (1 << 30)}
    with pytest.raises(UserError, match=r"data.window=16 needs room for 2 shards"):
        open_images("memory://window", BATCH, **room)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_here_is_refused(photos: Path, device: str) -> None:
    with pytest.raises(UserError, match=f"device={device} cannot be used: ") as refused:
        open_images(photos, BATCH, device=device)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("order", ["sequential", "quasi_random"])
def test_windows_are_of_a_random_order_and_of_no_other(photos: Path, order: str) -> None:
    with pytest.raises(UserError, match=rf"data.window=2 .* data.order={order} is not"):
        open_images(photos, BATCH, window=2, order=order)


def test_what_cannot_be_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="do not fill one step"):
        open_images(photos, COUNT + 1)
    with pytest.raises(UserError, match="unknown setting shuffle"):
        open_images(photos, BATCH, shuffle=True)
    with pytest.raises(UserError, match="order=any is not random"):
        open_images(photos, BATCH, order="any")
    with pytest.raises(UserError, match=str(tmp_path)):
        open_images(tmp_path, BATCH)
