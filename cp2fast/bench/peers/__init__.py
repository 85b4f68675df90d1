"""Other implementations of cp2fast's work, written as their users would, for comparison.

A peer of the augmentation has a function ``composer(images, size)`` that takes decoded images
(uint8 ``[H, W, 3]``). A peer of the loader starts from encoded images: it is a data set of samples
for torch's DataLoader, or a function ``composed`` with a loader and workers of its own (DALI, FFCV,
SPDL).
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor

Compose: TypeAlias = Callable[[Sequence[int]], Sequence[Tensor]]
"""From image numbers to query and key ``[B, 3, S, S]`` and their masks ``[B, S, S]``."""
