"""What the CUDA kernels compute, without a GPU: their source, built by g++ (see gpu_on_cpu.h)."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, seed, settings

from cp2fast.batch import RaggedBatch
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.parameters import Parameters
from cp2fast.copypaste.sampling import sample_parameters
from tests.copypaste import cases
from tests.copypaste.cases import assert_agrees, assert_same_bits, photo, take
from tests.copypaste.cuda.on_cpu import Kernels

pytestmark = pytest.mark.slow

SHARE = 0.25
"""Of the error that backends are allowed, even of colours that extreme factors have multiplied."""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    return Kernels.build(tmp_path_factory.mktemp("kernels"), "-O2")


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """Any access outside of what is there, and any undefined arithmetic, ends it."""
    options = "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"
    return Kernels.build(tmp_path_factory.mktemp("checked"), *options)


@pytest.fixture
def batch() -> RaggedBatch:
    sides = [(97, 130), (60, 240), (33, 33), (12, 300), (1, 1)]
    return RaggedBatch.pack([photo(*s, seed=i) for i, s in enumerate(sides)], range(len(sides)))


def test_the_kernels_agree_with_the_reference(kernels: Kernels) -> None:
    @seed(0)
    @settings(max_examples=60, database=None)
    @given(cases.cases(max_size=40, max_height=700, max_width=700))
    def agree(case: tuple[RaggedBatch, Parameters, int]) -> None:
        batch, parameters, size = case
        assert_agrees(kernels(*case), batch, parameters, size, share=SHARE)

    agree()


@pytest.mark.parametrize("size", [64, 100])
def test_they_agree_closely_on_what_is_drawn(
    kernels: Kernels, batch: RaggedBatch, size: int
) -> None:
    """In one tile and in several."""
    parameters = sample_parameters(0, 0, batch, size)
    assert_agrees(kernels(batch, parameters, size), batch, parameters, size, share=0.1)


def test_the_smallest_outputs_of_the_largest_images(kernels: Kernels) -> None:
    """More source pixels to an output pixel than float16 could count."""
    large = RaggedBatch.pack([photo(300, 900), photo(900, 1), photo(1, 900)], range(3))
    for size in (2, 5):
        parameters = sample_parameters(1, 0, large, size)
        assert_agrees(kernels(large, parameters, size), large, parameters, size, share=SHARE)


def test_rounding_between_the_passes_costs_at_most_a_twelfth_of_a_grey_level(
    kernels: Kernels,
) -> None:
    """In pictures of one colour each, in which no weight matters, shrunk 1 to 3 times."""
    sides = range(20, 60)
    flat = [torch.full((n, n, 3), 275 - n, dtype=torch.uint8) for n in sides]
    batch = RaggedBatch.pack(flat, range(len(sides)))
    drawn = sample_parameters(0, 0, batch, 20)
    off, side = torch.zeros_like(drawn.jitter), batch.height[drawn.source.long()]
    whole = torch.stack([0 * side, 0 * side, side, side], dim=-1)
    plain = replace(drawn, box=whole, jitter=off, grey=off, sigma=0 * drawn.sigma)
    mean, std = (torch.tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
    for image in kernels(batch, plain, 20)[:2]:
        levels = 255 * (image * std + mean)
        assert (levels - levels.round()).abs().max() <= 1 / 12


def test_a_blur_too_narrow_to_square_is_none(kernels: Kernels, batch: RaggedBatch) -> None:
    drawn = sample_parameters(0, 0, batch, 24)
    narrow, none = (replace(drawn, sigma=torch.full_like(drawn.sigma, s)) for s in (1e-22, 0))
    assert_same_bits(kernels(batch, narrow, 24), kernels(batch, none, 24))


def test_other_means_and_deviations(kernels: Kernels, batch: RaggedBatch) -> None:
    parameters, mean, std = (
        sample_parameters(2, 0, batch, 24),
        (0.1, 0.5, 0.9),
        (1.0, 0.5, 0.25),
    )
    ours = kernels(batch, parameters, 24, mean=mean, std=std)
    assert_agrees(ours, batch, parameters, 24, mean, std, share=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_the_float32_result_rounded(
    kernels: Kernels, batch: RaggedBatch, dtype: torch.dtype
) -> None:
    for size in (21, 36):  # stored pixel by pixel, and four at a time
        parameters = sample_parameters(0, 0, batch, size)
        single, half = (kernels(batch, parameters, size, d) for d in (torch.float32, dtype))
        assert_same_bits(half, (single[0].to(dtype), single[1].to(dtype), *single[2:]))


def test_no_bit_depends_on_the_rest_of_the_batch_or_on_the_order_of_threads(
    kernels: Kernels, batch: RaggedBatch
) -> None:
    drawn = sample_parameters(0, 0, batch, 30)
    parameters = replace(drawn, jitter=torch.ones_like(drawn.jitter))
    whole = kernels(batch, parameters, 30)
    for order, chosen in enumerate(([1], [3, 0])):
        some = kernels(batch, take(parameters, chosen), 30, seed=order)
        assert_same_bits(some, tuple(x[chosen] for x in whole))


def test_work_is_planned_for_more_views_than_a_block_has_threads(kernels: Kernels) -> None:
    """Each pair is that of a batch of its own, whichever views are cut into more items."""
    sides = [(40, 9), (5, 6), (1, 30), (8, 8)]
    images = RaggedBatch.pack([photo(*s, seed=i) for i, s in enumerate(sides)], range(len(sides)))
    four = sample_parameters(0, 0, images, 5)
    times = 70  # 1,120 views
    many = Parameters(*(torch.cat([tensor] * times) for tensor in vars(four).values()))
    expected = [torch.cat([tensor] * times) for tensor in kernels(images, four, 5)]
    assert_same_bits(kernels(images, many, 5), expected)


def test_nothing_but_the_crops_matters(kernels: Kernels, batch: RaggedBatch) -> None:
    parameters = take(sample_parameters(1, 0, batch, 9), [0])
    expected = kernels(batch, parameters, 9)
    images = [batch.image(i).clone() for i in range(len(batch))]
    for i, image in enumerate(images):
        cropped = torch.zeros(image.shape[:2], dtype=torch.bool)
        for top, left, height, width in parameters.box[parameters.source == i].tolist():
            cropped[top : top + height, left : left + width] = True
        image[~cropped] = 255 - image[~cropped]
    other = RaggedBatch.pack(images, range(len(images)))
    assert_same_bits(kernels(other, parameters, 9), expected)


def test_pixels_may_begin_anywhere_in_memory(checked: Kernels, batch: RaggedBatch) -> None:
    for size in (9, 36):
        parameters = sample_parameters(1, 0, batch, size)
        expected = checked(batch, parameters, size)
        for skip in (1, 6, 15):
            assert_same_bits(checked(batch, parameters, size, skip=skip), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_access_is_out_of_bounds_and_no_arithmetic_undefined(
    checked: Kernels, batch: RaggedBatch, dtype: torch.dtype
) -> None:
    turned = torch.arange(20, dtype=torch.uint8).view(5, 4) % 8
    for size in (3, 36, 70):
        parameters = replace(sample_parameters(size, 0, batch, size), orientation=turned)
        checked(batch, parameters, size, dtype)


def test_no_random_case_is_out_of_bounds_either(checked: Kernels) -> None:
    @seed(1)
    @settings(max_examples=20, database=None)
    @given(cases.cases(max_size=24, max_height=300, max_width=300))
    def run(case: tuple[RaggedBatch, Parameters, int]) -> None:
        checked(*case)

    run()
