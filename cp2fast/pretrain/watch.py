"""What a run shows of its features on the way: a picture at each checkpoint, and probes.

Both look at a copy of the query encoder, so they leave the run as it is, and neither ends it: one
that fails is named once, and the run goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cp2fast.config import PretrainSettings, ProbeDataSettings
from cp2fast.data.decode import BadImage, decode_image, read_image
from cp2fast.data.image_set import ImageSet
from cp2fast.data.levels import Levels
from cp2fast.labels.open import open_labelled
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.probe.features import dense_features, prepare
from cp2fast.probe.labelled import evenly
from cp2fast.probe.pca import draw_features, main_directions, turned
from cp2fast.probe.probe import SHORT_SIDE, probe
from cp2fast.run_folder import atomic_write

Result = TypeVar("Result")

_LOG = logging.getLogger("cp2fast")

PHOTOS = 8
PICTURE = "features.png"
_SCORES = "features.npz"
"""The scores of the picture there is, to whose colours the next is turned."""
_SIDE = 224
"""Of a photo in the picture, pixels: the middle of the photo."""
_MOST_IMAGES = 100
"""Of each split that a probe on the way looks at, evenly chosen, so that it costs little."""


@dataclass(frozen=True)
class Probed:
    """mIoU of frozen backbone features, by the nearest neighbours and by a linear classifier."""

    knn: float
    linear: float


class Watch:
    """Looks at a run's features when it is asked to; of the main process alone."""

    def __init__(
        self,
        settings: PretrainSettings,
        images: ImageSet,
        folder: Path,
        say: Callable[[str], None] = _LOG.warning,
    ) -> None:
        """Prepare to look; nothing is read yet.

        Args:
            settings: of the run.
            images: eight of which, evenly chosen, are in the picture.
            folder: of the run.
            say: tells the user.
        """
        self._settings, self._images, self._folder, self._say = settings, images, folder, say
        self._failed: set[str] = set()

    def picture(self, encoder: Segmenter, step: int) -> None:
        """Draw ``features.png``: eight photos, and the main directions of their dense features."""
        self._guarded("the picture of the features", lambda: self._draw(encoder, step))

    def probe(self, encoder: Segmenter) -> Probed | None:
        """Probe the frozen features; None where no probe is set, or where it failed."""
        root = self._settings.train.probe
        if root is None:
            return None
        return self._guarded("the probe", lambda: self._probe(encoder, root))

    def _guarded(self, what: str, look: Callable[[], Result]) -> Result | None:
        if what in self._failed:
            return None
        try:
            return look()
        except Exception as error:  # whatever it is, the training is worth more
            if not self._folder.is_dir():
                raise  # That ends the run, which says so once.
            self._failed.add(what)
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            self._say(f"{what} failed and is left out from now on: {reason}")
            return None

    def _draw(self, encoder: Segmenter, step: int) -> None:
        photos = self._photos()
        if not photos:
            return
        network, device = frozen_copy(encoder, self._settings)
        inputs = prepare(photos, _SIDE, network, device)
        features_BChw = dense_features(network, inputs, "embedding")
        batch, channels, height, width = features_BChw.shape
        scores_N3 = main_directions(features_BChw.movedim(1, -1).reshape(-1, channels)).cpu()
        kept = self._folder / _SCORES
        if kept.is_file():
            before = torch.from_numpy(np.load(kept)["scores"])
            if before.shape == scores_N3.shape:
                scores_N3 = turned(scores_N3, before)
        with atomic_write(kept) as file:
            np.savez_compressed(file, scores=scores_N3.numpy())
        scores_Bhw3 = scores_N3.view(batch, height, width, -1).numpy()
        title = f"step {step}: main directions of the dense features, as colours"
        draw_features([p.numpy() for p in photos], list(scores_Bhw3), title, self._folder / PICTURE)

    def _photos(self) -> list[Tensor]:
        """The middles of eight photos; those that cannot be read are left out."""
        count, photos = len(self._images), list[Tensor]()
        data = self._settings.data
        levels = Levels.of(data.range, data.bands)
        for number in dict.fromkeys(place * count // PHOTOS for place in range(PHOTOS)):
            try:
                encoded = read_image(self._images, number)
                photo = decode_image(encoded, data.max_pixels, levels=levels)
            except BadImage:
                continue
            photos.append(_middle(photo))
        return photos

    def _probe(self, encoder: Segmenter, root: Path) -> Probed:
        own = self._settings.data
        data = open_labelled(ProbeDataSettings(range=own.range, bands=own.bands), root)
        few = replace(
            data, train=evenly(data.train, _MOST_IMAGES), val=evenly(data.val, _MOST_IMAGES)
        )
        network, device = frozen_copy(encoder, self._settings)
        [found] = probe(
            network,
            few,
            labels=1.0,
            seeds=[0],
            short_side=SHORT_SIDE,
            place="backbone",
            device=device,
        )
        return Probed(found.knn.miou, found.linear.miou)


def frozen_copy(encoder: Segmenter, settings: PretrainSettings) -> tuple[Segmenter, torch.device]:
    """The encoder's weights in a network of their own, on its device, without what was compiled."""
    with torch.random.fork_rng(devices=[]):
        network = build_segmenter(settings.model, len(encoder.decode_head.conv_seg.weight))
    network.load_state_dict(encoder.state_dict())
    network.mean, network.std = settings.augment.mean, settings.augment.std
    device = next(encoder.parameters()).device
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False), device


def _middle(photo_HW3: Tensor) -> Tensor:
    """The largest square in the middle, resized."""
    side = min(photo_HW3.shape[:2])
    top, left = ((length - side) // 2 for length in photo_HW3.shape[:2])
    square = photo_HW3[top : top + side, left : left + side].permute(2, 0, 1)[None].float()
    resized = F.interpolate(square, (_SIDE, _SIDE), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).round().to(torch.uint8)
