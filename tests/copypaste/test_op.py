"""The op: its outputs, its backends, and its place in torch."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import interpolate

from cp2fast.batch import RaggedBatch
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD, AugmentSettings
from cp2fast.copypaste.interface import Request
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.reference import copy_paste_reference
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.copypaste.views import pack
from tests.copypaste.cases import assert_agrees, photo

SIZE = 32
SIZES = [(40, 50), (64, 30), (33, 33), (90, 70)]


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(0)
    images = [
        interpolate(torch.rand(1, 3, 5, 6, generator=generator), size, mode="bilinear")[0]
        for size in SIZES
    ]
    pixels = [(image * 255).byte().permute(1, 2, 0) for image in images]
    return RaggedBatch.pack(pixels, index=range(len(SIZES)))


@pytest.fixture(scope="module")
def parameters(batch):
    return sample_parameters(0, 0, batch, SIZE)


def arguments(batch, parameters, backend="reference", dtype=torch.float32):
    views = pack(batch, parameters).to(batch.pixels.device)
    return batch.pixels, views, SIZE, dtype, list(IMAGENET_MEAN), list(IMAGENET_STD), backend


@pytest.mark.parametrize("backend", ["auto", "reference", "cpu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_outputs_are_those_of_the_contract(batch, parameters, backend, dtype):
    out = copy_paste(batch, parameters, SIZE, dtype, backend)
    assert len(out) == len(SIZES)
    for image in (out.query, out.key):
        assert image.shape == (len(SIZES), 3, SIZE, SIZE)
        assert image.dtype == dtype
        assert image.is_contiguous(memory_format=torch.channels_last)
    for mask in (out.query_mask, out.key_mask):
        assert mask.shape == (len(SIZES), SIZE, SIZE)
        assert mask.dtype == torch.bool


def test_the_reference_backend_is_the_reference(batch, parameters):
    out = copy_paste(batch, parameters, SIZE, backend="reference")
    expected = copy_paste_reference(Request(*arguments(batch, parameters)[:-1]))
    for tensor, other in zip(vars(out).values(), expected, strict=True):
        assert torch.equal(tensor, other)


@pytest.mark.parametrize("backend", ["auto", "cpu"])
def test_every_backend_agrees_with_the_reference(batch, parameters, backend):
    out = copy_paste(batch, parameters, SIZE, backend=backend)
    expected = copy_paste(batch, parameters, SIZE, backend="reference")
    assert torch.equal(out.query_mask, expected.query_mask)
    assert torch.equal(out.key_mask, expected.key_mask)
    for image, other in ((out.query, expected.query), (out.key, expected.key)):
        grey_levels = (image - other).abs() * 0.225 * 255
        assert grey_levels.mean() <= 1
        assert grey_levels.max() <= 4


ONE_PIXEL = {"crop_area": (1e-9, 1e-9), "paste_area": (1e-9, 1e-9)}
NARROW = {"crop_ratio": (1e-3, 1e-3), "paste_ratio": (1e3, 1e3)}
ALL = dict.fromkeys(("jitter", "grey", "blur", "flip", "vertical_flip", "turn"), 1.0)
NOTHING = dict.fromkeys(ALL, 0.0)


@pytest.mark.parametrize(
    "limits",
    [
        {},
        NOTHING | {"crop_area": (1, 1), "paste_area": (1, 1)},
        ALL | ONE_PIXEL | {"brightness": (0, 0), "hue": (-0.5, -0.5), "sigma": (0, 0)},
        ALL | NARROW | {"brightness": 0, "contrast": (9, 9), "hue": 0.5, "sigma": (2, 2)},
        ALL | {"grey": 0, "contrast": (0, 0), "saturation": (9, 9), "hue": 0, "sigma": (1e-3, 1)},
    ],
)
@pytest.mark.parametrize("size", [2, SIZE])
def test_settings_at_their_limits_give_the_pixels_of_the_reference(limits, size):
    """On photos from one pixel to many, of which most make no whole crop of that ratio."""
    photos = [photo(*sides) for sides in [(1, 1), (1, 900), (900, 1), (2, 3), (600, 800)]]
    batch = RaggedBatch.pack(photos, range(len(photos)))
    parameters = sample_parameters(0, 0, batch, size, augment=AugmentSettings(**limits))
    out = copy_paste(batch, parameters, size, backend="cpu")
    composed = out.query, out.key, out.query_mask, out.key_mask
    assert_agrees(composed, batch, parameters, size, share=0.25)


def test_tensors_with_strides_are_taken(batch, parameters):
    strided = type(parameters)(
        *(tensor.repeat_interleave(2, dim=0)[::2] for tensor in vars(parameters).values())
    )
    for backend in ("reference", "cpu"):
        out = copy_paste(batch, strided, SIZE, backend=backend)
        expected = copy_paste(batch, parameters, SIZE, backend=backend)
        assert torch.equal(out.query, expected.query)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_pixels_may_be_a_part_of_a_larger_tensor(batch, parameters, backend):
    store = torch.cat([torch.zeros(7, dtype=torch.uint8), batch.pixels])
    out = copy_paste(replace(batch, pixels=store[7:]), parameters, SIZE, backend=backend)
    assert torch.equal(out.query, copy_paste(batch, parameters, SIZE, backend=backend).query)


def test_wrong_parameters_are_refused(batch, parameters):
    shifted = type(parameters)(**{**vars(parameters), "source": parameters.source + 1})
    with pytest.raises(ValueError, match="source of sample"):
        copy_paste(batch, shifted, SIZE)


def test_unknown_and_missing_backends_are_refused(batch, parameters):
    with pytest.raises(ValueError, match=r"backend must be .*: 'gpu'"):
        copy_paste(batch, parameters, SIZE, backend="gpu")
    with pytest.raises(ValueError, match="backend 'cuda' takes tensors on cuda, not on cpu"):
        copy_paste(batch, parameters, SIZE, backend="cuda")


@pytest.mark.parametrize("backend", ["auto", "reference", "cpu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torch_accepts_the_op(batch, parameters, backend, dtype):
    torch.library.opcheck(
        torch.ops.cp2fast.copy_paste.default, arguments(batch, parameters, backend, dtype)
    )


def test_the_op_compiles_into_one_graph(batch, parameters):
    def query_and_background(*args):
        query, _, mask, _ = torch.ops.cp2fast.copy_paste(*args)
        return query * 2, ~mask

    compiled = torch.compile(query_and_background, fullgraph=True, backend="aot_eager")
    args = arguments(batch, parameters)
    for tensor, expected in zip(compiled(*args), query_and_background(*args), strict=True):
        assert torch.equal(tensor, expected)
        assert tensor.stride() == expected.stride()


def test_the_function_compiles_into_one_graph(batch, parameters):
    compiled = torch.compile(copy_paste, fullgraph=True, backend="aot_eager")
    out = compiled(batch, parameters, SIZE, backend="reference")
    assert torch.equal(out.key, copy_paste(batch, parameters, SIZE, backend="reference").key)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_without_a_background_the_mask_is_whole(batch, backend):
    parameters = sample_parameters(0, 0, batch, SIZE, "none")
    out = copy_paste(batch, parameters, SIZE, backend=backend)
    assert out.query_mask.all()
    assert out.key_mask.all()
    assert out.query.isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["auto", "reference", "cuda"])
def test_the_gpu_gives_the_same(batch, parameters, backend):
    pytest.importorskip("kornia")
    out = copy_paste(batch.to(torch.device("cuda")), parameters, SIZE, backend=backend)
    expected = copy_paste(batch, parameters, SIZE, backend="reference")
    assert out.query.is_cuda
    assert torch.equal(out.query_mask.cpu(), expected.query_mask)
    grey_levels = (out.query.cpu() - expected.query).abs() * 0.225 * 255
    assert grey_levels.mean() <= 1
    assert grey_levels.max() <= 4


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torch_accepts_the_op_on_a_gpu(batch, parameters, dtype):
    device = torch.device("cuda")
    torch.library.opcheck(
        torch.ops.cp2fast.copy_paste.default,
        arguments(batch.to(device), parameters, "cuda", dtype),
    )


@pytest.mark.gpu
def test_the_cpu_backend_refuses_a_gpu(batch, parameters):
    with pytest.raises(ValueError, match="backend 'cpu' takes tensors on cpu, not on cuda"):
        copy_paste(batch.to(torch.device("cuda")), parameters, SIZE, backend="cpu")
