"""The reference does what Pillow, torchvision and the closed forms do, view by view."""

import colorsys
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch.nn.functional import conv2d, interpolate, pad
from torchvision.transforms import functional as tv

from cp2fast.batch import RaggedBatch
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.copypaste.interface import Request
from cp2fast.copypaste.parameters import BRIGHTNESS, CONTRAST, HUE, MIRROR, SATURATION
from cp2fast.copypaste.reference import (
    adjust,
    blur,
    copy_paste_reference,
    make_view,
    normalise,
    orient,
    resize,
    to_grey,
)
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.copypaste.views import View, pack

SIZE = 48
SIZES = [(80, 100), (120, 61), (47, 47), (150, 33), (30, 20), (90, 90)]


def scene(height, width, seed):
    """A uint8 image with smooth parts, edges and noise, as photos have."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 5, generator=generator)
    smooth = interpolate(coarse, (height, width), mode="bicubic")[0]
    smooth[:, height // 3 : height // 2, width // 4 : width // 2] += 0.4
    noisy = smooth + 0.03 * torch.randn(smooth.shape, generator=generator)
    return (noisy.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous()


@pytest.fixture(scope="module")
def batch():
    images = [scene(height, width, seed) for seed, (height, width) in enumerate(SIZES)]
    return RaggedBatch.pack(images, index=range(len(images)))


@pytest.fixture
def image():
    """Float32 ``[3, S, S]`` in [0, 1]."""
    return scene(SIZE, SIZE, seed=9).permute(2, 0, 1) / 255


def compose(batch, parameters, size=SIZE, dtype=torch.float32):
    views = pack(batch, parameters)
    request = Request(batch.pixels, views, size, dtype, IMAGENET_MEAN, IMAGENET_STD)
    return copy_paste_reference(request)


# The steps, one by one


@pytest.mark.parametrize(
    "box", [(0, 0, 200, 300), (20, 31, 150, 97), (5, 7, 48, 48), (9, 9, 20, 13)]
)
def test_resize_is_pillows_but_for_its_rounding(box):
    source = scene(200, 300, seed=1)
    top, left, height, width = box
    crop = Image.fromarray(source.numpy()).crop((left, top, left + width, top + height))
    expected = np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.BILINEAR)) / 255
    cut = source[top : top + height, left : left + width]
    resized = resize(cut, SIZE).permute(1, 2, 0).numpy()
    # Pillow rounds to 8 bits after each of its two passes.
    assert np.abs(resized - expected).max() < 1.01 / 255
    assert abs((resized - expected).mean()) < 0.05 / 255


@pytest.mark.parametrize(("length", "taps_of"), [(200, 50), (100, 37), (48, 48), (13, 48), (1, 5)])
def test_resize_is_a_normalised_triangle_filter_inside_the_crop(length, taps_of):
    crop = torch.randint(256, (1, length, 3), dtype=torch.uint8)
    scale = length / taps_of
    support = max(scale, 1.0)
    expected = np.empty((taps_of, 3))
    for o in range(taps_of):
        centre = (o + 0.5) * scale
        first, end = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), length)
        weight = np.array([1 - abs((i - centre + 0.5) / support) for i in range(first, end)])
        weight = weight.clip(0) / weight.clip(0).sum()
        expected[o] = weight @ (crop[0, first:end].double().numpy() / 255)
    resized = resize(crop, taps_of)[:, 0].T
    np.testing.assert_allclose(resized.numpy(), expected, atol=1e-6)


def test_resize_sees_nothing_outside_the_crop():
    source = torch.full((40, 40, 3), 255, dtype=torch.uint8)
    source[10:30, 5:20] = 51
    view = View(
        start=(10 * 40 + 5) * 3,
        pitch=40 * 3,
        height=20,
        width=15,
        orientation=0,
        jitter=False,
        grey=False,
        order=(0, 1, 2, 3),
        factor=(1, 1, 1, 0),
        sigma=0,
        paste=(0, 0, 1, 1),
    )
    seen = make_view(source.flatten(), view, SIZE).unique().tolist()
    assert seen == [pytest.approx(0.2, abs=1e-6)]


LAID = [
    lambda image: image,
    lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    lambda image: image.transpose(Image.Transpose.ROTATE_180),
    lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    lambda image: image.transpose(Image.Transpose.ROTATE_270),
    lambda image: image.transpose(Image.Transpose.ROTATE_90),
    lambda image: image.transpose(Image.Transpose.TRANSVERSE),
]


@pytest.mark.parametrize("orientation", range(8))
def test_orientations_are_pillows_eight_ways_to_lay_a_square(orientation):
    pixels = scene(SIZE, SIZE, seed=2)
    expected = np.asarray(LAID[orientation](Image.fromarray(pixels.numpy())))
    laid = orient(pixels.permute(2, 0, 1), orientation).permute(1, 2, 0)
    np.testing.assert_array_equal(laid, expected)


@pytest.mark.parametrize("factor", [0.6, 0.93, 1.0, 1.4])
def test_brightness_contrast_and_saturation_blend_and_clamp(image, factor):
    x = image.double().numpy()
    luma = 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]
    for operation, other in ((BRIGHTNESS, 0.0), (CONTRAST, luma.mean()), (SATURATION, luma)):
        expected = (other + factor * (x - other)).clip(0, 1)
        np.testing.assert_allclose(adjust(image, operation, factor), expected, atol=1e-6)


@pytest.mark.parametrize("turns", [-0.1, -0.03, 0.0, 0.1])
def test_hue_turns_the_colour_wheel(image, turns):
    expected = [
        colorsys.hsv_to_rgb((h + turns) % 1, s, v)
        for h, s, v in (colorsys.rgb_to_hsv(*rgb) for rgb in image.flatten(1).T.double().tolist())
    ]
    shifted = adjust(image, HUE, turns).flatten(1).T
    np.testing.assert_allclose(shifted, np.array(expected), atol=2e-6)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_hue_leaves_grey_alone(level):
    flat = torch.full((3, 4, 4), level)
    torch.testing.assert_close(adjust(flat, HUE, 0.1), flat, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("operation", "torchvision", "factor"),
    [
        (BRIGHTNESS, tv.adjust_brightness, 1.3),
        (CONTRAST, tv.adjust_contrast, 0.7),
        (SATURATION, tv.adjust_saturation, 1.4),
        (HUE, tv.adjust_hue, -0.08),
    ],
)
def test_jitter_is_torchvisions(image, operation, torchvision, factor):
    adjusted = adjust(image, operation, factor)
    # torchvision's luma of a tensor rounds the weight 0.299 to 0.2989.
    torch.testing.assert_close(adjusted, torchvision(image, factor), atol=1e-4, rtol=0)
    on_8_bits = tv.to_tensor(torchvision(tv.to_pil_image(image), factor))
    # Pillow's hue has 8 bits too, so that single pixels are further off.
    assert (adjusted - on_8_bits).abs().mean() < 1.5 / 255
    assert (adjusted - on_8_bits).abs().max() < (8 if operation == HUE else 2) / 255


def test_grey_is_pillows_luma(image):
    grey = to_grey(image)
    expected = tv.to_tensor(tv.to_grayscale(tv.to_pil_image(image), num_output_channels=3))
    torch.testing.assert_close(grey, expected, atol=1 / 255, rtol=0)
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])


@pytest.mark.parametrize("sigma", [0.1, 0.34, 1.0, 1.7, 2.0])
def test_blur_is_a_gaussian_over_three_deviations(image, sigma):
    radius = math.ceil(3 * sigma)
    taps = torch.exp(-(torch.arange(-radius, radius + 1).double() ** 2) / (2 * sigma**2))
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    padded = pad(image.double()[:, None], (radius,) * 4, mode="replicate")
    expected = conv2d(padded, kernel[None, None])[:, 0].float()
    torch.testing.assert_close(blur(image, sigma), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_blur_is_near_the_originals_box_blur(image, sigma):
    """The original blurs with Pillow, whose Gaussian is three box blurs."""
    pillow = tv.to_pil_image(image).filter(ImageFilter.GaussianBlur(sigma))
    difference = (blur(image, sigma) - tv.to_tensor(pillow)).abs()
    assert difference.mean() < 1 / 255


def test_normalisation_is_torchvisions(image):
    expected = tv.normalize(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(normalise(image), expected)


# The whole


def test_a_mask_is_its_rectangle(batch):
    p = sample_parameters(0, 0, batch, SIZE)
    masks = compose(batch, p)[2:]
    for sample in range(len(batch)):
        for which, mask in enumerate(masks):
            top, left, height, width = p.paste[sample, which].tolist()
            assert mask[sample].sum() == height * width
            assert mask[sample, top : top + height, left : left + width].all()


def pillow_view(batch, p, sample, view):
    """The view as the original makes it: torchvision on 8-bit Pillow images."""
    image = Image.fromarray(batch.image(int(p.source[sample, view])).numpy())
    image = tv.resized_crop(image, *p.box[sample, view].tolist(), (SIZE, SIZE))
    if p.orientation[sample, view] == MIRROR:
        image = tv.hflip(image)
    if p.jitter[sample, view]:
        operations = tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue
        for number in p.order[sample, view].tolist():
            image = operations[number](image, float(p.factor[sample, view, number]))
    if p.grey[sample, view]:
        image = tv.to_grayscale(image, num_output_channels=3)
    if p.sigma[sample, view] > 0:
        image = image.filter(ImageFilter.GaussianBlur(float(p.sigma[sample, view])))
    return tv.normalize(tv.to_tensor(image), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.mark.parametrize("epoch", range(6))
def test_composed_images_are_those_of_the_original_pipeline(batch, epoch):
    p = sample_parameters(0, epoch, batch, SIZE)
    # On 8-bit images torchvision shifts the hue by whole 255ths, towards zero.
    shift = (p.factor[..., HUE] * 255).trunc()
    p.factor[..., HUE] = (shift + 0.01 * shift.sign()) / 255
    query, key, query_mask, key_mask = compose(batch, p)
    for sample in range(len(batch)):
        for out, mask, foreground, background in ((query, query_mask, 0, 2), (key, key_mask, 1, 3)):
            expected = torch.where(
                mask[sample],
                pillow_view(batch, p, sample, foreground),
                pillow_view(batch, p, sample, background),
            )
            # In units of one of 255 grey levels; up to seven roundings to 8 bits lie between.
            levels = (out[sample] - expected).abs() * 0.225 * 255
            assert levels.mean() < 2
            assert levels.quantile(0.99) < 8


def test_a_view_appears_in_place(batch):
    """Pasted whole, the foreground equals what it is under any rectangle."""
    p = sample_parameters(0, 3, batch, SIZE)
    rectangles = p.paste.clone()
    p.paste[:] = torch.tensor([0, 0, SIZE, SIZE])
    foregrounds = compose(batch, p)[:2]
    p.paste[:] = torch.tensor([0, 0, 1, 1])
    backgrounds = compose(batch, p)[:2]
    p.paste[:] = rectangles
    *composed, query_mask, key_mask = compose(batch, p)
    for whole, under, out, mask in zip(
        foregrounds, backgrounds, composed, (query_mask, key_mask), strict=True
    ):
        inside = mask[:, None].expand_as(out)
        assert torch.equal(out[inside], whole[inside])
        corner = torch.zeros_like(inside)
        corner[:, :, 0, 0] = True
        outside = ~inside & ~corner
        assert torch.equal(out[outside], under[outside])


def test_mirror_mirrors_each_view(batch):
    p = sample_parameters(0, 0, batch, SIZE)
    p.paste[:, :, 1] = SIZE - p.paste[:, :, 1] - p.paste[:, :, 3]
    mirrored = sample_parameters(0, 0, batch, SIZE)
    mirrored.orientation.bitwise_xor_(MIRROR)
    for image, mirror in zip(compose(batch, p), compose(batch, mirrored), strict=True):
        torch.testing.assert_close(image, mirror.flip(-1), atol=2e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_the_result_alone(batch, dtype):
    p = sample_parameters(0, 0, batch, SIZE)
    for half, full in zip(compose(batch, p, dtype=dtype), compose(batch, p), strict=True):
        assert torch.equal(half, full.to(half.dtype))


@pytest.mark.gpu
def test_the_gpu_composes_the_same(batch):
    pytest.importorskip("kornia")
    p = sample_parameters(0, 0, batch, SIZE)
    cuda = torch.device("cuda")
    for there, here in zip(compose(batch.to(cuda), p), compose(batch, p), strict=True):
        torch.testing.assert_close(there.cpu(), here, atol=2e-4, rtol=0)
