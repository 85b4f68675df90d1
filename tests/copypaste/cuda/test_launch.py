"""The CUDA backend on a card: the reference's pixels, streams, graphs and memory."""

import pytest
import torch
from hypothesis import given, settings

from cp2fast.batch import RaggedBatch
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.cuda.launch import (
    LEAST_AREA,
    PLANNERS,
    THREADS,
    copy_paste_cuda,
    loaded_kernels,
    most_items,
    parts,
)
from cp2fast.copypaste.interface import Request
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.parameters import Parameters
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.copypaste.validate import MAX_SIGMA
from cp2fast.copypaste.views import pack
from tests.copypaste import cases
from tests.copypaste.cases import Composed, assert_agrees, assert_same_bits, photo, take

GPU = torch.device("cuda")
SHARE = 0.25


def on_gpu(batch: RaggedBatch, parameters: Parameters, size: int, dtype=torch.float32) -> Composed:
    out = copy_paste(batch, parameters, size, dtype, backend="cuda", device=GPU)
    return out.query, out.key, out.query_mask, out.key_mask


def arguments(batch: RaggedBatch, parameters: Parameters, size: int, dtype: torch.dtype):
    """Of the registered op, all on the card."""
    views = pack(batch, parameters).to(GPU)
    return batch.pixels.to(GPU), views, size, dtype, IMAGENET_MEAN, IMAGENET_STD, "cuda"


@pytest.fixture
def batch() -> RaggedBatch:
    sides = [(97, 130), (240, 61), (33, 33), (150, 400), (12, 300), (260, 255), (1, 1), (64, 80)]
    return RaggedBatch.pack([photo(*s, seed=i) for i, s in enumerate(sides)], range(len(sides)))


def test_lists_of_work_have_room_for_the_smallest_items() -> None:
    assert LEAST_AREA == 64 / 2 - 2 * 3 * MAX_SIGMA
    assert [parts(size) for size in (16, 17, 32, 33, 224)] == [1, 1, 1, 3, 49]
    assert [most_items(size) for size in (20, 21, 224)] == [9, 16, 196]
    assert all(parts(size) <= most_items(size) for size in range(1, 2000))


@pytest.mark.gpu
def test_the_kernels_on_the_card_spill_nothing_and_share_a_multiprocessor(batch) -> None:
    on_gpu(batch, sample_parameters(0, 0, batch, 8), 8)
    gpu = loaded_kernels(torch.cuda.current_device())
    major, minor = torch.cuda.get_device_capability()
    much_memory = (major, minor) in {(8, 0), (8, 7), (9, 0)} or major == 10
    of_mean, of_compose = (5, 4) if much_memory else (3, 2)
    for kernel, threads, blocks in (
        (gpu.plan, PLANNERS, 1),
        (gpu.mean_luma, THREADS, of_mean),
        (gpu.compose, THREADS, of_compose),
    ):
        assert kernel.attributes[0].local_size_bytes == 0
        assert kernel.occupancy.max_active_blocks_per_multiprocessor(threads, 0) >= blocks


@pytest.mark.gpu
def test_pixels_may_be_a_part_of_a_larger_tensor(batch) -> None:
    pixels, *others = arguments(batch, sample_parameters(0, 0, batch, 64), 64, torch.float32)
    expected = torch.ops.cp2fast.copy_paste(pixels, *others)
    for skip in (1, 6, 15):
        larger = torch.cat([torch.full((skip,), 99, dtype=torch.uint8, device=GPU), pixels])
        assert_same_bits(torch.ops.cp2fast.copy_paste(larger[skip:], *others), expected)


@pytest.mark.gpu
@settings(max_examples=100)
@given(cases.cases(max_size=120))
def test_agrees_with_the_reference(case: tuple[RaggedBatch, Parameters, int]) -> None:
    pytest.importorskip("kornia")
    batch, parameters, size = case
    assert_agrees(on_gpu(batch, parameters, size), batch, parameters, size, share=SHARE)


@pytest.mark.gpu
def test_agrees_closely_as_drawn_at_the_papers_size(batch: RaggedBatch) -> None:
    pytest.importorskip("kornia")
    parameters = sample_parameters(0, 0, batch, 224)
    assert_agrees(on_gpu(batch, parameters, 224), batch, parameters, 224, share=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_the_float32_result_rounded(batch, dtype) -> None:
    for size in (61, 64):
        parameters = sample_parameters(0, 0, batch, size)
        single, half = (on_gpu(batch, parameters, size, d) for d in (torch.float32, dtype))
        assert_same_bits(half, (single[0].to(dtype), single[1].to(dtype), *single[2:]))


@pytest.mark.gpu
def test_the_rest_of_the_batch_and_its_order_change_no_bit(batch) -> None:
    parameters = sample_parameters(0, 0, batch, 50)
    whole = on_gpu(batch, parameters, 50)
    for chosen in ([5], [3, 0, 6], list(reversed(range(len(batch))))):
        assert_same_bits(on_gpu(batch, take(parameters, chosen), 50), [x[chosen] for x in whole])


@pytest.mark.gpu
def test_every_pixel_is_written(batch) -> None:
    """Whatever was in the memory before, which the allocator hands out again."""
    for size in (7, 64, 224):
        given = arguments(batch, sample_parameters(0, 0, batch, size), size, torch.float16)
        expected = torch.ops.cp2fast.copy_paste(*given)
        dirt = [torch.full((x.nbytes,), 123, dtype=torch.uint8, device=GPU) for x in expected]
        del dirt
        assert_same_bits(torch.ops.cp2fast.copy_paste(*given), expected)


@pytest.mark.gpu
def test_a_cuda_graph_captures_the_op_and_replays_it_on_new_pixels(batch) -> None:
    given = arguments(batch, sample_parameters(0, 0, batch, 64), 64, torch.bfloat16)
    torch.ops.cp2fast.copy_paste(*given)  # loads the kernels
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = torch.ops.cp2fast.copy_paste(*given)
    given[0].copy_(255 - given[0])
    graph.replay()
    assert_same_bits(captured, torch.ops.cp2fast.copy_paste(*given))


@pytest.mark.gpu
def test_works_on_the_current_stream(batch) -> None:
    """Pixels that another stream's work delivers late are waited for, by stream order alone."""
    given = arguments(batch, sample_parameters(0, 0, batch, 64), 64, torch.float32)
    stream, late = torch.cuda.Stream(), given[0]
    expected = torch.ops.cp2fast.copy_paste(*given)
    pixels = late.clone()
    late.zero_()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late.copy_(pixels)
        ours = torch.ops.cp2fast.copy_paste(*given)
    stream.synchronize()
    assert_same_bits(ours, expected)


@pytest.mark.gpu
def test_nothing_is_allocated_from_the_card_after_the_first_call(batch) -> None:
    given = arguments(batch, sample_parameters(0, 0, batch, 224), 224, torch.bfloat16)
    torch.ops.cp2fast.copy_paste(*given)
    torch.cuda.synchronize()
    free = torch.cuda.mem_get_info()[0]
    for _ in range(20):
        torch.ops.cp2fast.copy_paste(*given)
    torch.cuda.synchronize()
    assert torch.cuda.mem_get_info()[0] >= free


@pytest.mark.gpu
def test_an_empty_batch_is_nothing_to_do() -> None:
    views = torch.empty((0, 4, 16), dtype=torch.int32, device=GPU)
    pixels = torch.empty(0, dtype=torch.uint8, device=GPU)
    request = Request(pixels, views, 8, torch.float32, IMAGENET_MEAN, IMAGENET_STD)
    query, *_ = copy_paste_cuda(request)
    assert query.shape == (0, 3, 8, 8)
