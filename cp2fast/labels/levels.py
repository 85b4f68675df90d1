"""The range of values of labelled images, unless an earlier run has set it."""

from __future__ import annotations

from cp2fast.config import Bands, RangeSetting
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.survey import find_range
from cp2fast.labels.dataset import LabelledData


def range_of(
    data: LabelledData, range_: RangeSetting | None, bands: Bands | None
) -> tuple[RangeSetting, str]:
    """``find_range`` of the training images; None means ``auto``.

    Raises:
        UserError: most images have several bands and none was chosen, or they lack the chosen ones.
    """
    images = ImageSet.of_files([example.image for example in data.train])
    return find_range(images, range_ or "auto", bands, data.max_pixels, data.threads)
