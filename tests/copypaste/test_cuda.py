"""The CUDA backend: in numba's simulator, compiled for a card that is not here, and on one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import triton
from hypothesis import given, settings

from cp2fast.batch import RaggedBatch
from cp2fast.copypaste.cuda_jit import RESIDENTS, WARP, WARPS
from cp2fast.copypaste.cuda_kernel import compose, mean_luma
from cp2fast.copypaste.cuda_launch import load
from cp2fast.copypaste.draw import draw
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.parameters import Parameters
from tests.copypaste import cases
from tests.copypaste.cases import Composed, arguments, assert_same_bits, photo

HERE = Path(__file__).parent
SHARED_MEMORY = 48 * 1024
"""Bytes that a block may have on any card without asking."""
PTXAS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
"""NVIDIA's assembler, which torch brings for its compiler."""
REGISTERS = 64 * 1024
"""Of a multiprocessor."""


def run(script: str, **environment: str) -> str:
    root = HERE.parents[1]
    done = subprocess.run(
        [sys.executable, HERE / script],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_kernels_agree_with_the_reference_in_the_simulator() -> None:
    checks = run("cuda_in_simulator.py", NUMBA_ENABLE_CUDASIM="1").splitlines()
    assert len(checks) == 3


@pytest.fixture(scope="module")
def ptx() -> list[str]:
    """Of each kernel."""
    return [".version" + text for text in run("cuda_to_ptx.py").split(".version")[1:]]


def test_the_kernels_compile_for_sm_90(ptx: list[str]) -> None:
    assert len(ptx) == 2
    for kernel in ptx:
        assert ".target sm_90" in kernel
        assert ".local" not in kernel, "an array in slow memory"
        assert ".f64" not in kernel, "double arithmetic"
        sizes = re.findall(r"\.shared .*?\[(\d+)\]", kernel)
        assert 0 < sum(map(int, sizes)) <= SHARED_MEMORY


def test_a_kernel_takes_addresses_and_whole_numbers_alone(ptx: list[str]) -> None:
    """What a launch passes: 64 bits for each field of the inputs, and so on."""
    for kernel, expected in zip(ptx, (12 + 3, 12 + 4 + 2 * 3), strict=True):
        head = kernel[kernel.index(".entry") :].partition("{")[0]
        assert head.count(".param .u64") == head.count(".param") == expected


def test_four_blocks_share_a_multiprocessor_with_all_of_their_registers(ptx, tmp_path) -> None:
    for kernel in ptx:
        source = tmp_path / "kernel.ptx"
        # The assembler may be older than the compiler; nothing newer than this is in the code.
        source.write_text(re.sub(r"\.version [\d.]+", ".version 8.0", kernel))
        assembler = [PTXAS, "-v", "-arch=sm_90", source, "-o", tmp_path / "kernel.cubin"]
        report = subprocess.run(assembler, capture_output=True, text=True, check=True).stderr
        assert "0 bytes spill stores, 0 bytes spill loads" in report
        [registers] = map(int, re.findall(r"Used (\d+) registers", report))
        assert RESIDENTS * WARPS * WARP * registers <= REGISTERS


def on_gpu(batch: RaggedBatch, parameters: Parameters, size: int, dtype=torch.float32) -> Composed:
    out = copy_paste(batch.to(torch.device("cuda")), parameters, size, dtype, backend="cuda")
    return out.query, out.key, out.query_mask, out.key_mask


@pytest.fixture
def batch() -> RaggedBatch:
    sides = [(97, 130), (240, 61), (33, 33), (150, 400), (12, 300), (260, 255), (1, 1), (64, 80)]
    return RaggedBatch.pack([photo(*s, seed=i) for i, s in enumerate(sides)], range(len(sides)))


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", [mean_luma, compose])
def test_the_kernels_on_the_card_spill_no_register_and_run_four_at_a_time(kernel) -> None:
    loaded = load(kernel, torch.cuda.get_device_capability())
    assert loaded.attributes[0].local_size_bytes == 0
    assert loaded.occupancy.max_active_blocks_per_multiprocessor(WARP * WARPS, 0) >= RESIDENTS


@pytest.mark.gpu
@settings(deadline=None, max_examples=100)
@given(cases.cases(max_size=120))
def test_agrees_with_the_reference(case: tuple[RaggedBatch, Parameters, int]) -> None:
    batch, parameters, size = case
    cases.assert_agrees(on_gpu(batch, parameters, size), batch, parameters, size)


@pytest.mark.gpu
def test_agrees_as_drawn_at_the_papers_size(batch: RaggedBatch) -> None:
    parameters = draw(0, 0, batch, 224, "batch")
    cases.assert_agrees(on_gpu(batch, parameters, 224), batch, parameters, 224)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_the_float32_result_rounded(batch, dtype) -> None:
    parameters = draw(0, 0, batch, 61, "batch")
    single, half = on_gpu(batch, parameters, 61), on_gpu(batch, parameters, 61, dtype)
    assert_same_bits(half, (single[0].to(dtype), single[1].to(dtype), *single[2:]))


@pytest.mark.gpu
def test_the_rest_of_the_batch_and_its_order_change_no_bit(batch) -> None:
    parameters = draw(0, 0, batch, 50, "batch")
    whole = on_gpu(batch, parameters, 50)
    for chosen in ([5], [3, 0, 6], list(reversed(range(len(batch))))):
        some = Parameters(*(tensor[chosen] for tensor in vars(parameters).values()))
        assert_same_bits(on_gpu(batch, some, 50), tuple(x[chosen] for x in whole))


@pytest.mark.gpu
def test_a_cuda_graph_captures_the_op_and_replays_it_on_new_pixels(batch) -> None:
    device = torch.device("cuda")
    fixed, drawn = batch.to(device), draw(0, 0, batch, 64, "batch")
    tensors = [*arguments(fixed, drawn.to(device)), 64, torch.bfloat16, "cuda"]
    torch.ops.cp2fast.copy_paste(*tensors)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = torch.ops.cp2fast.copy_paste(*tensors)
    fixed.pixels.copy_(255 - fixed.pixels)
    graph.replay()
    assert_same_bits(captured, torch.ops.cp2fast.copy_paste(*tensors))


@pytest.mark.gpu
def test_works_on_the_current_stream(batch) -> None:
    """Pixels that another stream's work delivers late are waited for, by stream order alone."""
    device, stream = torch.device("cuda"), torch.cuda.Stream()
    parameters = draw(0, 0, batch, 64, "batch").to(device)
    expected = on_gpu(batch, parameters, 64)
    late = batch.to(device)
    pixels = late.pixels.clone()
    late.pixels.zero_()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late.pixels.copy_(pixels)
        tensors = [*arguments(late, parameters), 64, torch.float32, "cuda"]
        ours = torch.ops.cp2fast.copy_paste(*tensors)
    stream.synchronize()
    assert_same_bits(ours, expected)


@pytest.mark.gpu
def test_nothing_is_allocated_from_the_card_after_the_first_call(batch) -> None:
    device = torch.device("cuda")
    tensors = [*arguments(batch.to(device), draw(0, 0, batch, 224, "batch").to(device))]
    torch.ops.cp2fast.copy_paste(*tensors, 224, torch.bfloat16, "cuda")
    torch.cuda.synchronize()
    free = torch.cuda.mem_get_info()[0]
    for _ in range(20):
        torch.ops.cp2fast.copy_paste(*tensors, 224, torch.bfloat16, "cuda")
    torch.cuda.synchronize()
    assert torch.cuda.mem_get_info()[0] >= free
