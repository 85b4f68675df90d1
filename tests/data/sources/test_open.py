import gc
import tarfile
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

from cp2fast.config import DataSettings
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.order import plan, substitute
from cp2fast.data.remote.disk_cache import DiskCache
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.choice import choose_source
from cp2fast.data.sources.open import open_source
from cp2fast.errors import UserError
from tests.data import image_files

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SEED = 3
BATCH = 12
LIMIT = 1_000_000

SOURCES = ("turbo", "dali", "torch")
sources = pytest.mark.parametrize("source", SOURCES)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos of many sizes and formats, no bad one among them."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(30):
        image = image_files.photo(40 + 7 * number, 150 - 3 * number, seed=number)
        image.save(root / f"photo_{number:02d}.jpg", quality=70 + number)
    files = image_files.jpeg_files() | image_files.other_files()
    for name, encoded in files.items():
        (root / f"{name.replace(' ', '_').replace(':', '')}.jpg").write_bytes(encoded)
    return root


@pytest.fixture(scope="module")
def mixed_folder(tmp_path_factory):
    """Good photos with bad files of every kind among them."""
    root = tmp_path_factory.mktemp("mixed")
    for number in range(30):
        image_files.photo(50 + number, 90 - number, seed=number).save(root / f"{number:02d}.jpg")
    image_files.write_bad_entries(root)
    return root


@pytest.fixture(scope="module")
def mixed_shards(mixed_folder, tmp_path_factory):
    """The same as two shards, without what is no plain file."""
    root = tmp_path_factory.mktemp("shards")
    files = sorted(path for path in mixed_folder.iterdir() if path.is_file())
    for number in range(2):
        with tarfile.open(root / f"{number}.tar", "w") as tar:
            for path in files[number::2]:
                tar.add(path, path.name)
    return root


@pytest.fixture(scope="module", params=["folder", "shards"])
def mixed(request):
    return request.getfixturevalue(f"mixed_{request.param}")


def batches(root, source, bad, *, steps=None, decode="cpu", device=CPU, rank=0, world_size=1):
    images = list_images(root)
    settings = DataSettings(source=source, decode=decode, workers=2, max_pixels=LIMIT)
    share = BATCH // world_size
    steps = steps or 2 * (len(images) // BATCH)
    order = plan(
        seed=SEED,
        count=len(images),
        batch_size=share,
        start=0,
        stop=steps,
        rank=rank,
        world_size=world_size,
    )
    choice = choose_source(settings, images, device)
    return list(open_source(choice, settings, images, order, SEED, device, bad))


def same(a, b):
    """Whether two batches hold the same images."""
    return a.index.tolist() == b.index.tolist() and all(
        torch.equal(a.image(position), b.image(position)) for position in range(len(a))
    )


def planned(count, steps):
    order = plan(seed=SEED, count=count, batch_size=BATCH, start=0, stop=steps)
    return [numbers.tolist() for numbers in order]


@sources
def test_batches_hold_the_planned_images_as_pillow_reads_them(source, photos, tmp_path):
    images = list_images(photos)
    result = batches(photos, source, BadImages(tmp_path, 0))
    assert [batch.index.tolist() for batch in result] == planned(len(images), len(result))
    for batch in result:
        assert batch.pixels.dtype == torch.uint8
        assert (batch.offset.dtype, batch.index.dtype) == (torch.int64, torch.int64)
        assert (batch.height.dtype, batch.width.dtype) == (torch.int32, torch.int32)
        for position, index in enumerate(batch.index.tolist()):
            expected = image_files.as_pillow_reads(images.read(index))
            image = batch.image(position).numpy()
            assert image.shape == expected.shape, images.name(index)
            assert np.abs(image.astype(int) - expected).max() <= 1, images.name(index)


@sources
def test_bad_images_give_way_to_their_substitutes_and_are_listed(source, mixed, tmp_path):
    images = list_images(mixed)
    bad = BadImages(tmp_path, max_fraction=1)
    result = batches(mixed, source, bad)
    good = {n for n in range(len(images)) if Path(images.name(n)).stem.isdecimal()}
    failed = []

    def readable(number):
        chain = [number, *(substitute(SEED, number, k, len(images)) for k in range(100))]
        first = next(place for place, index in enumerate(chain) if index in good)
        failed.extend(chain[:first])
        return chain[first]

    expected = [[readable(number) for number in step] for step in planned(len(images), len(result))]
    assert [batch.index.tolist() for batch in result] == expected
    for batch in result:
        for position, index in enumerate(batch.index.tolist()):
            reference = image_files.as_pillow_reads(images.read(index))
            difference = np.abs(batch.image(position).numpy().astype(int) - reference)
            assert difference.max() <= 1
    listed = [line.split("\t")[0] for line in bad.path.read_text().splitlines()]
    assert listed == list(dict.fromkeys(images.name(index) for index in failed))
    assert bad.state_dict() == {"tried": BATCH * len(result) + len(failed), "bad": len(failed)}
    assert len(listed) >= 10


def test_the_sources_list_bad_images_alike(mixed, tmp_path):
    lists = []
    for source in ("dali", "torch"):
        bad = BadImages(tmp_path / source, max_fraction=1)
        batches(mixed, source, bad)
        lists.append(bad.path.read_text())
    assert lists[0] == lists[1]


def test_every_kind_of_bad_image_is_found_in_one_epoch_over_all(mixed_folder, tmp_path):
    images = list_images(mixed_folder)
    bad = BadImages(tmp_path, max_fraction=1)
    order = iter(np.arange(len(images), dtype=np.int64).reshape(1, -1))
    choice = choose_source(DataSettings(source="torch"), images, CPU)
    settings = DataSettings(workers=0, max_pixels=LIMIT)
    (batch,) = open_source(choice, settings, images, order, SEED, CPU, bad)
    listed = {Path(line.split("\t")[0]).name for line in bad.path.read_text().splitlines()}
    expected = {path.name for path in mixed_folder.iterdir() if not path.stem.isdecimal()}
    expected.remove("pipe.jpg")  # A pipe is not even listed.
    assert listed == expected
    assert len(expected) >= 27
    assert len(batch) == len(images)  # None of its places was lost.


@sources
def test_the_order_does_not_depend_on_the_number_of_processes(source, mixed, tmp_path):
    """Bad images are of one rank only, and so are their substitutes."""
    alone = batches(mixed, source, BadImages(tmp_path / "alone", 1), steps=3)
    bad = [BadImages(tmp_path / f"rank{rank}", 1) for rank in range(3)]
    ranks = [
        batches(mixed, source, bad[rank], steps=3, rank=rank, world_size=3) for rank in range(3)
    ]
    for step, whole in enumerate(alone):
        parts = [(rank[step], position) for rank in ranks for position in range(len(rank[step]))]
        assert len(parts) == len(whole)
        for position, (part, place) in enumerate(parts):
            assert part.index[place] == whole.index[position]
            assert torch.equal(part.image(place), whole.image(position))
    assert sum(count.bad for count in bad) > 0


@sources
def test_an_image_that_vanishes_after_the_listing_is_a_bad_one(source, tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(6):
        image_files.photo(40, 30, seed=number).save(tmp_path / "images" / f"{number}.jpg")
    images = list_images(tmp_path / "images")
    (tmp_path / "images" / "2.jpg").unlink()
    settings = DataSettings(source=source, workers=1)
    bad = BadImages(tmp_path, max_fraction=1)
    order = plan(seed=SEED, count=6, batch_size=6, start=0, stop=3)
    choice = choose_source(settings, images, CPU)
    result = list(open_source(choice, settings, images, order, SEED, CPU, bad))
    assert [len(batch) for batch in result] == [6, 6, 6]
    assert all(2 not in batch.index.tolist() for batch in result)
    assert bad.path.read_text() == (
        f"{images.name(2)}\tcannot be read: No such file or directory\n"
    )


def test_damage_that_a_decoder_reads_past_gives_the_same_pixels_from_every_source(tmp_path):
    for name, encoded in image_files.damaged_but_readable_files().items():
        (tmp_path / name).write_bytes(encoded)
    images = list_images(tmp_path)
    decoded = []
    for source in SOURCES:
        settings = DataSettings(source=source, workers=1)
        choice = choose_source(settings, images, CPU)
        order = iter(np.arange(len(images)).reshape(1, -1))
        bad = BadImages(tmp_path / "run", max_fraction=0)
        decoded.extend(open_source(choice, settings, images, order, SEED, CPU, bad))
    assert same(decoded[0], decoded[1])
    assert same(decoded[0], decoded[2])


@sources
def test_too_many_bad_images_end_the_run(source, mixed_folder, tmp_path):
    with pytest.raises(UserError, match=r"images could not be read .*data.max_bad_fraction=0.1"):
        batches(mixed_folder, source, BadImages(tmp_path, max_fraction=0.1), steps=40)


@sources
def test_a_folder_of_only_bad_images_ends_the_run(source, tmp_path):
    (tmp_path / "images").mkdir()
    image_files.write_bad_entries(tmp_path / "images")
    with pytest.raises(UserError, match="could not be read"):
        batches(tmp_path / "images", source, BadImages(tmp_path, max_fraction=0.5), steps=1)
    with pytest.raises(UserError, match="found no readable image after 100 substitutes"):
        batches(tmp_path / "images", source, BadImages(tmp_path, max_fraction=1), steps=1)


@sources
def test_long_images_are_shrunk_to_the_mean_of_the_area_of_each_pixel(source, tmp_path):
    long = np.random.default_rng(0).integers(0, 256, (75, 120, 3), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(image_files.encode(Image.fromarray(long), "PNG"))
    for number, size in enumerate([(300, 200), (200, 301), (60, 50), (40, 400)]):
        image_files.photo(*size, seed=number).save(tmp_path / f"{number}.jpg", quality=95)
    images = list_images(tmp_path)
    whole, small = (next(iter(_opened(images, source, side, tmp_path))) for side in (None, 60))
    sizes = list(zip(small.height.tolist(), small.width.tolist(), strict=True))
    assert sizes == [(40, 60), (60, 40), (50, 60), (60, 6), (38, 60)]
    for position, (height, width) in enumerate(sizes):
        expected = area_means(whole.image(position).numpy(), height, width)
        assert np.abs(small.image(position).numpy() - expected).max() <= 0.51


def _opened(images, source, max_side, run):
    settings = DataSettings(source=source, workers=1, max_side=max_side)
    choice = choose_source(settings, images, CPU)
    order = iter(np.arange(len(images)).reshape(1, -1))
    return open_source(choice, settings, images, order, SEED, CPU, BadImages(run / "run", 0))


def area_means(image, height, width):
    """By integrating along each axis: the area's share of every pixel counts."""
    for axis, size in ((0, height), (1, width)):
        before = image.shape[axis]
        sums = np.insert(np.cumsum(image, axis, dtype=np.float64), 0, 0, axis)
        edges = np.linspace(0, before, size + 1)
        low = np.minimum(edges.astype(int), before - 1)
        share = (edges - low).reshape([-1 if a == axis else 1 for a in range(3)])
        integral = sums.take(low, axis) * (1 - share) + sums.take(low + 1, axis) * share
        image = np.diff(integral, axis=axis) * size / before
    return image


@sources
def test_no_picture_is_fetched_once_the_batches_are_closed(source, tmp_path):
    """Even if references in a circle, such as DALI's, still hold what has been opened."""
    memory, count = fsspec.filesystem("memory"), 60
    for number in range(count):
        photo = image_files.encode(image_files.photo(40, 30, seed=number), "JPEG")
        memory.pipe_file(f"/closed/{number:02d}.jpg", photo)
    images = list_images("memory://closed", disk=DiskCache(tmp_path / "disk"))
    settings = DataSettings(source=source, workers=1)
    order = plan(seed=SEED, count=count, batch_size=2)
    choice, bad = choose_source(settings, images, CPU), BadImages(tmp_path, 0)
    gc.disable()
    try:
        opened = open_source(choice, settings, images, order, SEED, CPU, bad)
        next(opened)
        assert threads_that_fetch()
        opened.close()
        assert not threads_that_fetch()
    finally:
        gc.enable()


def threads_that_fetch():
    return [thread for thread in threading.enumerate() if thread.name.startswith("cp2fast-fetch")]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="decoding on the GPU needs a GPU")
def test_the_gpu_decodes_the_same_images(photos, mixed_folder, mixed_shards, tmp_path):
    pytest.importorskip("nvidia.dali")
    for root in (photos, mixed_folder, mixed_shards):
        gpu = torch.device("cuda", torch.cuda.current_device())
        on_gpu = batches(root, "dali", BadImages(tmp_path / "g", 1), decode="gpu", device=gpu)
        on_cpu = batches(root, "dali", BadImages(tmp_path / "c", 1))
        for a, b in zip(on_gpu, on_cpu, strict=True):
            assert a.pixels.device == gpu
            assert a.index.tolist() == b.index.tolist()
            for position in range(len(b)):
                difference = (a.image(position).cpu().int() - b.image(position).int()).abs()
                # NVIDIA's decoder rounds the colour conversion and the inverse DCT its own way.
                assert difference.float().mean() < 1
                assert difference.max() <= 8
