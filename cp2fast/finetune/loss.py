"""The loss of a segmentation network, per pixel."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from cp2fast.labels.coding import IGNORED


def segmentation_loss(
    logits_BKhw: Tensor, labels_BHW: Tensor, mean: Literal["valid", "all"]
) -> Tensor:
    """Cross-entropy of the logits, upsampled to the labels' size (bilinear, in float32).

    Args:
        logits_BKhw: K classes.
        labels_BHW: below K, or 255 where ignored.
        mean: over the pixels that are not ignored, or over all of them as in mmsegmentation and
            the paper's code, where images with much to ignore count for less.

    Returns:
        A scalar; 0 where every pixel is ignored.
    """
    logits = interpolate(
        logits_BKhw.float() if logits_BKhw.dtype.itemsize < 4 else logits_BKhw,
        labels_BHW.shape[1:],
        mode="bilinear",
    )
    total = cross_entropy(logits, labels_BHW.long(), ignore_index=IGNORED, reduction="sum")
    if mean == "all":
        return total / labels_BHW.numel()
    return total / (labels_BHW != IGNORED).sum().clamp(min=1)
