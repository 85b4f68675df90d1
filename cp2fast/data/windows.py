"""The windows of shards in which a run's order mixes images (``data.window``)."""

from __future__ import annotations

import numpy as np

from cp2fast.config import DataSettings
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.order import DEFAULT_WINDOW, Windows
from cp2fast.errors import UserError


def window_width(data: DataSettings, images: ImageSet) -> int | None:
    """Shards per window; by default a few for remote shards, else None: the whole data set.

    Raises:
        UserError: windows of an order that is not random.
    """
    if data.order == "random":
        return DEFAULT_WINDOW if data.window is None and images.has_remote_shards else data.window
    if data.window is not None:
        raise UserError(
            f"data.window={data.window} mixes shards in a random order, which data.order="
            f"{data.order} is not: leave out one of them"
        )
    return None


def check_window(data: DataSettings, images: ImageSet) -> None:
    """Raise UserError unless the disk cache can hold two windows of shards, this and the next.

    Windows of an order that is not random are refused, too.
    """
    width = window_width(data, images)
    if width is None or images.disk is None or not images.has_remote_shards:
        return
    sizes = np.sort(images.stored[:, 0])[-2 * width :]
    wanted, budget = int(sizes.clip(0).sum()), images.disk.budget
    if wanted > budget:
        gib = 1 << 30
        raise UserError(
            f"data.window={width} needs room for {len(sizes)} shards of {wanted / gib:.1f} GiB in "
            f"{images.disk.folder}, which may take {budget / gib:.1f} GiB: set data.window lower, "
            "data.disk_gib higher, or data.disk_cache to a larger disk"
        )


def windows(data: DataSettings, images: ImageSet) -> Windows | None:
    """The windows of a run's order; None if it mixes the whole data set."""
    width = window_width(data, images)
    return None if width is None else Windows(images.shard_of_image, width)
