"""The demo's data: generated scenes with their masks, in the layout of PASCAL VOC.

Each scene shows one to four objects on a textured background. A class is defined by its shape and
its texture together. Position, size, rotation and colours are random, so colour alone is not
informative.
"""

from __future__ import annotations

import colorsys
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cp2fast import philox
from cp2fast.config import DataSettings, LabelledDataSettings, Root
from cp2fast.errors import UserError
from cp2fast.philox import Stream

_Plane = NDArray[np.floating[Any]]
"""``[H, W]``."""

DEMO_DATA = Path("demo-data")
DEMO_RUN = Path("runs/demo")
"""Where ``finetune-voc`` finds the demo's weights by default."""
_DEMO_SEED = 0

VOID = 255
"""The label of the one-pixel border around each object."""

_VAL_EVERY, _FEW = 5, 8
_DRAWS = 256
"""Random numbers reserved per scene, without its noise; fewer than 80 are needed."""
_LAYERS = ((0.5, 56), (0.3, 20), (0.2, 6))
"""Weight, and feature size in pixels, of the layers of a noisy background."""


@overload
def data_root(settings: LabelledDataSettings) -> Path: ...
@overload
def data_root(settings: DataSettings) -> Root: ...
def data_root(settings: DataSettings | LabelledDataSettings) -> Root:
    """The images' root; if none is set, the demo scenes, which are generated once."""
    if settings.root is not None:
        return settings.root
    if not DEMO_DATA.exists():
        generate_scenes(DEMO_DATA, settings.scenes, _DEMO_SEED)
    return DEMO_DATA


def generate_scenes(root: Path, count: int, seed: int) -> None:
    """Write ``count`` scenes into a new folder ``root``; same arguments give the same bytes.

    The folder holds ``JPEGImages/*.jpg``, ``SegmentationClass/*.png`` (palette PNG in VOC's
    colours: 0 is background, 255 a border to ignore), ``ImageSets/Segmentation/{train,val}.txt``
    (every fifth scene is for validation), ``train_few.txt`` beside them (an eighth of train, as if
    the others had no masks) and ``classes.txt`` (one name per line, background first). The folder
    appears only when it is complete.

    Raises:
        UserError: ``root`` already exists, or another process has written it meanwhile.
    """
    if root.exists():
        raise UserError(f"{root} exists already: remove it, or name another folder")
    root.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        _write(unfinished, count, seed)
        unfinished.chmod(0o755)
        try:
            unfinished.rename(root)
        except OSError as error:
            if not root.exists():
                raise
            raise UserError(f"{root} appeared meanwhile: run the command again") from error
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def voc_palette() -> bytes:
    """The 256 colours of PASCAL VOC's masks, RGB, made from groups of three bits of the label.

    Source: VOCdevkit, ``VOClabelcolormap.m``.
    """
    label = np.arange(256, dtype=np.uint8)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((label >> channel) & 1) << (7 - bit)
        label >>= 3
    return colours.tobytes()


def _write(root: Path, count: int, seed: int) -> None:
    photos, masks = root / "JPEGImages", root / "SegmentationClass"
    splits = root / "ImageSets" / "Segmentation"
    for folder in (photos, masks, splits):
        folder.mkdir(parents=True)
    names = [f"scene_{number:05d}" for number in range(count)]
    for number, name in enumerate(names):
        image, label = _scene(seed, number)
        Image.fromarray(image).save(photos / f"{name}.jpg", quality=92)
        mask = Image.fromarray(label)
        mask.putpalette(voc_palette())
        mask.save(masks / f"{name}.png")
    val = names[_VAL_EVERY - 1 :: _VAL_EVERY]
    train = sorted(set(names) - set(val))
    few = train[: -(-len(train) // _FEW)]
    for split, members in (("train", train), ("train_few", few), ("val", val)):
        (splits / f"{split}.txt").write_text("".join(f"{name}\n" for name in members))
    classes = ["background", *(kind.name for kind in _CLASSES)]
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes))


class _Draw:
    """The random numbers of one scene, drawn one by one."""

    def __init__(self, seed: int, scene: int) -> None:
        self._seed, self._scene, self._fields = seed, scene, 0
        blocks = np.arange(_DRAWS // 4)
        uniform = philox.uniform(seed, Stream.SCENE, 0, scene, block=blocks)
        self._numbers: Iterator[float] = iter(uniform.ravel().tolist())

    def between(self, low: float, high: float) -> float:
        """A uniform random number."""
        return low + (high - low) * next(self._numbers)

    def below(self, count: int) -> int:
        """A uniform random integer in [0, count)."""
        return int(count * next(self._numbers))

    def colour(self, saturation: tuple[float, float], value: tuple[float, float]) -> _Plane:
        """A random colour of any hue: RGB in [0, 255], ``[3]``."""
        hue = next(self._numbers)
        rgb = colorsys.hsv_to_rgb(hue, self.between(*saturation), self.between(*value))
        return np.array(rgb, np.float32) * 255

    def noise(self, height: int, width: int, cell: int) -> _Plane:
        """Smooth noise in [0, 1] with features of ``cell`` pixels."""
        rows, columns = height // cell + 2, width // cell + 2
        self._fields += 1
        blocks = np.arange(-(-rows * columns // 4))
        grid = philox.uniform(
            self._seed, Stream.SCENE, self._fields, self._scene, block=blocks
        ).ravel()[: rows * columns]
        image = Image.fromarray(grid.reshape(rows, columns).astype(np.float32))
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)


class _Class(NamedTuple):
    """A class of objects, in coordinates where the radius is 1."""

    name: str
    outside: Callable[[_Plane, _Plane], _Plane]
    """Approximate distance from the shape's edge, negative inside."""
    texture: Callable[[_Plane, _Plane], _Plane]
    """Selects one of two colours: the first where it is negative."""


_SIDE = np.float32(3**0.5 / 2)
"""Half the side of a triangle whose corners lie at radius 1."""


def _bar(x: _Plane, y: _Plane) -> _Plane:
    distance: _Plane = np.maximum(np.abs(x) - 0.95, np.abs(y) - 0.32)
    return distance


_CLASSES = (
    _Class(
        "striped disc",
        outside=lambda x, y: np.hypot(x, y) - 1,
        texture=lambda x, y: np.sin(10 * x),
    ),
    _Class(
        "checkered square",
        outside=lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.8,
        texture=lambda x, y: 4 * np.sin(8 * x) * np.sin(8 * y),
    ),
    _Class(
        "dotted triangle",
        outside=lambda x, y: np.maximum(_SIDE * np.abs(x) - y / 2, y) - 0.5,
        texture=lambda x, y: 2 * (np.cos(13 * x) + np.cos(13 * y)) - 1,
    ),
    _Class(
        "ringed star",
        outside=lambda x, y: (np.hypot(x, y) - (0.72 + 0.28 * np.cos(5 * np.arctan2(y, x)))) * 0.7,
        texture=lambda x, y: np.sin(14 * np.hypot(x, y)),
    ),
    _Class(
        "wavy cross",
        outside=lambda x, y: np.minimum(_bar(x, y), _bar(y, x)),
        texture=lambda x, y: 2 * np.sin(11 * x + 2.5 * np.sin(8 * y)),
    ),
)


def _scene(seed: int, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One scene: RGB ``[H, W, 3]`` and its labels ``[H, W]``."""
    draw = _Draw(seed, number)
    height, width = (round(draw.between(120, 260)) for _ in range(2))
    image = _background(draw, height, width)
    label = np.zeros((height, width), np.uint8)
    for _ in range(1 + draw.below(4)):
        _add_object(draw, image, label)
    image += 10 * (draw.noise(height, width, 1)[..., None] - 0.5)  # grain
    return image.clip(0, 255).astype(np.uint8), _with_void(label)


def _background(draw: _Draw, height: int, width: int) -> _Plane:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = draw.between(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    kind = draw.below(3)
    if kind == 0:
        blend: _Plane = (along - along.min()) / np.ptp(along)
    elif kind == 1:
        blend = np.sum([w * draw.noise(height, width, cell) for w, cell in _LAYERS], axis=0)
    else:
        bend = 3 * draw.noise(height, width, 48)
        blend = 0.5 + 0.5 * np.sin(along * 2 * np.pi / draw.between(12, 48) + bend)
    first, second = (draw.colour((0.1, 0.6), (0.3, 0.95)) for _ in range(2))
    shade = 0.8 + 0.4 * draw.noise(height, width, 64)
    mottle = 0.93 + 0.14 * draw.noise(height, width, 5)
    return (first + (second - first) * blend[..., None]) * (shade * mottle)[..., None]


def _add_object(draw: _Draw, image: _Plane, label: NDArray[np.uint8]) -> None:
    """Draw one object and its shadow over ``image``, and write its class into ``label``."""
    height, width = label.shape
    kind = draw.below(len(_CLASSES))
    radius = draw.between(0.13, 0.36) * min(height, width)
    top, left = draw.between(0.1, 0.9) * height, draw.between(0.1, 0.9) * width
    angle = draw.between(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = (y - top) / radius, (x - left) / radius

    def turned(x: _Plane, y: _Plane) -> tuple[_Plane, _Plane]:
        return (
            x * np.cos(angle) + y * np.sin(angle),
            y * np.cos(angle) - x * np.sin(angle),
        )

    shape = _CLASSES[kind]
    outside = shape.outside(*turned(x, y)) * radius
    shadow = shape.outside(*turned(x - 0.12, y - 0.16)) * radius
    image *= 1 - 0.4 * (0.5 - shadow / 8).clip(0, 1)[..., None]

    first = draw.colour((0.45, 1), (0.55, 1))
    second = draw.colour((0.1, 0.8), (0.15, 0.6))
    blend = (0.5 + 2 * shape.texture(*turned(x, y))).clip(0, 1)[..., None]
    light = (1.05 - 0.15 * (x + y))[..., None].clip(0.7, 1.3)
    cover = (0.5 - outside).clip(0, 1)[..., None]
    image += cover * ((first + (second - first) * blend) * light - image)
    label[outside < 0] = 1 + kind


def _with_void(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels in which the outermost pixels of every object are void."""
    padded = np.pad(label, 1, mode="edge")
    beside = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    edge = np.any([label != other for other in beside], axis=0)
    return np.where(edge & (label > 0), np.uint8(VOID), label)
