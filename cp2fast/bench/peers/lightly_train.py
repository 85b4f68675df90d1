"""LightlyTrain's own data loader, as used by its DenseCL: two views per photo, without pasting.

It does less work than the others: half as many views, and no second image.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

from torch.utils.data import Dataset

from cp2fast.data.image_sets.image_set import ImageSet


def problem(images: ImageSet) -> str | None:
    """Why it cannot be measured on these images, with the fix; None if it can."""
    if find_spec("lightly_train") is None:
        return "LightlyTrain is not installed: pip install lightly-train"
    if images.kind != "folder":
        return "LightlyTrain reads folders: set data.root to one"
    return None


def dataset(images: ImageSet, size: int) -> Dataset[Any]:
    """Samples as dictionaries whose ``views`` are two tensors ``[3, S, S]``."""
    from lightly_train._data.image_dataset import ImageDataset
    from lightly_train._methods.densecl.densecl_transform import (
        DenseCLTransform,
        DenseCLTransformArgs,
    )

    logging.getLogger("lightly_train").setLevel(logging.ERROR)
    arguments = DenseCLTransformArgs(image_size=(size, size))
    arguments.resolve_auto()
    views: Dataset[Any] = ImageDataset(
        image_dir=None,
        image_filenames=[images.name(number) for number in range(len(images))],
        transform=DenseCLTransform(arguments),
        num_channels=3,
    )
    return views
