import threading

import numpy as np
import pytest
import torch

from cp2fast.data.decoding import jpeg
from cp2fast.data.decoding.decode import CommonJpeg
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.order import plan
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.dali_source import decode_batches, open_dali
from cp2fast.data.sources.loading import DecodeSettings, Loaded
from cp2fast.errors import UserError
from tests.data import image_files

DECEPTIVE = image_files.bad_files()["marker_in_the_middle_progressive.jpg"]
"""Damage that only the decoder finds, so it costs DALI a pipeline."""


def fill(folder, count, kind="JPEG"):
    for number in range(count):
        encoded = image_files.encode(image_files.photo(30 + number, 40, seed=number), kind)
        (folder / f"{number:02d}.jpg").write_bytes(encoded)


def source(folder, bad_folder, *, steps, batch_size=4, independent=False):
    images = list_images(folder)
    order = plan(
        seed=0,
        count=len(images),
        batch_size=batch_size,
        start=0,
        stop=steps,
        independent=independent,
    )
    bad = BadImages(bad_folder, max_fraction=1)
    return open_dali(images, order, DecodeSettings(0, 10_000), bad, threads=2, gpu=None)


def reading_threads():
    return [t for t in threading.enumerate() if t.name.startswith("cp2fast-read")]


def test_a_lost_pipeline_loses_no_batch(tmp_path):
    (tmp_path / "images").mkdir()
    fill(tmp_path / "images", 12)
    for number in (3, 4, 11):
        (tmp_path / "images" / f"{number:02d}.jpg").write_bytes(DECEPTIVE)
    assert jpeg.is_intact(DECEPTIVE, jpeg.read_header(DECEPTIVE)), "nothing for DALI to trip over"
    order = plan(seed=0, count=12, batch_size=4, start=0, stop=30)
    result = list(source(tmp_path / "images", tmp_path, steps=30))
    assert len(result) == 30
    for batch, numbers in zip(result, order, strict=True):
        for index, number in zip(batch.index.tolist(), numbers.tolist(), strict=True):
            assert index == number or number in (3, 4, 11)
            assert index not in (3, 4, 11)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_batches_without_any_jpeg(tmp_path, kind):
    fill(tmp_path, 8, kind)
    batches = list(source(tmp_path, tmp_path, steps=6))
    assert len(batches) == 6
    for batch in batches:
        for position, index in enumerate(batch.index.tolist()):
            expected = image_files.as_pillow_reads((tmp_path / f"{index:02d}.jpg").read_bytes())
            assert np.array_equal(batch.image(position).numpy(), expected)


def test_independent_backgrounds_come_with_the_batch(tmp_path):
    fill(tmp_path, 8)
    batches = list(source(tmp_path, tmp_path, steps=3, independent=True))
    assert [len(batch) for batch in batches] == [12, 12, 12]


def test_a_batch_outlives_its_source(tmp_path):
    fill(tmp_path, 12)
    iterator = source(tmp_path, tmp_path, steps=30)
    first = next(iterator)
    copy = first.pixels.clone()
    list(iterator)
    del iterator
    assert torch.equal(first.pixels, copy)


def test_the_reading_threads_end_with_the_iterator(tmp_path):
    fill(tmp_path, 12)
    iterator = source(tmp_path, tmp_path, steps=1000)
    next(iterator)
    assert reading_threads()
    iterator.close()
    assert not reading_threads()
    list(source(tmp_path, tmp_path, steps=2))
    assert not reading_threads()


def test_an_empty_plan_is_no_batches(tmp_path):
    fill(tmp_path, 4)
    assert list(source(tmp_path, tmp_path, steps=0)) == []


def test_a_decoder_that_fails_for_no_fault_of_the_images_is_an_error():
    encoded = [Loaded(0, 0, CommonJpeg(DECEPTIVE, 71, 97, orientation=1), [])]
    pixels = [Loaded(0, 0, torch.zeros(4, 4, 3, dtype=torch.uint8), [])]
    decoded = decode_batches(iter([encoded] * 5), lambda _: pixels, 1, None, 1, 0.0)
    assert next(decoded).batch is not None
    assert next(decoded).batch is not None
    with pytest.raises(UserError, match=r"DALI failed on 3 batches.*data.source=torch") as error:
        next(decoded)
    assert len(str(error.value).splitlines()) == 1
