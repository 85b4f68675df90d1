"""Self-supervised pretraining of whole segmentation networks by copy-paste contrast, made fast.

The method is CP2 (Wang et al., "CP2: Copy-Paste Contrastive Pretraining for Semantic
Segmentation", ECCV 2022).

Shape legend, used as suffixes throughout (``logits_BXY``): B samples, S image side, C feature
channels, X query positions, Y key positions, K queue length, H and W a source image's size,
V the four views of a sample (query and key foreground, query and key background).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cp2fast.model.segmenter import Segmenter

__version__ = "0.1.0"


def load(path: str | Path) -> Segmenter:
    """A trained network, on the CPU and in eval mode.

    ``network.embed(images)`` gives dense features ``[B, C, ceil(H / stride), ceil(W / stride)]``,
    ``network.backbone`` is a timm model, and after fine-tuning ``network(images)`` gives logits of
    ``network.classes``. Images are RGB in [0, 1], ``[B, 3, H, W]``, less ``network.mean`` and over
    ``network.std`` (ImageNet's, unless the run set others).

    Args:
        path: a run folder (its best checkpoint, else its newest), a checkpoint, or a file that
            ``cp2fast export --to safetensors`` wrote.

    Raises:
        cp2fast.errors.UserError: there is no such network at ``path``.
    """
    # Imported here: torch takes seconds, which the command line's --help need not wait for.
    from cp2fast.weights.trained import open_trained

    return open_trained(path).network
