"""Threads with libjpeg-turbo, here from a .beton: order, pixels, and memory that is bounded."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from cp2fast.batch import RaggedBatch
from cp2fast.bench.resident import resident_bytes
from cp2fast.config import DataSettings
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.order import plan, substitute
from cp2fast.data.packing.packed_jpeg import PackedJpeg
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.choice import choose_source
from cp2fast.data.sources.loading import DecodeSettings
from cp2fast.data.sources.torch_source import open_torch
from cp2fast.data.sources.turbo_source import open_turbo
from cp2fast.errors import UserError
from tests.data import betons, image_files

COUNT, BATCH, SEED = 30, 6, 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return betons.write_beton(tmp_path / "photos.beton", betons.photos(COUNT))


def order(start: int, stop: int, **options):
    return plan(seed=SEED, count=COUNT, batch_size=BATCH, start=start, stop=stop, **options)


def decode(path, bad, *, open_=open_turbo, numbers=None, max_pixels=10_000_000):
    count = {"threads": 2} if open_ is open_turbo else {"workers": 0}
    batches = order(0, 12) if numbers is None else numbers
    return open_(list_images(path), batches, DecodeSettings(SEED, max_pixels), bad, **count)


def assert_same(a: RaggedBatch, b: RaggedBatch) -> None:
    assert a.index.tolist() == b.index.tolist()
    assert a.height.tolist() == b.height.tolist()
    assert a.width.tolist() == b.width.tolist()
    for position in range(len(a)):
        assert torch.equal(a.image(position), b.image(position)), a.index[position]


@pytest.mark.parametrize("kind", ["random", "quasi_random", "sequential"])
def test_batches_hold_the_planned_images_as_pillow_reads_them(kind, path, tmp_path) -> None:
    images = list_images(path)
    planned = list(order(0, 12, order=kind))
    batches = list(decode(path, BadImages(tmp_path, 0), numbers=iter(planned)))
    assert [batch.index.tolist() for batch in batches] == [numbers.tolist() for numbers in planned]
    for batch in batches:
        assert batch.pixels.dtype == torch.uint8
        assert (batch.offset.dtype, batch.index.dtype) == (torch.int64, torch.int64)
        assert (batch.height.dtype, batch.width.dtype) == (torch.int32, torch.int32)
        assert len(batch.pixels) == sum(batch.image(i).numel() for i in range(BATCH))
        for position, index in enumerate(batch.index.tolist()):
            expected = image_files.as_pillow_reads(images.read(index))
            assert np.array_equal(batch.image(position).numpy(), expected)


def test_ranks_share_the_batches_and_a_later_start_gives_the_rest(path, tmp_path) -> None:
    whole = list(decode(path, BadImages(tmp_path, 0)))
    rest = list(decode(path, BadImages(tmp_path, 0), numbers=order(7, 12)))
    for a, b in zip(whole[7:], rest, strict=True):
        assert_same(a, b)
    halves = [
        list(
            decode(
                path,
                BadImages(tmp_path, 0),
                numbers=plan(
                    seed=SEED, count=COUNT, batch_size=3, start=0, stop=12, rank=rank, world_size=2
                ),
            )
        )
        for rank in (0, 1)
    ]
    for a, first, second in zip(whole, *halves, strict=True):
        assert a.index.tolist() == first.index.tolist() + second.index.tolist()


def broken(path: Path) -> Path:
    """Of the images, one is no JPEG, one damaged so that decoders warn, one of another size."""
    betons.overwrite(path, 3, b"garbage")
    whole = list_images(path).read(8)
    betons.overwrite(path, 8, whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    other = image_files.encode(image_files.photo(16, 24), "JPEG", quality=5)
    betons.overwrite(path, 11, other)
    return path


def test_a_broken_sample_gives_way_to_the_substitute_that_every_source_takes(
    path, tmp_path
) -> None:
    broken(path)
    bad, others = BadImages(tmp_path / "a", 1), BadImages(tmp_path / "b", 1)
    ours = list(decode(path, bad))
    theirs = list(decode(path, others, open_=open_torch))
    for a, b in zip(ours, theirs, strict=True):
        assert_same(a, b)
    assert bad.state_dict() == others.state_dict()
    assert bad.path.read_text() == others.path.read_text()
    assert f"{path}/3.jpg\t" in bad.path.read_text()
    planned = [numbers.tolist() for numbers in order(0, 12)]
    taken = [batch.index.tolist() for batch in ours]
    for step, position in np.argwhere(np.array(planned) == 3).tolist():
        assert taken[step][position] == substitute(SEED, 3, 0, COUNT)
    sizes = [(batch.height[i].item(), batch.width[i].item()) for batch in ours for i in range(6)]
    assert (24, 16) in sizes  # The file's own size counts, not the index's.


def test_too_large_raw_images_are_bad_and_get_no_memory(path, tmp_path) -> None:
    betons.as_raw(path, 5, np.zeros(3, np.uint8))
    with path.open("r+b") as file:
        file.seek(betons.row(5) + 1)
        file.write(b"\xff\xff\xff\xff")  # 65,535 x 65,535 pixels would be 13 GB.
    bad = BadImages(tmp_path, 1)
    numbers = iter([np.array([4, 5, 6, 7])])
    (batch,) = decode(path, bad, numbers=numbers, max_pixels=20_000)
    assert batch.index.tolist() == [4, substitute(SEED, 5, 0, COUNT), 6, 7]
    assert "65535 x 65535 pixels are more than data.max_pixels=20000" in bad.path.read_text()


def test_too_many_bad_images_end_the_run(path, tmp_path) -> None:
    for number in (3, 8):
        betons.overwrite(path, number, b"garbage")
    with pytest.raises(UserError, match=r"images could not be read .*data.max_bad_fraction=0.01"):
        list(decode(path, BadImages(tmp_path, 0.01), numbers=order(0, 50)))


def test_a_batch_stays_as_it_was_while_the_consumer_holds_it(path, tmp_path) -> None:
    held, copies = [], []
    for batch in decode(path, BadImages(tmp_path, 0), numbers=order(0, 40)):
        held.append(batch.image(2))  # A view is enough to hold it.
        copies.append(batch.image(2).clone())
    assert all(torch.equal(view, copy) for view, copy in zip(held, copies, strict=True))


def test_memory_does_not_grow_over_epochs(tmp_path) -> None:
    large = image_files.encode(image_files.photo(1000, 1000), "JPEG")
    images = [PackedJpeg(large, 1000, 1000)] * COUNT
    path = betons.write_beton(tmp_path / "large.beton", images)
    batches = decode(path, BadImages(tmp_path, 0), numbers=order(0, 50))
    for _ in range(10):
        next(batches)
    before = resident_bytes()
    grown = (max(resident_bytes() for _ in batches) - before) / 1e6
    assert grown < 100, f"{grown} MB; forty batches have 720"


def test_torchs_threads_and_random_numbers_are_left_alone(path, tmp_path) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        list(decode(path, BadImages(tmp_path, 0)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)


def test_closing_it_early_ends_its_threads(path, tmp_path) -> None:
    batches = decode(path, BadImages(tmp_path, 0), numbers=order(0, 1000))
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("cp2fast-decode")]


def test_ffcv_is_a_name_for_it_that_only_a_beton_has(path, tmp_path) -> None:
    cpu, images = torch.device("cpu"), list_images(path)
    assert choose_source(DataSettings(), images, cpu).name == "turbo"
    assert choose_source(DataSettings(source="ffcv"), images, cpu).name == "turbo"
    image_files.photo(9, 9).save(tmp_path / "one.jpg")
    with pytest.raises(UserError, match=r"data.source=ffcv reads .beton files.*cp2fast pack DIR"):
        choose_source(DataSettings(source="ffcv"), list_images(tmp_path), cpu)


def test_an_image_once_found_bad_is_not_read_again(tmp_path) -> None:
    for number in range(6):
        image_files.photo(30, 20, number).save(tmp_path / f"{number}.jpg")
    whole = (tmp_path / "2.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(whole[: len(whole) // 2])
    bad = BadImages(tmp_path / "run", 1)
    numbers = (np.arange(6) for _ in range(20))
    settings = DecodeSettings(SEED, max_pixels=10**6)
    batches = open_turbo(list_images(tmp_path), numbers, settings, bad, threads=2)
    taken = [next(batches).index.tolist()]
    (tmp_path / "2.jpg").write_bytes(whole)  # Whole again, but this run has seen it broken.
    taken += [batch.index.tolist() for batch in batches]
    assert taken == [[0, 1, substitute(SEED, 2, 0, 6), 3, 4, 5]] * 20
    assert bad.state_dict() == {"tried": 7 * 20, "bad": 20}
