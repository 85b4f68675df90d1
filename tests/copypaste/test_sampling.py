"""A sample's parameters depend on (seed, epoch, image number) alone, its partners on the batch."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cp2fast.config import AugmentSettings
from cp2fast.copypaste.parameters import CONTRAST
from cp2fast.copypaste.sampling import sample_parameters
from tests.copypaste.cases import batch_of, same_size
from tests.copypaste.sampling_in_numpy import draw_in_numpy

SIZE = 224
INDEX_SETS = st.lists(st.integers(0, 2**40), min_size=3, max_size=40, unique=True)
REPEATED = st.lists(st.integers(0, 9), min_size=6, max_size=20).filter(
    lambda index: max(map(index.count, index)) <= len(index) // 3
)
"""Numbers of which each is that of at most a third of the images."""


def fields(parameters, sample, names=None):
    """One sample's parameters as plain lists."""
    return {
        name: tensor[sample].tolist()
        for name, tensor in vars(parameters).items()
        if names is None or name in names
    }


@given(INDEX_SETS, st.randoms(use_true_random=False))
def test_the_order_of_the_batch_changes_nothing(index, random):
    sizes = [(50 + i % 100, 50 + i % 77) for i in index]
    shuffled = random.sample(range(len(index)), len(index))
    first = sample_parameters(3, 5, batch_of(sizes, index), SIZE)
    second = sample_parameters(
        3, 5, batch_of([sizes[i] for i in shuffled], [index[i] for i in shuffled]), SIZE, "batch"
    )
    for position, sample in enumerate(shuffled):
        before, after = fields(first, sample), fields(second, position)
        before["source"] = [index[i] for i in before["source"]]
        after["source"] = [index[shuffled[i]] for i in after["source"]]
        assert before == after


def test_the_rest_of_the_batch_changes_only_the_background():
    alone = sample_parameters(0, 0, batch_of([(300, 400)] * 3, [7, 8, 9]), SIZE)
    among = sample_parameters(
        0, 0, batch_of([(300, 400)] * 50, [*range(50, 97), 7, 8, 9]), SIZE, "batch"
    )
    names = {"box", "orientation", "jitter", "factor", "order", "grey", "sigma", "paste"}
    for sample in range(3):
        assert fields(alone, sample, names) == fields(among, 47 + sample, names)


def test_independent_backgrounds_draw_the_same_as_those_of_the_batch():
    foregrounds, backgrounds = [(300, 400)] * 4, [(300, 400)] * 8
    batch = sample_parameters(1, 2, batch_of(foregrounds), SIZE)
    independent = sample_parameters(
        1, 2, batch_of(foregrounds + backgrounds, [*range(4), *range(90, 98)]), SIZE, "independent"
    )
    assert independent.source.tolist() == [[b, b, 4 + b, 8 + b] for b in range(4)]
    for sample in range(4):
        names = set(vars(batch)) - {"source"}
        assert fields(batch, sample, names) == fields(independent, sample, names)


@pytest.mark.parametrize(("seed", "epoch"), [(1, 0), (0, 1), (1 << 40, 0)])
def test_seed_and_epoch_change_every_field(seed, epoch):
    first = sample_parameters(0, 0, same_size(50), SIZE)
    second = sample_parameters(seed, epoch, same_size(50), SIZE)
    for name, tensor in vars(first).items():
        assert not torch.equal(tensor, getattr(second, name)), name


def test_the_four_views_are_drawn_independently():
    p = sample_parameters(0, 0, same_size(20_000), SIZE)
    columns = [
        *(p.box[:, v, i] for v in range(4) for i in range(4)),
        *(p.factor[:, v, i] for v in range(4) for i in range(4)),
        *(
            getattr(p, name)[:, v]
            for name in ("orientation", "jitter", "grey", "sigma")
            for v in range(4)
        ),
        *(p.paste[:, v, i] for v in range(2) for i in range(4)),
    ]
    correlation = np.corrcoef(torch.stack([c.double() for c in columns]).numpy())
    # Top, left, height and width of one rectangle constrain each other.
    rectangle = [*np.repeat(range(4), 4), *range(10, 42), *np.repeat([50, 51], 4)]
    other = np.not_equal.outer(rectangle, rectangle)
    assert np.abs(correlation[other]).max() < 4.5 / np.sqrt(20_000)


@pytest.mark.parametrize("background", ["batch", "independent", "none"])
@pytest.mark.parametrize("size", [2, 8, 224])
def test_every_number_is_that_of_the_arrays(background, size):
    """Philox in numpy, for small images, large ones and long ones, and numbers beyond 32 bits."""
    random = np.random.default_rng(size)
    for epoch, largest in enumerate([4, 60, 3000]):
        sides = random.integers(1, largest, (300, 2))
        index = random.permutation(10**6)[:300] + (2**40 if epoch == 1 else 0)
        batch, seed = (
            batch_of(sides.tolist(), index.tolist()),
            int(random.integers(-(2**62), 2**62)),
        )
        ours = sample_parameters(seed, epoch, batch, size, background)
        expected = draw_in_numpy(seed, epoch, batch, size, background)
        for name, tensor in vars(expected).items():
            assert getattr(ours, name).dtype == tensor.dtype
            assert torch.equal(getattr(ours, name), tensor), name


def test_the_numbers_of_a_seed_stay_as_they_are():
    """A run that was begun by any version goes on with the same pixels."""
    p = sample_parameters(7, 3, batch_of([(300 + i, 500 - i) for i in range(64)]), SIZE)
    digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in vars(p).values()))
    assert digest.hexdigest()[:16] == "45f1b28958ff8bcf"


@given(INDEX_SETS, st.integers(0, 2**32), st.integers(0, 1000))
def test_backgrounds_are_two_different_other_images(index, seed, epoch):
    source = sample_parameters(
        seed, epoch, batch_of([(9, 9)] * len(index), index), SIZE, "batch"
    ).source
    count = torch.arange(len(index), dtype=torch.int32)
    assert torch.equal(source[:, 0], count)
    assert torch.equal(source[:, 1], count)
    assert all(len(set(row[1:])) == 3 for row in source.tolist())
    # Every image lends its background to one query and to one key.
    assert torch.equal(source[:, 2].sort().values, count)
    assert torch.equal(source[:, 3].sort().values, count)


@given(REPEATED, st.integers(0, 1000))
def test_an_image_that_stands_in_for_others_is_no_background_of_itself(index, epoch):
    source = sample_parameters(0, epoch, batch_of([(9, 9)] * len(index), index), SIZE).source
    for row in torch.tensor(index)[source.long()].tolist():
        assert len(set(row[1:])) == 3
    for view in (2, 3):
        assert source[:, view].sort().values.tolist() == list(range(len(index)))


def test_every_other_image_is_equally_likely_to_lend_its_background():
    batch = same_size(6)
    source = torch.stack([sample_parameters(0, epoch, batch, SIZE).source for epoch in range(1000)])
    for view in (2, 3):
        for sample in range(6):
            counts = torch.bincount(source[:, sample, view].long(), minlength=6)
            assert counts[sample] == 0
            others = torch.cat([counts[:sample], counts[sample + 1 :]])
            assert ((others - 200.0) ** 2 / 200).sum() < 28  # far beyond 99.99 %, 4 degrees


@pytest.mark.parametrize(
    ("count", "size", "background", "message"),
    [
        (2, SIZE, "batch", "batch holds 2 images.*at least 3"),
        (4, SIZE, "independent", "batch holds 4 images.*multiple of 3"),
        (3, 1, "batch", "size must be at least 2"),
    ],
)
def test_wrong_arguments_are_named(count, size, background, message):
    with pytest.raises(ValueError, match=message):
        sample_parameters(0, 0, same_size(count), size, background)


def test_one_setting_changes_nothing_else():
    changed = AugmentSettings(turn=0.5, brightness=0, paste_area=(0.1, 0.2))
    paper = sample_parameters(0, 0, same_size(3000), SIZE)
    other = sample_parameters(0, 0, same_size(3000), SIZE, "batch", changed)
    for name in ("source", "box", "jitter", "order", "grey", "sigma"):
        assert torch.equal(getattr(paper, name), getattr(other, name)), name
    assert torch.equal(paper.factor[..., CONTRAST:], other.factor[..., CONTRAST:])


def test_without_a_background_the_foreground_fills_the_image():
    alone = sample_parameters(0, 1, batch_of([(40, 60)] * 2, [4, 9]), 32, "none")
    assert alone.paste.tolist() == [[[0, 0, 32, 32]] * 2] * 2
    pasted = sample_parameters(0, 1, batch_of([(40, 60)] * 3, [4, 9, 2]), 32)
    for name in ("box", "orientation", "factor", "sigma"):  # The views are those of copy-paste.
        both = getattr(alone, name)[:, :2], getattr(pasted, name)[:2, :2]
        assert torch.equal(*both)
