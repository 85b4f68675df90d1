"""What every backend of copy-paste is tested on."""

from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from cp2fast.batch import RaggedBatch
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.interface import Composed, Request
from cp2fast.copypaste.parameters import Parameters
from cp2fast.copypaste.reference import copy_paste_reference
from cp2fast.copypaste.views import pack


def photo(height: int, width: int, seed: int = 0) -> Tensor:
    """Waves of all colours under noise, saturated in places; beyond 300 pixels they repeat."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : min(height, 300), 0 : min(width, 300)][..., None]
    waves = np.sin(y / random.uniform(3, 40, 3) + x / random.uniform(3, 40, 3))
    noise = random.normal(0, 25, waves.shape)
    pixels = (128 + 140 * waves + noise).clip(0, 255).astype(np.uint8)
    times = -(-height // len(pixels)), -(-width // pixels.shape[1]), 1
    return torch.from_numpy(np.tile(pixels, times)[:height, :width].copy())


def batch_of(sizes: list[tuple[int, int]], index: Sequence[int] | None = None) -> RaggedBatch:
    """A batch of images of these heights and widths, without pixels: drawing looks at none."""
    height, width = torch.tensor(sizes, dtype=torch.int32).T
    numbers = torch.arange(len(sizes)) if index is None else torch.tensor(index)
    return RaggedBatch(torch.empty(0, dtype=torch.uint8), numbers * 0, height, width, numbers)


def same_size(count: int, height: int = 375, width: int = 500) -> RaggedBatch:
    return batch_of([(height, width)] * count)


def take(parameters: Parameters, samples: list[int] | slice) -> Parameters:
    """The parameters of some samples."""
    return Parameters(*(tensor[samples] for tensor in vars(parameters).values()))


def assert_agrees(
    ours: Composed,
    batch: RaggedBatch,
    parameters: Parameters,
    size: int,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    share: float = 0.01,
) -> None:
    """As the reference, with a share of the error that backends are allowed."""
    views = pack(batch, parameters)
    request = Request(batch.pixels, views, size, torch.float32, mean, std)
    expected = copy_paste_reference(request)
    deviation = torch.tensor(std)[:, None, None]  # in units of the pixel range
    for mine, theirs in zip(ours[:2], expected[:2], strict=True):
        error = (mine.cpu() - theirs).abs() * deviation
        assert error.max() <= 4 * share / 255
        assert error.mean() <= share / 255
    assert torch.equal(ours[2].cpu(), expected[2])
    assert torch.equal(ours[3].cpu(), expected[3])


def assert_same_bits(one: Composed, other: Composed) -> None:
    assert all(torch.equal(x, y) for x, y in zip(one, other, strict=True))


def rectangle_in(height: int, width: int) -> st.SearchStrategy[list[int]]:
    """(top, left, height, width)."""

    def placed(sides: tuple[int, int]) -> st.SearchStrategy[list[int]]:
        places = st.tuples(
            *(st.integers(0, n - m) for n, m in zip((height, width), sides, strict=True))
        )
        return places.map(lambda place: [*place, *sides])

    return st.tuples(st.integers(1, height), st.integers(1, width)).flatmap(placed)


@st.composite
def cases(
    draw_: st.DrawFn, max_size: int = 64, max_height: int = 2400, max_width: int = 1600
) -> tuple[RaggedBatch, Parameters, int]:
    """One sample from one to four images, anything that the op allows; one in four is large."""
    size = draw_(st.integers(1, max_size))
    small = st.tuples(st.integers(1, min(300, max_height)), st.integers(1, min(300, max_width)))
    large = st.tuples(st.integers(1, max_height), st.integers(1, max_width))
    sides = st.one_of(small, small, small, large)
    shapes = draw_(st.lists(sides, min_size=1, max_size=4))
    source = draw_(st.lists(st.integers(0, len(shapes) - 1), min_size=4, max_size=4))
    factors = st.tuples(*[st.sampled_from([0.0, 0.6, 1.0, 1.4, 3.0])] * 3, st.floats(-2, 2))
    four = {"min_size": 4, "max_size": 4}
    flags = st.lists(st.booleans(), **four)
    orientations = st.lists(st.integers(0, 7), **four)
    sigma = st.one_of(st.just(0.0), st.floats(0.05, 2))
    parameters = Parameters(
        source=torch.tensor([source], dtype=torch.int32),
        box=torch.tensor([[draw_(rectangle_in(*shapes[i])) for i in source]], dtype=torch.int32),
        orientation=torch.tensor([draw_(orientations)], dtype=torch.uint8),
        jitter=torch.tensor([draw_(flags)]),
        factor=torch.tensor([draw_(st.lists(factors, **four))], dtype=torch.float32),
        order=torch.tensor(
            [[draw_(st.permutations(range(4))) for _ in range(4)]], dtype=torch.int32
        ),
        grey=torch.tensor([draw_(flags)]),
        sigma=torch.tensor([draw_(st.lists(sigma, **four))], dtype=torch.float32),
        paste=torch.tensor(
            [[draw_(rectangle_in(size, size)) for _ in range(2)]], dtype=torch.int32
        ),
    )
    images = [photo(*shape, seed=i) for i, shape in enumerate(shapes)]
    return RaggedBatch.pack(images, range(len(shapes))), parameters, size
