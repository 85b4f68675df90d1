"""Draws follow torchvision's distributions and depend on (seed, epoch, image number) alone."""

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import ColorJitter, RandomErasing, RandomResizedCrop

from cp2fast.batch import RaggedBatch
from cp2fast.config import AugmentSettings
from cp2fast.copypaste.op import Backend, copy_paste
from cp2fast.copypaste.parameters import BRIGHTNESS, CONTRAST, FLIP, HUE, MIRROR, SATURATION
from cp2fast.copypaste.reference import orient
from cp2fast.copypaste.sampling import sample_parameters
from tests.copypaste.sampling_in_numpy import draw_in_numpy

HERE = Path(__file__).parent
SIZE = 224
FOREGROUND, BACKGROUND = slice(0, 2), slice(2, 4)
INDEX_SETS = st.lists(st.integers(0, 2**40), min_size=3, max_size=40, unique=True)


def batch_of(sizes, index=None):
    """A batch of images of these heights and widths; drawing looks at no pixel."""
    height, width = torch.tensor(sizes, dtype=torch.int32).T
    index = torch.arange(len(sizes)) if index is None else torch.tensor(index)
    return RaggedBatch(torch.empty(0, dtype=torch.uint8), index * 0, height, width, index)


def same_size(count, height=375, width=500):
    return batch_of([(height, width)] * count)


def fields(parameters, sample, names=None):
    """One sample's parameters as plain lists."""
    return {
        name: tensor[sample].tolist()
        for name, tensor in vars(parameters).items()
        if names is None or name in names
    }


# What a sample's parameters depend on


@settings(deadline=None)  # the first call compiles
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


# The numbers themselves


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


# Which image lends its background


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


# Distributions, against torchvision


def ks_distance(first, second):
    """Kolmogorov-Smirnov: the largest gap between the distribution functions of two samples."""
    first, second = np.sort(first), np.sort(second)
    points = np.concatenate([first, second])
    return np.abs(
        np.searchsorted(first, points, side="right") / len(first)
        - np.searchsorted(second, points, side="right") / len(second)
    ).max()


def assert_same_distribution(ours, theirs, names):
    """Every column of two samples, and every sum and difference of two columns, agree."""
    for i, j in itertools.combinations_with_replacement(range(len(names)), 2):
        for sign in (1, -1) if i != j else (0,):
            a, b = ours[:, i] + sign * ours[:, j], theirs[:, i] + sign * theirs[:, j]
            limit = 2.2 * np.sqrt(1 / len(a) + 1 / len(b))  # exceeded once in 8,000
            assert ks_distance(a, b) < limit, (names[i], names[j])


@pytest.mark.parametrize(
    ("height", "width"),
    [(375, 500), (500, 333), (224, 224), (100, 300), (1200, 40), (30, 2000), (3, 2), (1, 1)],
)
def test_crops_are_those_of_random_resized_crop(height, width):
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)]
    )
    ours = sample_parameters(0, 0, same_size(3000, height, width), SIZE).box
    for view in range(4):
        assert_same_distribution(ours[:, view].numpy(), theirs, ["top", "left", "height", "width"])


@pytest.mark.parametrize("size", [224, 64, 8])
def test_rectangles_are_those_of_random_erasing(size):
    torch.manual_seed(0)
    image = torch.empty(3, size, size)
    theirs = np.array(
        [
            RandomErasing.get_params(image, (0.5, 0.8), (0.8, 1.25), value=[0.0])[:4]
            for _ in range(3000)
        ]
    )
    ours = sample_parameters(0, 0, same_size(3000), size).paste
    for view in range(2):
        assert_same_distribution(ours[:, view].numpy(), theirs, ["top", "left", "height", "width"])


@given(st.integers(2, 40), st.integers(0, 1000))
def test_every_output_shows_foreground_and_background(size, epoch):
    top, left, height, width = sample_parameters(
        0, epoch, same_size(50), size, "batch"
    ).paste.unbind(-1)
    assert (torch.minimum(top, left) >= 0).all()
    assert (torch.minimum(height, width) >= 1).all()
    assert (torch.maximum(height, width) < size).all()
    assert (torch.maximum(top + height, left + width) <= size).all()


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), min_size=3, max_size=30))
def test_every_crop_lies_in_its_image(sizes):
    p = sample_parameters(0, 0, batch_of(sizes), SIZE)
    limits = torch.tensor(sizes)[p.source.long()]
    assert (p.box[..., :2] >= 0).all()
    assert (p.box[..., 2:] >= 1).all()
    assert (p.box[..., :2] + p.box[..., 2:] <= limits).all()


# Distributions, against their closed forms


def assert_uniform(values, low, high):
    values = values.double().flatten().sort().values.numpy()
    assert values[0] >= np.float32(low)
    assert values[-1] <= np.float32(high)
    expected = (values - low) / (high - low)
    gap = np.abs(expected - np.linspace(0, 1, len(values))).max()
    assert gap < 2.2 / np.sqrt(len(values))


def test_colour_factors_are_uniform():
    factor = sample_parameters(0, 0, same_size(5000), SIZE).factor
    for operation in (BRIGHTNESS, CONTRAST, SATURATION):
        assert_uniform(factor[..., operation], 0.6, 1.4)
    assert_uniform(factor[..., HUE], -0.1, 0.1)


def test_jitter_takes_every_order_equally_often():
    order = sample_parameters(0, 0, same_size(6000), SIZE).order.flatten(0, 1)
    orders, counts = order.unique(dim=0, return_counts=True)
    assert sorted(map(tuple, orders.tolist())) == list(itertools.permutations(range(4)))
    assert ((counts - 1000.0) ** 2 / 1000).sum() < 49.7  # 99.9 %, 23 degrees of freedom


def test_blur_has_a_uniform_sigma_in_half_of_the_views():
    sigma = sample_parameters(0, 0, same_size(5000), SIZE).sigma
    assert_rate(sigma > 0, 0.5)
    assert_uniform(sigma[sigma > 0], 0.1, 2.0)


def test_flip_jitter_and_grey_come_at_their_rates():
    p = sample_parameters(0, 0, same_size(5000), SIZE)
    assert_rate(p.orientation == MIRROR, 0.5)
    assert p.orientation.max() == MIRROR
    assert_rate(p.jitter, 0.8)
    assert_rate(p.grey, 0.2)


def assert_rate(happened, probability, other_count=np.inf):
    """The rate is ``probability``, itself exact or estimated from ``other_count`` draws."""
    variance = probability * (1 - probability) * (1 / happened.numel() + 1 / other_count)
    assert abs(happened.double().mean() - probability) <= 4 * np.sqrt(variance)


# Distributions, against what the published code drew for the same photos


@pytest.fixture(scope="module")
def original():
    return json.loads((HERE / "augment_stats.json").read_text())


@pytest.fixture(scope="module")
def drawn():
    """Parameters, and the height and width of each view's image, over 40 epochs."""
    sizes = json.loads((HERE / "photo_sizes.json").read_text())
    batch = batch_of(sizes)
    epochs = [sample_parameters(0, epoch, batch, SIZE) for epoch in range(40)]
    parameters = {name: torch.cat([vars(p)[name] for p in epochs]) for name in vars(epochs[0])}
    return parameters, torch.tensor(sizes)[parameters["source"].long()]


def assert_matches(values, statistics):
    """Mean, deviation and quantiles agree within four standard errors of both samples."""
    values = values.double().flatten().numpy()
    share = 1 / len(values) + 1 / statistics["n"]
    assert abs(values.mean() - statistics["mean"]) < 4 * statistics["std"] * np.sqrt(share)
    # Of a distribution no more peaked than the normal one.
    assert abs(values.std() - statistics["std"]) < 4 * statistics["std"] * np.sqrt(share / 2)
    for probability, quantile in statistics["quantiles"].items():
        p = float(probability)
        error = 4 * np.sqrt(p * (1 - p) * share) + 4 / min(len(values), statistics["n"])
        # The quantiles were interpolated, and whole numbers have ties.
        assert (values < quantile - 1e-6).mean() < p + error, probability
        assert (values <= quantile + 1e-6).mean() > p - error, probability


def test_rectangles_match_the_original(drawn, original):
    top, left, height, width = drawn[0]["paste"].double().unbind(-1)
    expected = original["paste"]
    assert_matches(height * width / SIZE**2, expected["area"])
    assert_matches(height / width, expected["aspect_h_over_w"])
    assert_matches(height, expected["height"])
    assert_matches(width, expected["width"])
    assert_matches(top / (SIZE - height), expected["top_over_free"])
    assert_matches(left / (SIZE - width), expected["left_over_free"])


@pytest.mark.parametrize(("views", "name"), [(FOREGROUND, "fg"), (BACKGROUND, "bg")])
def test_crops_match_the_original(drawn, original, views, name):
    height, width = drawn[0]["box"][:, views, 2:].double().unbind(-1)
    area = drawn[1][:, views].double().prod(dim=-1)
    assert_matches(height * width / area, original["crop_area"][name])
    assert_matches(width / height, original["crop_ratio"][name])


def test_colour_factors_match_the_original(drawn, original):
    for operation, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        assert_matches(drawn[0]["factor"][..., operation], original["factor"][name])


@pytest.mark.parametrize(("views", "name"), [(FOREGROUND, "fg"), (BACKGROUND, "bg")])
def test_rates_match_the_original(drawn, original, views, name):
    happened = {
        **drawn[0],
        "flip": drawn[0]["orientation"] == MIRROR,
        "blur": drawn[0]["sigma"] > 0,
    }
    for operation in ("flip", "jitter", "grey", "blur"):
        expected = original["rate"][operation][name]
        assert_rate(happened[operation][:, views], expected, original["rate"]["n"])


# Settings


def drawn_with(count=3000, size=SIZE, height=375, width=500, **augment):
    chosen = AugmentSettings.model_validate(augment)
    return sample_parameters(0, 0, same_size(count, height, width), size, "batch", chosen)


@pytest.mark.parametrize(("height", "width"), [(375, 500), (60, 700)])
@pytest.mark.parametrize(
    ("area", "ratio"), [((0.5, 0.5), (1, 1)), ((0.01, 0.1), (0.2, 0.5)), ((0.9, 1.0), (2, 3))]
)
def test_crops_of_any_area_and_ratio_are_those_of_random_resized_crop(area, ratio, height, width):
    image = torch.empty(3, height, width)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, list(area), list(ratio)) for _ in range(3000)]
    )
    ours = drawn_with(crop_area=area, crop_ratio=ratio, height=height, width=width).box
    assert_same_distribution(ours[:, 1].numpy(), theirs, ["top", "left", "height", "width"])


@pytest.mark.parametrize(
    ("area", "ratio"), [((0.3, 0.3), (1, 1)), ((0.02, 0.2), (0.3, 3.3)), ((0.1, 0.4), (0.5, 0.6))]
)
def test_rectangles_of_any_area_and_ratio_are_those_of_random_erasing(area, ratio):
    image = torch.empty(3, SIZE, SIZE)
    theirs = np.array(
        [RandomErasing.get_params(image, area, ratio, value=[0.0])[:4] for _ in range(3000)]
    )
    ours = drawn_with(paste_area=area, paste_ratio=ratio).paste
    assert_same_distribution(ours[:, 1].numpy(), theirs, ["top", "left", "height", "width"])


COLOURS = ("brightness", "contrast", "saturation", "hue")


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("strength", [0, 0.05, 0.5, (0.1, 0.4)])
def test_colour_factors_are_those_of_color_jitter(name, strength):
    jitter = ColorJitter(**{name: strength})
    neutral = [(1, 1), (1, 1), (1, 1), (0, 0)]
    bounds = [getattr(jitter, colour) or n for colour, n in zip(COLOURS, neutral, strict=True)]
    drawn = [jitter.get_params(*[list(b) for b in bounds])[1:] for _ in range(3000)]
    others = dict.fromkeys(COLOURS, 0)
    ours = drawn_with(**others | {name: strength}).factor[:, 0].numpy()
    assert_same_distribution(ours, np.float32(drawn), COLOURS)


def test_a_brightness_beyond_1_begins_at_black_as_color_jitters():
    factor = drawn_with(brightness=1.5).factor[..., BRIGHTNESS]
    assert ColorJitter(brightness=1.5).brightness == (0, 2.5)
    assert_uniform(factor, 0, 2.5)


@pytest.mark.parametrize("probability", [0, 0.3, 1])
def test_each_operation_comes_at_its_rate(probability):
    names = ("jitter", "grey", "blur", "flip", "vertical_flip")
    p = drawn_with(**dict.fromkeys(names, probability))
    happened = {
        "jitter": p.jitter,
        "grey": p.grey,
        "blur": p.sigma > 0,
        "flip": p.orientation & MIRROR != 0,
        "vertical_flip": p.orientation & FLIP != 0,
    }
    for one in happened.values():
        assert_rate(one, probability)
    columns = torch.stack([one.flatten().double() for one in happened.values()])
    if probability == 0.3:
        apart = np.corrcoef(columns)[~np.eye(len(names), dtype=bool)]
        assert np.abs(apart).max() < 4.5 / np.sqrt(columns.shape[1])


def test_sigma_is_drawn_from_its_range():
    assert_uniform(drawn_with(sigma=(0.5, 0.9), blur=1).sigma, 0.5, 0.9)


def test_turns_alone_are_by_one_two_or_three_quarters_alike():
    """As numpy and the reference turn a square."""
    orientation = drawn_with(flip=0, turn=0.6).orientation.flatten()
    square = torch.arange(9).view(3, 3)
    for quarters in range(4):
        (laid,) = [n for n in range(8) if torch.equal(orient(square, n), square.rot90(-quarters))]
        assert_rate(orientation == laid, 0.4 if quarters == 0 else 0.2)


def test_flips_and_turns_lay_a_square_in_all_eight_ways_alike():
    laid = torch.bincount(drawn_with(flip=0.5, turn=0.75).orientation.flatten(), minlength=8)
    expected = laid.sum() / 8
    assert ((laid - expected) ** 2 / expected).sum() < 24.3  # 99.9 %, 7 degrees of freedom


def test_one_setting_changes_nothing_else():
    paper, other = drawn_with(), drawn_with(turn=0.5, brightness=0, paste_area=(0.1, 0.2))
    for name in ("source", "box", "jitter", "order", "grey", "sigma"):
        assert torch.equal(getattr(paper, name), getattr(other, name)), name
    assert torch.equal(paper.factor[..., CONTRAST:], other.factor[..., CONTRAST:])


def test_without_a_background_the_foreground_fills_the_image() -> None:
    batch = RaggedBatch.pack([torch.zeros(40, 60, 3, dtype=torch.uint8)] * 2, [4, 9])
    alone = sample_parameters(0, 1, batch, 32, "none")
    assert alone.paste.tolist() == [[[0, 0, 32, 32]] * 2] * 2
    trio = RaggedBatch.pack([torch.zeros(40, 60, 3, dtype=torch.uint8)] * 3, [4, 9, 2])
    pasted = sample_parameters(0, 1, trio, 32)
    for name in ("box", "orientation", "factor", "sigma"):  # The views are those of copy-paste.
        both = getattr(alone, name)[:, :2], getattr(pasted, name)[:2, :2]
        assert torch.equal(*both)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_without_a_background_the_mask_is_whole(backend: Backend) -> None:
    image = torch.randint(256, (40, 60, 3), dtype=torch.uint8)
    batch = RaggedBatch.pack([image, image.flip(0)], [0, 1])
    composed = copy_paste(batch, sample_parameters(0, 0, batch, 32, "none"), 32, backend=backend)
    assert composed.query_mask.all()
    assert composed.key_mask.all()
    assert composed.query.isfinite().all()
