"""Every mistake a caller can make is refused by name before a kernel reads out of bounds."""

from dataclasses import replace

import pytest
import torch

from cp2fast.batch import RaggedBatch
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.copypaste.validate import validate

SIZE = 32


@pytest.fixture
def batch():
    images = [torch.zeros(h, w, 3, dtype=torch.uint8) for h, w in [(40, 50), (20, 10), (64, 64)]]
    return RaggedBatch.pack(images, index=range(3))


@pytest.fixture
def parameters(batch):
    return sample_parameters(0, 0, batch, SIZE)


def check(
    batch,
    parameters,
    size=SIZE,
    dtype=torch.float32,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
):
    validate(batch, parameters, size, dtype, mean, std)


def with_value(holder, name, place, value):
    """``holder`` with one value of one tensor changed."""
    tensor = getattr(holder, name).clone()
    tensor[place] = torch.as_tensor(value, dtype=tensor.dtype)
    return replace(holder, **{name: tensor})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_draw_gives_is_right(batch, parameters, dtype):
    check(batch, parameters, dtype=dtype)


def test_the_limits_themselves_are_right(batch, parameters):
    p = with_value(parameters, "source", (1, 3), 1)
    p = with_value(p, "box", (1, 3), [0, 0, 20, 10])
    p = with_value(p, "paste", (1, 0), [0, 0, SIZE, SIZE])
    p = with_value(p, "sigma", (1, 3), 2.0)
    check(batch, p)


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("source", (1, 2), 3, "source of sample 1 must be the number of one of the 3 images"),
        ("source", (2, 0), -1, "source of sample 2"),
        ("box", (0, 0), [0, 0, 41, 50], "box of sample 0 is empty or leaves its image"),
        ("box", (0, 0), [0, 1, 40, 50], "box of sample 0"),
        ("box", (2, 0), [-1, 0, 5, 5], "box of sample 2"),
        ("box", (2, 0), [0, 0, 5, 0], "box of sample 2"),
        ("box", (2, 0), [0, 0, -5, 5], "box of sample 2"),
        ("box", (2, 0), [2**31 - 1, 0, 2**31 - 1, 5], "box of sample 2"),
        ("orientation", (1, 3), 8, "orientation of sample 1 must be from 0 to 7"),
        ("factor", (1, 1, 3), float("nan"), "factor of sample 1 must be finite"),
        ("factor", (2, 0, 0), float("inf"), "factor of sample 2 must be finite"),
        ("order", (1, 0), [0, 1, 1, 3], "order of sample 1 must be a permutation"),
        ("order", (1, 0), [1, 2, 3, 4], "order of sample 1"),
        ("sigma", (0, 1), -0.1, "sigma of sample 0 must be from 0 to 2"),
        ("sigma", (0, 1), 2.01, "sigma of sample 0"),
        ("sigma", (2, 1), float("nan"), "sigma of sample 2"),
        ("paste", (2, 1), [0, 0, 0, 5], "paste of sample 2 is empty or leaves the 32 x 32"),
        ("paste", (2, 1), [0, 3, 30, 30], "paste of sample 2"),
        ("paste", (1, 0), [0, -1, 3, 3], "paste of sample 1"),
    ],
)
def test_wrong_values_are_named_with_their_sample(batch, parameters, name, place, value, message):
    with pytest.raises(ValueError, match=message):
        check(batch, with_value(parameters, name, place, value))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("height", 0, "height of image 1 must be from 1 to 8388608"),
        ("width", -3, "width of image 1 must be from 1 to 8388608"),
        ("height", 2**23 + 1, "height of image 1 must be from 1 to"),
        ("width", 2**31 - 1, "width of image 1 must be from 1 to"),
        ("offset", -1, "offset of image 1 must not be negative"),
        ("offset", 10**9, "pixels of image 1 ends before the image does"),
        ("height", 2**23, "pixels of image 1 ends before the image does"),
    ],
)
def test_wrong_images_are_named(batch, parameters, name, value, message):
    with pytest.raises(ValueError, match=message):
        check(with_value(batch, name, 1, value), parameters)


def test_cut_pixels_are_refused(batch, parameters):
    with pytest.raises(ValueError, match="pixels of image 2 ends before"):
        check(replace(batch, pixels=batch.pixels[:-1]), parameters)


@pytest.mark.parametrize(
    "name", ["source", "box", "orientation", "jitter", "factor", "order", "grey", "sigma", "paste"]
)
def test_wrong_types_shapes_and_devices_of_parameters_are_named(batch, parameters, name):
    tensor = getattr(parameters, name)
    with pytest.raises(ValueError, match=f"{name} must be torch.*: it is torch.float64"):
        check(batch, replace(parameters, **{name: tensor.double()}))
    with pytest.raises(ValueError, match=f"{name} must have shape"):
        check(batch, replace(parameters, **{name: tensor[:, :1]}))
    with pytest.raises(ValueError, match=f"{name} must be on the CPU"):
        check(batch, replace(parameters, **{name: tensor.to("meta")}))
    if name != "source":
        with pytest.raises(ValueError, match=f"{name} must have shape"):
            check(batch, replace(parameters, **{name: tensor[:2]}))


@pytest.mark.parametrize("name", ["pixels", "offset", "height", "width"])
def test_wrong_types_shapes_and_devices_of_images_are_named(batch, parameters, name):
    tensor = getattr(batch, name)
    with pytest.raises(ValueError, match=f"{name} must be torch.*: it is torch.float64"):
        check(replace(batch, **{name: tensor.double()}), parameters)
    with pytest.raises(ValueError, match=f"{name} must have shape"):
        check(replace(batch, **{name: tensor[None]}), parameters)
    if name == "pixels":  # wherever they are, for only their number is looked at
        check(replace(batch, pixels=tensor.to("meta")), parameters)
        return
    with pytest.raises(ValueError, match=f"{name} must be on the CPU"):
        check(replace(batch, **{name: tensor.to("meta")}), parameters)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("mean", (0.5, 0.5), "mean must be three finite numbers"),
        ("mean", (0.5, 0.5, float("nan")), "mean must be three finite numbers"),
        ("std", (0.5, 0.5, float("inf")), "std must be three finite numbers"),
        ("std", (0.5, 0.0, 0.5), "std must be positive"),
    ],
)
def test_wrong_normalisations_are_named(batch, parameters, name, values, message):
    with pytest.raises(ValueError, match=message):
        check(batch, parameters, **{name: values})


def test_parameters_of_no_sample_are_refused(batch, parameters):
    none = type(parameters)(*(tensor[:0] for tensor in vars(parameters).values()))
    with pytest.raises(ValueError, match="at least one sample"):
        check(batch, none)


def test_fields_of_different_lengths_are_refused(batch, parameters):
    with pytest.raises(ValueError, match="width must have shape"):
        check(replace(batch, width=batch.width[:2]), parameters)


def test_size_and_dtype_are_checked(batch, parameters):
    for size in (0, 2**14 + 1):
        with pytest.raises(ValueError, match=f"size must be from 1 to 16384: {size}"):
            check(batch, parameters, size=size)
    with pytest.raises(ValueError, match="dtype must be float32, bfloat16 or float16"):
        check(batch, parameters, dtype=torch.float64)
