"""Probes: how well frozen dense features, with few labels, segment unseen images.

A nearest-neighbour and a linear classifier learn from the feature cells of the labelled images.
Their probabilities for the cells of the images in ``val`` are upsampled to pixels and scored by
mIoU. The network is not trained, so the score depends only on its features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cp2fast.errors import UserError
from cp2fast.finetune.evaluate import Scores, count_confusion, scores
from cp2fast.finetune.inference import upsampled_rows
from cp2fast.finetune.loader import examples_in_batches
from cp2fast.labels.dataset import Example, LabelledData, evenly
from cp2fast.labels.masks import IGNORED
from cp2fast.philox import Stream, permutation
from cp2fast.probe.classify import Cells, Classifier, linear, nearest_neighbours
from cp2fast.probe.features import Extractor

REFERENCES = 16_384
"""Most reference cells for nearest neighbours, drawn from the cells with labels."""
STATISTICS_IMAGES = 64
"""Most training images used for batch norm statistics; their labels are not read."""
SHORT_SIDE = 240
"""Default short side of the images in pixels."""
_BATCH = 8
_MOST = 1 << 26
"""Most values of a tensor at the photos' own size, where photos and classes times photos are."""


@dataclass(frozen=True)
class ProbeScores:
    """The scores for one subset of the labels.

    Attributes:
        seed: seed with which the subset was drawn.
        images: number of labelled images in it.
        knn: scores of the nearest neighbours; ``linear`` those of the linear classifier.
        classify: the linear classifier.
    """

    seed: int
    images: int
    knn: Scores
    linear: Scores
    classify: Classifier


def probe(
    extractor: Extractor,
    data: LabelledData,
    *,
    labels: float,
    seeds: Sequence[int],
    alive: Callable[[], None] = lambda: None,
) -> list[ProbeScores]:
    """Score the frozen features of a network, once for each seed.

    Args:
        extractor: computes the features; its batch norm statistics are set to those of the images.
        data: labelled images, ``train`` to learn from and ``val`` to score on.
        labels: share of ``data.train`` whose labels are used.
        seeds: each seed draws its own subset; with all labels only the references differ.
        alive: called after each batch.

    Raises:
        UserError: an image or a mask cannot be used, or no class occurs in both splits.
    """
    subsets = {seed: subset(len(data.train), labels, seed) for seed in seeds}
    wanted = sorted({number for numbers in subsets.values() for number in numbers})
    examples = [data.train[number] for number in wanted]
    statistics = examples_in_batches(evenly(data.train, STATISTICS_IMAGES), data, _BATCH)
    extractor.take_statistics(image for images, _ in statistics for image in images)
    images = dict(zip(wanted, _cells(extractor, examples, data, alive), strict=True))
    classifiers: list[Classifier] = []
    for seed, numbers in subsets.items():
        features, shares = zip(*(images[number] for number in numbers), strict=True)
        cells = _labelled(Cells(torch.cat(features), torch.cat(shares)), data)
        classifiers += [nearest_neighbours(_drawn(cells, seed)), linear(cells)]
    confusions = _confusions(extractor, classifiers, data, alive)
    _check_common_classes(images.values(), confusions[0], data)
    found = [scores(confusion, data.classes) for confusion in confusions]
    return [
        ProbeScores(
            seed, len(subsets[seed]), found[2 * row], found[2 * row + 1], classifiers[2 * row + 1]
        )
        for row, seed in enumerate(seeds)
    ]


def subset(count: int, labels: float, seed: int) -> list[int]:
    """Which of ``count`` images have labels: at least one, drawn by ``seed``, in order."""
    chosen = permutation(seed, Stream.PROBE, 0, count)[: max(1, round(labels * count))]
    return sorted(chosen.tolist())


def _features(
    extractor: Extractor,
    examples: Sequence[Example],
    data: LabelledData,
    alive: Callable[[], None],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features ``[B, C, h, w]`` and labels ``[B, H, W]`` of the examples, batch by batch."""
    for images, labels in examples_in_batches(examples, data, _BATCH):
        at_once = max(1, _MOST // images[0].numel())
        for begin in range(0, len(images), at_once):
            part = slice(begin, begin + at_once)
            features_BChw = extractor(images[part])
            yield features_BChw, torch.stack(labels[part]).to(features_BChw.device)
            alive()


def _cells(
    extractor: Extractor,
    examples: Sequence[Example],
    data: LabelledData,
    alive: Callable[[], None],
) -> Iterator[Cells]:
    """The cells of each image."""
    for features_BChw, labels_BHW in _features(extractor, examples, data, alive):
        shares_BKhw = class_shares(labels_BHW, len(data.classes), features_BChw.shape[2:])
        for features, shares in zip(features_BChw, shares_BKhw, strict=True):
            yield Cells(_rows(features), _rows(shares))


def class_shares(labels_BHW: Tensor, num_classes: int, cells: Sequence[int]) -> Tensor:
    """Shares of K classes among the pixels of each of h x w ``cells``: float32 ``[B, K, h, w]``.

    Labels are uint8, below K or 255.
    """
    height, width = cells
    shares = [
        F.adaptive_avg_pool2d((labels_BHW == kind).float(), (height, width))
        for kind in range(num_classes)
    ]
    return torch.stack(shares, dim=1)


def _confusions(
    extractor: Extractor,
    classifiers: Sequence[Classifier],
    data: LabelledData,
    alive: Callable[[], None],
) -> list[Tensor]:
    """The confusion matrix of each classifier on ``data.val``, in pixels."""
    classes = len(data.classes)
    confusions = [torch.zeros(classes, classes, dtype=torch.int64) for _ in classifiers]
    for features_BChw, labels_BHW in _features(extractor, data.val, data, alive):
        for confusion, classify in zip(confusions, classifiers, strict=True):
            predicted = segment(classify, features_BChw, labels_BHW.shape[1:])
            confusion += count_confusion(predicted, labels_BHW, classes).cpu()
    return confusions


def segment(classify: Classifier, features_BChw: Tensor, size: Sequence[int]) -> Tensor:
    """The most likely class of each pixel, ``[B, H, W]``, from the upsampled votes of the cells."""
    batch, _, height, width = features_BChw.shape
    votes_NK = classify(features_BChw.movedim(1, -1).flatten(0, 2))
    votes_BKhw = votes_NK.view(batch, height, width, -1).movedim(-1, 1)
    of_a_row = votes_BKhw.shape[1] * size[1]
    at_once, rows = (max(1, _MOST // each) for each in (of_a_row * size[0], of_a_row))
    predicted = []
    for begin in range(0, batch, at_once):
        votes = votes_BKhw[begin : begin + at_once]
        tops = range(0, size[0], rows)
        bands = [upsampled_rows(votes, size, top, rows).argmax(dim=1) for top in tops]
        predicted.append(torch.cat(bands, dim=1))
    return torch.cat(predicted)


def _rows(map_Chw: Tensor) -> Tensor:
    return map_Chw.flatten(1).T.contiguous()


def _labelled(cells: Cells, data: LabelledData) -> Cells:
    """The cells that are at least partly labelled."""
    there = cells.shares.sum(dim=1) > 0
    if not bool(there.any()):
        raise UserError(
            f"the masks of the labelled images of {data.train_split} hold no label but {IGNORED}, "
            "which is ignored: there is nothing to learn from"
        )
    return cells.at(there)


def _drawn(cells: Cells, seed: int) -> Cells:
    """At most ``REFERENCES`` of the cells, drawn at random."""
    count = len(cells.features)
    if count <= REFERENCES:
        return cells
    chosen = permutation(seed, Stream.PROBE, 1, count)[:REFERENCES]
    return cells.at(torch.from_numpy(chosen).to(cells.features.device))


def _check_common_classes(
    learned: Iterable[Cells], confusion_KK: Tensor, data: LabelledData
) -> None:
    """Refuse data in which no learned class can be correct.

    Raises:
        UserError: no class of the labelled images occurs in ``val``.
    """
    known = torch.stack([cells.shares.sum(dim=0).cpu() for cells in learned]).sum(dim=0) > 0
    there = confusion_KK.sum(dim=1) > 0
    if not bool((known & there).any()):
        raise UserError(
            f"no class is in both splits: the labelled images of {data.train_split} hold "
            f"{_names(known, data)}, those scored on {_names(there, data)}; choose other splits"
        )


def _names(there_K: Tensor, data: LabelledData) -> str:
    named = zip(data.classes, there_K.tolist(), strict=True)
    return ", ".join(name for name, is_there in named if is_there) or "none"
