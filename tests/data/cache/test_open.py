"""With the pixel cache, without it, half full: the same batches; and it goes when the run does."""

import tarfile

import numpy as np
import pytest
import torch

from cp2fast.config import DataSettings
from cp2fast.data.cache.arena import Arena
from cp2fast.data.cache.choice import CacheChoice
from cp2fast.data.cache.open import Sharing, open_cache
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.order import plan
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.choice import choose_source
from cp2fast.data.sources.open import open_source
from cp2fast.errors import UserError
from tests.data import betons, image_files

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SEED, BATCH = 3, 8
SOURCES = ("turbo", "dali", "torch")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Photos of many sizes and kinds, turned ones, and bad files among them."""
    root = tmp_path_factory.mktemp("mixed")
    for number in range(30):
        image_files.photo(50 + number, 90 - number, seed=number).save(root / f"{number:02d}.jpg")
    files = image_files.jpeg_files() | image_files.other_files()
    for name in ("exif 6", "CMYK, inverted by Adobe", "PNG", "WebP exif 6", "GIF animated"):
        (root / f"{name.replace(' ', '_')}.jpg").write_bytes(files[name])
    for name in ("truncated_half.jpg", "header_only.jpg", "empty.jpg"):
        (root / name).write_bytes(image_files.bad_files()[name])
    return list_images(root)


def whole(images, **changes):
    settings = DataSettings(cache="host", workers=2, **changes)
    cache = open_cache(settings, images, SEED, CPU, epochs=9)
    assert cache.arena is not None, cache.line
    return cache


def half(images):
    """Places for every second image."""
    size = whole(images).arena.size.copy()
    size[::2] = 0
    return Arena.new_host(size, shared=False)


def decoded(images, arena, run, *, source="turbo", start=0, stop=14, independent=False):
    settings = DataSettings(source=source, workers=2, max_pixels=10**6)
    order = plan(
        seed=SEED,
        count=len(images),
        batch_size=BATCH,
        start=start,
        stop=stop,
        independent=independent,
    )
    choice = choose_source(settings, images, CPU)
    bad = BadImages(run, 1)
    return list(open_source(choice, settings, images, order, SEED, CPU, bad, arena)), bad


def assert_same(ours, others):
    assert len(ours) == len(others)
    for a, b in zip(ours, others, strict=True):
        assert a.index.tolist() == b.index.tolist()
        for field in ("index", "height", "width", "offset"):
            assert getattr(a, field).dtype == getattr(b, field).dtype
        for position in range(len(a)):
            assert torch.equal(a.image(position), b.image(position))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("made", [half, lambda images: whole(images).arena], ids=["half", "whole"])
def test_the_batches_are_those_without_a_cache(source, made, mixed, tmp_path):
    plain, count = decoded(mixed, None, tmp_path / "a", source=source)
    arena = made(mixed)
    for run in ("b", "c"):  # The second time from what the first has left.
        cached, same_count = decoded(mixed, arena, tmp_path / run, source=source)
        assert_same(cached, plain)
        assert same_count.state_dict() == count.state_dict()
        assert same_count.path.read_text() == count.path.read_text()


def test_so_are_those_beside_a_header_that_says_less_than_nothing(tmp_path):
    root = tmp_path / "arrays"
    root.mkdir()
    for number in range(20):
        np.save(root / f"{number:02d}.npy", np.full((40, 30), number, np.uint8))
    damaged = root / "05.npy"
    damaged.write_bytes(damaged.read_bytes().replace(b"(40, 30)", b"(-40,30)"))
    images = list_images(root)
    plain, _ = decoded(images, None, tmp_path / "a", source="torch", stop=6)
    cached, _ = decoded(images, whole(images).arena, tmp_path / "b", source="torch", stop=6)
    assert_same(cached, plain)


@pytest.mark.parametrize("kind", ["shard", "beton"])
def test_so_are_those_of_shards_and_of_a_beton_with_a_bad_image(kind, tmp_path):
    if kind == "beton":
        root = betons.write_beton(tmp_path / "photos.beton", betons.photos(20))
        betons.overwrite(root, 3, b"garbage")
    else:
        root = tmp_path / "photos.tar"
        with tarfile.open(root, "w") as tar:
            for number in range(20):
                photo = tmp_path / f"{number:02d}.jpg"
                image_files.photo(50 + number, 90 - number, seed=number).save(photo)
                if number == 3:
                    photo.write_bytes(b"garbage")
                tar.add(photo, photo.name)
    images = list_images(root)
    plain, count = decoded(images, None, tmp_path / "a", stop=8)
    assert count.bad > 0
    for name, arena in {"half": half(images), "whole": whole(images).arena}.items():
        for run in ("b", "c"):
            cached, same_count = decoded(images, arena, tmp_path / (name + run), stop=8)
            assert_same(cached, plain)
            assert same_count.state_dict() == count.state_dict()


def test_independent_backgrounds_may_repeat_an_image_within_a_batch(mixed, tmp_path):
    plain, _ = decoded(mixed, None, tmp_path / "a", independent=True)
    cached, _ = decoded(mixed, whole(mixed).arena, tmp_path / "b", independent=True)
    assert_same(cached, plain)


def test_what_is_cached_is_neither_read_again_nor_copied(tmp_path):
    for number in range(16):
        image_files.photo(60, 40 + number, number).save(tmp_path / f"{number:02d}.jpg")
    images = list_images(tmp_path)
    arena = whole(images).arena
    first, _ = decoded(images, arena, tmp_path / "run", stop=2)
    assert arena.is_complete
    for path in tmp_path.glob("*.jpg"):
        path.unlink()
    again, bad = decoded(images, arena, tmp_path / "run", stop=6)
    assert_same(again[:2], first)
    assert bad.bad == 0
    for batch in again:
        assert batch.pixels.data_ptr() == arena.pixels.data_ptr()


def test_an_image_that_is_gone_before_its_header_is_read_gets_no_place(tmp_path):
    for number in range(3):
        image_files.photo(60, 40, number).save(tmp_path / f"{number}.jpg")
    images = list_images(tmp_path)
    (tmp_path / "1.jpg").unlink()
    assert whole(images).arena.size.tolist() == [60 * 40 * 3, 0, 60 * 40 * 3]


def test_a_first_epoch_decodes_into_the_cache_itself(tmp_path):
    for number in range(8):
        image_files.photo(60, 40 + number, number).save(tmp_path / f"{number}.jpg")
    images = list_images(tmp_path)
    arena = whole(images).arena
    (batch,), _ = decoded(images, arena, tmp_path / "run", stop=1)
    assert batch.pixels.data_ptr() == arena.pixels.data_ptr()


def test_a_file_whose_header_lies_about_its_size_is_decoded_each_time(mixed, tmp_path):
    size = whole(mixed).arena.size.copy()
    size[size > 0] -= 3
    arena = Arena.new_host(size, shared=False)
    cached, _ = decoded(mixed, arena, tmp_path / "a")
    plain, _ = decoded(mixed, None, tmp_path / "b")
    assert_same(cached, plain)
    assert len(arena.missing(np.arange(len(mixed)))) == len(mixed)


def test_where_memory_runs_short_the_cache_stops_growing_and_the_batches_are_the_same(
    mixed, tmp_path
):
    size = whole(mixed).arena.size
    arena = Arena.new_host(size, shared=False, reserve=1 << 60, check_every=40_000)
    cached, _ = decoded(mixed, arena, tmp_path / "a")
    plain, _ = decoded(mixed, None, tmp_path / "b")
    assert_same(cached, plain)
    assert not arena.grows
    assert 0 < len(arena.missing(np.arange(len(mixed)))) < len(mixed)


def test_which_part_is_cached_follows_from_the_seed(mixed):
    def part(seed):
        settings = DataSettings(cache="host", cache_gib=150_000 / 2**30)
        cache = open_cache(settings, mixed, seed, CPU, epochs=9)
        assert cache.arena.size.sum() <= 150_000
        return cache

    one, again, other = part(1), part(1), part(2)
    assert one.arena.size.tolist() == again.arena.size.tolist() != other.arena.size.tolist()
    fit = int((one.arena.size > 0).sum())
    assert one.line.startswith(f"cache: in host memory, {fit} of {len(mixed)} images, 0 MiB of")


def test_the_places_have_the_sizes_of_the_decoded_images(mixed, tmp_path):
    for side in (None, 40):
        arena = whole(mixed, max_side=side).arena
        settings = DataSettings(source="torch", workers=0, max_side=side)
        choice = choose_source(settings, mixed, CPU)
        order = iter(np.arange(len(mixed)).reshape(-1, 1))
        bad = BadImages(tmp_path / str(side), 1)
        for number, batch in enumerate(open_source(choice, settings, mixed, order, SEED, CPU, bad)):
            if batch.index.item() == number:
                assert arena.size[number] == batch.image(0).numel()
        assert "all" in whole(mixed).line


def test_auto_caches_nothing_that_is_used_once_and_off_nothing_at_all(mixed):
    for settings, epochs in ((DataSettings(), 1), (DataSettings(cache="off"), 9)):
        assert open_cache(settings, mixed, SEED, CPU, epochs) == (None, "")
    assert open_cache(DataSettings(), mixed, SEED, CPU, epochs=2).arena is not None
    tiny = DataSettings(cache_gib=1e-9)
    arena, line = open_cache(tiny, mixed, SEED, CPU, epochs=2)
    assert (arena, line) == (None, f"cache: off, 0 of {len(mixed)} images fit")


def test_a_gpu_that_is_not_there_is_an_error_that_all_processes_hear_of(mixed):
    with pytest.raises(UserError, match=r"data.cache=gpu needs a GPU.*data.cache=host"):
        open_cache(DataSettings(cache="gpu"), mixed, SEED, CPU, epochs=9)


def test_processes_that_cannot_share_go_on_without(mixed):
    """The second of two processes on a machine, whose first made a cache that cannot be reached."""
    first = []

    def gather(value):
        first.append(value)
        if len(first) == 1:
            return [0, 0]
        if len(first) == 2:
            chosen = CacheChoice("host")
            return [value._replace(chosen=chosen, address=(2**22 + 1, 3)), value]
        return [True, value]

    arena, line = open_cache(
        DataSettings(), mixed, SEED, CPU, 9, Sharing(gather, rank=1, local_rank=1)
    )
    assert arena is None
    assert line == "cache: off, as the processes of this machine cannot share memory"


@pytest.mark.gpu
@pytest.mark.parametrize("setting", ["off", "host", "gpu"])
@pytest.mark.parametrize("source", ["turbo", "torch"])
def test_on_a_gpu_the_batches_are_those_of_the_cpu(mixed, tmp_path, source, setting):
    gpu = torch.device("cuda", torch.cuda.current_device())
    plain, count = decoded(mixed, None, tmp_path / "a", source=source)
    settings = DataSettings(source=source, workers=2, max_pixels=10**6, cache=setting)
    arena, line = open_cache(settings, mixed, SEED, gpu, epochs=9)
    assert (arena is None) == (setting == "off"), line
    for run in ("b", "c"):
        order = plan(seed=SEED, count=len(mixed), batch_size=BATCH, start=0, stop=14)
        bad = BadImages(tmp_path / run, 1)
        choice = choose_source(settings, mixed, gpu)
        batches = open_source(choice, settings, mixed, order, SEED, gpu, bad, arena)
        for ours, theirs in zip(batches, plain, strict=True):
            assert ours.pixels.is_cuda
            assert not ours.offset.is_cuda
            assert_same([ours.to(CPU)], [theirs])
        assert bad.state_dict() == count.state_dict()


@pytest.mark.gpu
def test_a_gpu_holds_the_whole_data_set_or_none_of_it(mixed):
    gpu = torch.device("cuda", torch.cuda.current_device())
    settings = DataSettings(cache="gpu", cache_gib=100_000 / 2**30)
    with pytest.raises(UserError, match=r"holds the whole data set or none.*data.max_side"):
        open_cache(settings, mixed, SEED, gpu, epochs=9)


@pytest.mark.gpu
@pytest.mark.parametrize("where", ["gpu", "both"])
def test_the_gpus_decoder_may_fill_a_cache_on_the_gpu(mixed, tmp_path, where):
    pytest.importorskip("nvidia.dali")
    gpu = torch.device("cuda", torch.cuda.current_device())
    settings = DataSettings(decode=where, workers=2, max_pixels=10**6, cache="gpu")
    plain, _ = decoded(mixed, None, tmp_path / "a")
    arena, _ = open_cache(settings, mixed, SEED, gpu, epochs=9)
    order = plan(seed=SEED, count=len(mixed), batch_size=BATCH, start=0, stop=14)
    choice = choose_source(settings, mixed, gpu)
    bad = BadImages(tmp_path / "b", 1)
    for ours, theirs in zip(
        open_source(choice, settings, mixed, order, SEED, gpu, bad, arena), plain, strict=True
    ):
        assert ours.index.tolist() == theirs.index.tolist()
        for position in range(len(ours)):
            difference = (ours.image(position).cpu().int() - theirs.image(position).int()).abs()
            assert difference.float().mean() < 1
