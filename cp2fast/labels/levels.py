"""The range of values of labelled images, where no run that came before has settled it."""

from __future__ import annotations

from cp2fast.config import Bands, RangeSetting
from cp2fast.data.image_set import ImageSet
from cp2fast.data.survey import find_range
from cp2fast.labels.dataset import LabelledData


def range_of(
    data: LabelledData, range_: RangeSetting | None, bands: Bands | None
) -> tuple[RangeSetting, str]:
    """``find_range`` of the images to learn from; None is ``auto``.

    Raises:
        UserError: most images have bands of which none, or none of those there, were chosen.
    """
    images = ImageSet.of_files([example.image for example in data.train])
    return find_range(images, range_ or "auto", bands, data.max_pixels, data.threads)
