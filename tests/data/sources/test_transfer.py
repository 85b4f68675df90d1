"""On the way to a GPU a batch that points into a cache becomes one of its own images alone."""

from concurrent.futures import ThreadPoolExecutor

import torch

from cp2fast.batch import RaggedBatch
from cp2fast.buffers import Buffers
from cp2fast.data.sources.transfer import gather


def scattered() -> RaggedBatch:
    """Eleven images of a buffer that holds much else, in another order than they lie."""
    pixels = torch.randint(0, 256, (20_000,), dtype=torch.uint8)
    return RaggedBatch(
        pixels=pixels,
        offset=torch.arange(11).flip(0) * 1500,
        height=torch.arange(10, 21, dtype=torch.int32),
        width=torch.full((11,), 20, dtype=torch.int32),
        index=torch.arange(11),
    )


def test_the_images_are_copied_back_to_back() -> None:
    batch = scattered()
    with ThreadPoolExecutor(2) as pool:
        packed = gather(batch, Buffers(2), pool)()
    assert len(packed.pixels) == sum(batch.image(i).numel() for i in range(11))
    for position in range(11):
        assert torch.equal(packed.image(position), batch.image(position))
    assert packed.index is batch.index


def test_a_batch_of_its_images_alone_is_not_copied() -> None:
    batch = RaggedBatch.pack([torch.zeros(3, 4, 3, dtype=torch.uint8)] * 5, range(5))
    with ThreadPoolExecutor(1) as pool:
        assert gather(batch, Buffers(2), pool)() is batch
