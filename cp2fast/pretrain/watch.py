"""Inspect the features during a run: a picture at each checkpoint, and probes.

Both use a copy of the query encoder, so they do not affect the run. If one fails, it is reported
once and the run continues.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cp2fast.config import PretrainSettings, ProbeDataSettings
from cp2fast.data.decoding.decode import BadImage, decode_image
from cp2fast.data.decoding.levels import Levels
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.labels.dataset import evenly
from cp2fast.labels.open import open_labelled
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.probe.features import Extractor
from cp2fast.probe.pca import COLOURS, draw_features, main_directions, turned
from cp2fast.probe.probe import SHORT_SIDE, ProbeScores, probe
from cp2fast.run_folder import RunFolder, atomic_write
from cp2fast.train.interrupt import StopAsked

Result = TypeVar("Result")

_LOG = logging.getLogger("cp2fast")

PHOTOS = 8
PICTURE = "features.png"
SCORES = "features.npz"
"""Data of the picture: ``first`` and ``last``, float64 ``[B, h, w, 3]``, and ``names``.

The next picture is rotated to the colours of ``last``."""
SIDE = 224
"""Side in pixels of a photo in the picture, which shows the photo's central square."""
_MOST_IMAGES = 100
"""Most images per split, evenly chosen, that a probe during a run uses, to keep it cheap."""


class Watch:
    """Inspects a run's features on request; used in the main process only."""

    def __init__(
        self,
        settings: PretrainSettings,
        images: ImageSet,
        folder: Path,
        say: Callable[[str], None] = _LOG.warning,
    ) -> None:
        """Prepare the inspection; nothing is read yet.

        Args:
            settings: the run's settings.
            images: images, eight of which, evenly chosen, are in the picture.
            folder: the run's folder.
            say: prints a line for the user.
        """
        self._settings, self._images, self._folder, self._say = settings, images, folder, say
        self._failed: set[str] = set()

    def picture(self, encoder: Segmenter, step: int) -> None:
        """Draw ``features.png``: eight photos and the main directions of their dense features.

        The features before the first step, if they were drawn, are shown with the current ones.
        Batch norm takes its statistics from the photos, because untrained weights have none.
        """
        self._guarded("the picture of the features", lambda: self._draw(encoder, step))

    def probe(
        self, encoder: Segmenter, alive: Callable[[], None] = lambda: None
    ) -> ProbeScores | None:
        """Probe the frozen features; None if no probe is set or if it failed.

        Args:
            encoder: query encoder of the run.
            alive: called during the probe; may raise ``StopAsked``.
        """
        root = self._settings.train.probe
        if root is None:
            return None
        return self._guarded("the probe", lambda: self._probe(encoder, root, alive))

    def _guarded(self, what: str, look: Callable[[], Result]) -> Result | None:
        if what in self._failed:
            return None
        try:
            return look()
        except StopAsked:
            raise
        except Exception as error:  # no failure here may end the training
            if not RunFolder(self._folder).holds_run:
                raise  # the folder was moved or deleted: the run ends
            self._failed.add(what)
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            self._say(f"{what} failed and is left out from now on: {reason}")
            return None

    def _draw(self, encoder: Segmenter, step: int) -> None:
        photos = self._photos()
        if not photos:
            return
        images = list(photos.values())
        extractor = Extractor(frozen_copy(encoder, self._settings), "embedding", SIDE)
        extractor.take_statistics(images)
        features_BChw = extractor(images)
        batch, channels, height, width = features_BChw.shape
        scores_N3 = main_directions(features_BChw.movedim(1, -1).reshape(-1, channels)).cpu()
        before = self._scores_before()
        if before and before["last"].shape == (batch, height, width, COLOURS):
            last_N3 = torch.from_numpy(before["last"]).reshape(-1, COLOURS)
            scores_N3 = turned(scores_N3, last_N3)
        scores_Bhw3 = scores_N3.view(batch, height, width, COLOURS).numpy()
        first = {"first": scores_Bhw3} if step == 0 else {}
        kept = before | first | {"last": scores_Bhw3, "names": np.array(list(photos))}
        with atomic_write(self._folder / SCORES) as file:
            np.savez_compressed(file, **kept)  # type: ignore[arg-type, unused-ignore]
        rows = {f"step {step}: main directions of the dense features, as colours": scores_Bhw3}
        if step > 0 and "first" in kept and kept["first"].shape == scores_Bhw3.shape:
            rows = {"before the first step": kept["first"]} | rows
        pictures = [image.numpy() for image in images]
        draw_features(pictures, {t: list(r) for t, r in rows.items()}, self._folder / PICTURE)

    def _scores_before(self) -> dict[str, NDArray[Any]]:
        """Data of the existing picture; empty if there is none."""
        kept = self._folder / SCORES
        if not kept.is_file():
            return {}
        with np.load(kept) as arrays:
            return dict(arrays) if "last" in arrays else {}

    def _photos(self) -> dict[str, Tensor]:
        """Central squares of eight photos by name, without photos that cannot be read."""
        count, photos = len(self._images), dict[str, Tensor]()
        data = self._settings.data
        levels = Levels.of(data.range, data.bands)
        for number in dict.fromkeys(place * count // PHOTOS for place in range(PHOTOS)):
            try:
                encoded = self._images.read(number)
                photo = decode_image(encoded, data.max_pixels, levels=levels)
            except BadImage:
                continue
            photos[self._images.name(number)] = middle(photo, SIDE)
        return photos

    def _probe(self, encoder: Segmenter, root: Path, alive: Callable[[], None]) -> ProbeScores:
        own = self._settings.data
        data = open_labelled(ProbeDataSettings(range=own.range, bands=own.bands), root)
        few = replace(
            data, train=evenly(data.train, _MOST_IMAGES), val=evenly(data.val, _MOST_IMAGES)
        )
        extractor = Extractor(frozen_copy(encoder, self._settings), "backbone", SHORT_SIDE)
        [found] = probe(extractor, few, labels=1.0, seeds=[0], alive=alive)
        return found


def frozen_copy(encoder: Segmenter, settings: PretrainSettings) -> Segmenter:
    """A copy of the encoder on its device, without compiled code."""
    with torch.random.fork_rng(devices=[]):
        network = build_segmenter(settings.model, len(encoder.decode_head.conv_seg.weight))
    network.load_state_dict(encoder.state_dict())
    network.mean, network.std = settings.augment.mean, settings.augment.std
    device = next(encoder.parameters()).device
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def middle(photo_HW3: Tensor, side: int) -> Tensor:
    """The largest central square, resized to ``side`` pixels: uint8."""
    length = min(photo_HW3.shape[:2])
    top, left = ((edge - length) // 2 for edge in photo_HW3.shape[:2])
    square = photo_HW3[top : top + length, left : left + length].permute(2, 0, 1)[None].float()
    resized = F.interpolate(square, (side, side), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).round().to(torch.uint8)
