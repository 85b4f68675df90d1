"""The random parameters of one batch of copy-paste, drawn before the op runs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

QUERY_FOREGROUND, KEY_FOREGROUND, QUERY_BACKGROUND, KEY_BACKGROUND = range(4)
"""The four views of a sample, in the order of axis V."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""The four jitter operations, in the order of ``factor``'s last axis."""

MIRROR, FLIP, TRANSPOSE = 1, 2, 4
"""Bits of an orientation: swap left and right, swap top and bottom, swap x and y first."""


@dataclass(frozen=True)
class Parameters:
    """What happens to each view of each sample; B samples, V = 4 views, all on the CPU.

    A view is cropped, resized to S x S, oriented, jittered in ``order``, converted to grey, blurred
    and normalised, in that order; then each foreground is pasted onto its background.

    Attributes:
        source: int32 ``[B, V]``, position in the RaggedBatch of the image from which the view is
            cropped.
        box: int32 ``[B, V, 4]``, the crop's top, left, height and width in source pixels.
        orientation: uint8 ``[B, V]``, 0 to 7, one of the eight orientations of a square: bits
            MIRROR, FLIP and TRANSPOSE, with TRANSPOSE applied first.
        jitter: bool ``[B, V]``, whether colours are jittered.
        factor: float32 ``[B, V, 4]``, brightness, contrast and saturation factors (1 is no change),
            and the hue shift in turns (0 is no change).
        order: int32 ``[B, V, 4]``, the jitter operations in the order they are applied.
        grey: bool ``[B, V]``, whether the view is converted to grey.
        sigma: float32 ``[B, V]``, standard deviation of the blur in output pixels; 0 is no blur.
        paste: int32 ``[B, 2, 4]``, top, left, height and width of the query's and the key's
            foreground rectangle in output pixels.
    """

    source: Tensor
    box: Tensor
    orientation: Tensor
    jitter: Tensor
    factor: Tensor
    order: Tensor
    grey: Tensor
    sigma: Tensor
    paste: Tensor

    def __len__(self) -> int:
        return len(self.source)
