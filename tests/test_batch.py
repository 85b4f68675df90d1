"""Images of different sizes go into one buffer and come out as they were."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cp2fast.batch import CopyPasteBatch, RaggedBatch

SIZES = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=6)


def random_images(sizes):
    return [torch.randint(256, (height, width, 3), dtype=torch.uint8) for height, width in sizes]


@given(SIZES)
def test_packed_images_come_out_unchanged(sizes):
    images = random_images(sizes)
    batch = RaggedBatch.pack(images, index=range(len(images)))
    assert len(batch) == len(images)
    for position, image in enumerate(images):
        torch.testing.assert_close(batch.image(position), image, rtol=0, atol=0)


@given(SIZES)
def test_images_lie_back_to_back(sizes):
    batch = RaggedBatch.pack(random_images(sizes), index=range(len(sizes)))
    ends = batch.offset + batch.height.long() * batch.width * 3
    assert batch.offset[0] == 0
    assert batch.offset[1:].tolist() == ends[:-1].tolist()
    assert ends[-1] == len(batch.pixels)


def test_dtypes_are_those_of_the_contract():
    batch = RaggedBatch.pack(random_images([(2, 3), (4, 5)]), index=torch.tensor([7, 2**40]))
    dtypes = {name: tensor.dtype for name, tensor in vars(batch).items()}
    assert dtypes == {
        "pixels": torch.uint8,
        "offset": torch.int64,
        "height": torch.int32,
        "width": torch.int32,
        "index": torch.int64,
    }
    assert batch.index.tolist() == [7, 2**40]


def test_of_a_cache_only_the_images_of_the_batch_move_to_another_device():
    cache = RaggedBatch.pack(random_images([(50, 40), (2, 3), (9, 9)]), index=[4, 5, 6])
    one = RaggedBatch(cache.pixels, *(field[1:2] for field in list(vars(cache).values())[1:]))
    moved = one.to(torch.device("meta"))
    assert moved.pixels.shape == (2 * 3 * 3,)
    assert moved.offset.tolist() == [0]
    assert moved.index.tolist() == [5]
    assert one.to(torch.device("cpu")).pixels.data_ptr() == cache.pixels.data_ptr()
    assert cache.to(torch.device("meta")).pixels.shape == cache.pixels.shape


def test_an_image_with_strides_is_packed_row_by_row():
    wide = random_images([(4, 10)])[0]
    batch = RaggedBatch.pack([wide[:, ::2]], index=[0])
    assert torch.equal(batch.image(0), wide[:, ::2])


def test_image_shares_the_buffer():
    batch = RaggedBatch.pack(random_images([(2, 2), (3, 3)]), index=[0, 1])
    batch.image(1)[0, 0, 0] = 9
    assert batch.pixels[batch.offset[1]] == 9


DEVICES = ["meta", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
def test_of_decoded_images_the_pixels_alone_move(device):
    batch = RaggedBatch.pack(random_images([(2, 2)]), index=[0]).to(torch.device(device))
    devices = {name: tensor.device.type for name, tensor in vars(batch).items()}
    assert devices.pop("pixels") == device
    assert set(devices.values()) == {"cpu"}


@pytest.mark.parametrize("device", DEVICES)
def test_images_on_a_device_are_packed_there(device):
    images = [image.to(device) for image in random_images([(2, 3), (4, 5)])]
    batch = RaggedBatch.pack(images, index=[0, 1])
    assert batch.pixels.device.type == device
    assert batch.offset.tolist() == [0, 18]


@pytest.mark.parametrize("device", DEVICES)
def test_composed_batches_move_as_a_whole(device):
    image, mask = torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    moved = CopyPasteBatch(image, image, mask, mask).to(torch.device(device))
    assert {tensor.device.type for tensor in vars(moved).values()} == {device}
    assert len(moved) == 1
