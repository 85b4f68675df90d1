"""The CPU backend: the reference's pixels, and the same bits whatever is around them."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings

from cp2fast.batch import RaggedBatch
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.cpu.launch import copy_paste_cpu
from cp2fast.copypaste.interface import Request
from cp2fast.copypaste.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION, Parameters
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.copypaste.views import pack
from tests.copypaste import cases
from tests.copypaste.cases import Composed, assert_same_bits, photo, take
from tests.processes import Process

# Prints what becomes of a crop that needs more scratch than there is memory for, and whether it is
# composed as by a new thread once there is.
MEMORY_COMES_BACK = """
import resource
from dataclasses import replace
import torch
from tests.copypaste.cpu.test_launch import RaggedBatch, compose, photo, sample_parameters

def long(width):
    batch = RaggedBatch.pack([photo(1, width)] * 3, range(3))
    whole = torch.tensor([0, 0, 1, width], dtype=torch.int32).expand(3, 4, 4)
    return batch, replace(sample_parameters(0, 0, batch, 32), box=whole), 32

torch.set_num_threads(1)
compose(*long(100))
case, limits = long(4_000_000), resource.getrlimit(resource.RLIMIT_AS)
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (16 << 20), limits[1]))
try:
    compose(*case)
except MemoryError:
    print("no memory")
resource.setrlimit(resource.RLIMIT_AS, limits)
again = compose(*case)
torch.set_num_threads(2)
print(all(map(torch.equal, again, compose(*case))))
"""


def compose(
    batch: RaggedBatch,
    parameters: Parameters,
    size: int,
    dtype: torch.dtype = torch.float32,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Composed:
    views = pack(batch, parameters)
    return copy_paste_cpu(Request(batch.pixels, views, size, dtype, mean, std))


def assert_agrees(batch: RaggedBatch, parameters: Parameters, size: int) -> None:
    cases.assert_agrees(compose(batch, parameters, size), batch, parameters, size)


@pytest.fixture(scope="module")
def batch() -> RaggedBatch:
    sides = [(97, 130), (240, 61), (33, 33), (150, 400), (12, 300), (260, 255), (1, 1), (64, 80)]
    return RaggedBatch.pack([photo(*s, seed=i) for i, s in enumerate(sides)], range(len(sides)))


@settings(max_examples=100)
@given(cases.cases())
def test_agrees_with_the_reference(case: tuple[RaggedBatch, Parameters, int]) -> None:
    assert_agrees(*case)


def test_agrees_with_the_reference_as_drawn(batch: RaggedBatch) -> None:
    assert_agrees(batch, sample_parameters(0, 0, batch, 224), 224)


def test_agrees_on_large_images() -> None:
    large = RaggedBatch.pack([photo(1600, 2400), photo(2400, 1), photo(1, 2400)], range(3))
    assert_agrees(large, sample_parameters(1, 0, large, 37), 37)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_agrees_on_flat_images(level: int) -> None:
    flat = RaggedBatch.pack([torch.full((20, 30, 3), level, dtype=torch.uint8)] * 3, range(3))
    assert_agrees(flat, sample_parameters(2, 0, flat, 24), 24)


@pytest.mark.parametrize("before", [[], [BRIGHTNESS], [SATURATION], [SATURATION, BRIGHTNESS]])
@pytest.mark.parametrize("factor", [0.7, 1.3])
def test_contrast_takes_the_mean_of_the_whole_view(
    batch: RaggedBatch, before: list[int], factor: float
) -> None:
    """Whatever comes before it, and however little of the view is seen."""
    drawn = sample_parameters(3, 0, batch, 48)
    rest = [op for op in (CONTRAST, HUE, BRIGHTNESS, SATURATION) if op not in before]
    parameters = replace(
        drawn,
        order=torch.tensor(before + rest, dtype=torch.int32).expand(len(drawn), 4, 4).contiguous(),
        factor=torch.tensor([factor, 1.4, factor, 0.1]).expand(len(drawn), 4, 4).contiguous(),
        jitter=torch.ones_like(drawn.jitter),
        paste=torch.tensor([20, 20, 3, 3], dtype=torch.int32).expand(len(drawn), 2, 4).contiguous(),
    )
    assert_agrees(batch, parameters, 48)


@pytest.mark.parametrize("orientation", range(8))
def test_agrees_in_every_orientation(batch: RaggedBatch, orientation: int) -> None:
    drawn = sample_parameters(5, 0, batch, 71)
    laid = replace(drawn, orientation=torch.full_like(drawn.orientation, orientation))
    assert_agrees(batch, laid, 71)


@pytest.mark.parametrize("factor", [0.0, 9.0])
@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_agrees_at_the_limits_of_the_parameters(
    batch: RaggedBatch, factor: float, sigma: float
) -> None:
    """Crops of one pixel and of all, pastes of one pixel and of all, in every orientation."""
    drawn, size = sample_parameters(0, 0, batch, 24), 24
    box = torch.stack([torch.tensor([0, 0, *batch.image(i).shape[:2]]) for i in range(len(batch))])
    box = box.int()[drawn.source.long()]
    box[::2, :, 2:] = 1
    paste = torch.tensor([[23, 0, 1, 1], [0, 0, size, size]], dtype=torch.int32)
    parameters = replace(
        drawn,
        box=box,
        orientation=torch.arange(32, dtype=torch.uint8).view(8, 4) % 8,
        jitter=torch.ones_like(drawn.jitter),
        factor=torch.tensor([factor, factor, factor, 0.5]).expand(8, 4, 4).contiguous(),
        sigma=torch.full_like(drawn.sigma, sigma),
        paste=paste.expand(8, 2, 4).contiguous(),
    )
    ours = compose(batch, parameters, size)
    cases.assert_agrees(ours, batch, parameters, size, share=0.25)


def test_normalises_by_the_mean_and_deviation_given(batch: RaggedBatch) -> None:
    parameters, mean, std = (
        sample_parameters(0, 0, batch, 40),
        (0.1, 0.9, 0.5),
        (0.05, 2.0, 0.3),
    )
    ours = compose(batch, parameters, 40, mean=mean, std=std)
    cases.assert_agrees(ours, batch, parameters, 40, mean, std)


def test_images_may_lie_anywhere_in_the_pixels(batch: RaggedBatch) -> None:
    """Behind each other or not, in any order, beyond the first 2 GiB."""
    parameters = sample_parameters(0, 0, batch, 40)
    arena = torch.empty(2**31 + 2**23, dtype=torch.uint8)
    offset, end = torch.empty_like(batch.offset), len(arena)
    for position in range(len(batch)):
        image = batch.image(position)
        end -= image.numel() + 7
        offset[position] = end
        arena[end : end + image.numel()] = image.flatten()
    scattered = replace(batch, pixels=arena, offset=offset)
    assert offset.min() > 2**31
    assert_same_bits(compose(scattered, parameters, 40), compose(batch, parameters, 40))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_the_float32_result_rounded(
    batch: RaggedBatch, dtype: torch.dtype
) -> None:
    parameters = sample_parameters(0, 0, batch, 61)
    single, half = compose(batch, parameters, 61), compose(batch, parameters, 61, dtype)
    assert_same_bits(half, (single[0].to(dtype), single[1].to(dtype), *single[2:]))


def test_outputs_are_channels_last(batch: RaggedBatch) -> None:
    query, key, query_mask, key_mask = compose(batch, sample_parameters(0, 0, batch, 40), 40)
    for image in (query, key):
        assert image.shape == (len(batch), 3, 40, 40)
        assert image.is_contiguous(memory_format=torch.channels_last)
    for mask in (query_mask, key_mask):
        assert mask.shape == (len(batch), 40, 40)
        assert mask.dtype == torch.bool


def test_no_samples_make_no_pairs(batch: RaggedBatch) -> None:
    parameters = sample_parameters(0, 0, batch, 40)
    none = take(parameters, [])
    assert [tuple(x.shape) for x in compose(batch, none, 40)] == [(0, 3, 40, 40)] * 2 + [
        (0, 40, 40)
    ] * 2


@pytest.mark.parametrize("threads", [1, 3, 16])
def test_the_number_of_threads_changes_no_bit_and_stays(batch: RaggedBatch, threads: int) -> None:
    parameters = sample_parameters(0, 0, batch, 50)
    expected = compose(batch, parameters, 50)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_same_bits(compose(batch, parameters, 50), expected)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_the_rest_of_the_batch_and_its_order_change_no_bit(batch: RaggedBatch) -> None:
    parameters = sample_parameters(0, 0, batch, 50)
    whole = compose(batch, parameters, 50)
    for chosen in ([5], [3, 0, 6], list(reversed(range(len(batch))))):
        assert_same_bits(
            compose(batch, take(parameters, chosen), 50), tuple(x[chosen] for x in whole)
        )


def test_nothing_but_the_crops_is_read(batch: RaggedBatch) -> None:
    images = [batch.image(i).clone() for i in range(len(batch))]
    parameters = sample_parameters(4, 0, batch, 50)
    expected = compose(batch, parameters, 50)
    for i, image in enumerate(images):
        cropped = torch.zeros(image.shape[:2], dtype=torch.bool)
        for top, left, height, width in parameters.box[parameters.source == i].tolist():
            cropped[top : top + height, left : left + width] = True
        image[~cropped] = 255 - image[~cropped]
    assert_same_bits(compose(RaggedBatch.pack(images, batch.index), parameters, 50), expected)


def test_sizes_may_change_from_call_to_call(batch: RaggedBatch) -> None:
    """The scratch kept from a larger call, or a smaller one, leaves no trace."""
    parameters = {size: sample_parameters(0, 0, batch, size) for size in (9, 80)}
    first = {size: compose(batch, p, size) for size, p in parameters.items()}
    for size, p in [*parameters.items(), *parameters.items()]:
        assert_same_bits(compose(batch, p, size), first[size])


def test_threads_may_call_at_once(batch: RaggedBatch) -> None:
    parameters = [sample_parameters(0, epoch, batch, 50) for epoch in range(8)]
    expected = [compose(batch, p, 50) for p in parameters]
    with ThreadPoolExecutor(4) as callers:
        results = list(callers.map(lambda p: compose(batch, p, 50), parameters))
    for one, other in zip(results, expected, strict=True):
        assert_same_bits(one, other)


def test_a_forked_process_may_call(batch: RaggedBatch) -> None:
    parameters = sample_parameters(0, 0, batch, 50)
    expected = compose(batch, parameters, 50)
    child = os.fork()
    if child == 0:
        ours = compose(batch, parameters, 50)
        # In numpy: torch's own threads do not survive a fork.
        same = all((x.numpy() == y.numpy()).all() for x, y in zip(ours, expected, strict=True))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0) == (child, 0)


@pytest.mark.slow
def test_memory_that_was_missing_may_come_back() -> None:
    process = Process(script=MEMORY_COMES_BACK)
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert said.split("\n") == ["no memory", "True", ""]
