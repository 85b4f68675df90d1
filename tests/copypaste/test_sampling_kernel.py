"""The draws follow torchvision's distributions, their closed forms, and the published code's."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import ColorJitter, RandomErasing, RandomResizedCrop

from cp2fast.config import AugmentSettings
from cp2fast.copypaste.parameters import BRIGHTNESS, FLIP, MIRROR
from cp2fast.copypaste.reference import orient
from cp2fast.copypaste.sampling import sample_parameters
from tests.copypaste.cases import batch_of, same_size

HERE = Path(__file__).parent
SIZE = 224
FOREGROUND, BACKGROUND = slice(0, 2), slice(2, 4)
COLOURS = ("brightness", "contrast", "saturation", "hue")


def drawn_with(count=3000, size=SIZE, height=375, width=500, **augment):
    chosen = AugmentSettings.model_validate(augment)
    return sample_parameters(0, 0, same_size(count, height, width), size, "batch", chosen)


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


def assert_uniform(values, low, high):
    values = values.double().flatten().sort().values.numpy()
    assert values[0] >= np.float32(low)
    assert values[-1] <= np.float32(high)
    expected = (values - low) / (high - low)
    gap = np.abs(expected - np.linspace(0, 1, len(values))).max()
    assert gap < 2.2 / np.sqrt(len(values))


def assert_rate(happened, probability, other_count=np.inf):
    """The rate is ``probability``, itself exact or estimated from ``other_count`` draws."""
    variance = probability * (1 - probability) * (1 / happened.numel() + 1 / other_count)
    assert abs(happened.double().mean() - probability) <= 4 * np.sqrt(variance)


SIDES = [(375, 500), (500, 333), (224, 224), (100, 300), (1200, 40), (30, 2000), (3, 2), (1, 1)]
OTHER_CROPS = [((0.5, 0.5), (1, 1)), ((0.01, 0.1), (0.2, 0.5)), ((0.9, 1.0), (2, 3))]


@pytest.mark.parametrize(
    ("height", "width", "area", "ratio"),
    [
        *((*sides, (0.2, 1.0), (3 / 4, 4 / 3)) for sides in SIDES),
        *((*sides, *crop) for sides in [(375, 500), (60, 700)] for crop in OTHER_CROPS),
    ],
)
def test_crops_are_those_of_random_resized_crop(height, width, area, ratio):
    image = torch.empty(3, height, width)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, list(area), list(ratio)) for _ in range(3000)]
    )
    ours = drawn_with(crop_area=area, crop_ratio=ratio, height=height, width=width).box
    for view in range(4):
        assert_same_distribution(ours[:, view].numpy(), theirs, ["top", "left", "height", "width"])


@pytest.mark.parametrize(
    ("size", "area", "ratio"),
    [
        *((size, (0.5, 0.8), (0.8, 1.25)) for size in (224, 64, 8)),
        (SIZE, (0.3, 0.3), (1, 1)),
        (SIZE, (0.02, 0.2), (0.3, 3.3)),
        (SIZE, (0.1, 0.4), (0.5, 0.6)),
    ],
)
def test_rectangles_are_those_of_random_erasing(size, area, ratio):
    image = torch.empty(3, size, size)
    theirs = np.array(
        [RandomErasing.get_params(image, area, ratio, value=[0.0])[:4] for _ in range(3000)]
    )
    ours = drawn_with(size=size, paste_area=area, paste_ratio=ratio).paste
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


def test_jitter_takes_every_order_equally_often():
    order = sample_parameters(0, 0, same_size(6000), SIZE).order.flatten(0, 1)
    orders, counts = order.unique(dim=0, return_counts=True)
    assert sorted(map(tuple, orders.tolist())) == list(itertools.permutations(range(4)))
    assert ((counts - 1000.0) ** 2 / 1000).sum() < 49.7  # 99.9 %, 23 degrees of freedom


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("strength", [0, 0.05, 0.4, (0.1, 0.4)])
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


@pytest.mark.parametrize("sigma", [(0.1, 2.0), (0.5, 0.9)])
def test_sigma_is_uniform_in_its_range(sigma):
    assert_uniform(drawn_with(sigma=sigma, blur=1).sigma, *sigma)


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
