"""``cp2fast preview``: a picture of the network's input, or of what it has learned."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cp2fast import recipes
from cp2fast.config import AugmentSettings, ModelSettings, PretrainSettings, check_root
from cp2fast.data.image_sets.listing import check_exists
from cp2fast.errors import UserError
from cp2fast.files import path_of
from cp2fast.inspection.pairs import Pairs, first_pairs
from cp2fast.inspection.pictures import draw_pairs_picture, draw_similarity_picture
from cp2fast.inspection.similarity import (
    Cell,
    Figures,
    SimilarityMap,
    chosen,
    embed,
    figures,
    foreground_cells,
    similarity_map,
    take_statistics,
)
from cp2fast.inspection.style import check_target
from cp2fast.model.cp2 import build_cp2
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.recipes import Overrides
from cp2fast.weights.files import find_file
from cp2fast.weights.load import load_weights
from cp2fast.wording import in_words

_EMBEDDING = "decode_head.contrast_conv."
_MOST = 32
"""The most pairs in a picture."""
_FEWEST = 8
"""The fewest pairs that figures summarise, if there are as many images."""


@dataclass(frozen=True)
class Similarity:
    """How similar a network finds the places of a pair, compared with random weights.

    Attributes:
        cells: number of foreground cells of ``pairs`` that the figures summarise.
        loaded: one line: which tensors of the file were matched and which are missing.
    """

    random: Figures
    trained: Figures
    cells: int
    pairs: Pairs
    loaded: str

    def __str__(self) -> str:
        """The figures as a sentence, without those that the pairs do not have."""
        random, trained = self.random, self.trained
        gap = (
            "no key has both foreground and background"
            if math.isnan(random.gap)
            else f"foreground minus background {random.gap:+.2f} at random, {trained.gap:+.2f} "
            "trained"
        )
        below = (
            "no key shows a place of its query"
            if math.isnan(random.below_match)
            else f"the true place beats {random.below_match:.0%} and {trained.below_match:.0%} of "
            "the cells"
        )
        return f"{gap}; {below}."


def preview(
    settings: PretrainSettings | str | Path | None = None,
    overrides: Overrides = (),
    *,
    out: str | Path = "preview.png",
    count: int = 4,
) -> Pairs:
    """Draw the first pairs of a run: photos, crops, random parameters, composed pairs.

    Args:
        settings: settings, or a recipe by name or file; None is the demo.
        overrides: settings by key.
        out: new PNG or WebP file.
        count: number of pairs to draw, 1 to 32.

    Returns:
        The pairs, of which the first ``count`` are drawn; with backgrounds of the same batch there
        are 8 or more, because each needs another's photo. ``composed`` holds query and key
        ``[B, 3, S, S]`` with their masks; beside it are ``parameters``, the ``decoded`` photos and
        their ``names``; ``bad`` lists images that could not be read and were replaced.

    Raises:
        UserError: bad input, or ``out`` exists already; nothing was overwritten.
    """
    settings = recipes.load(PretrainSettings, settings or "demo", overrides)
    path = path_of(out)
    _check_inputs(settings, count)
    check_target(path)
    pairs = first_pairs(settings, count)
    count = min(count, len(pairs))
    draw_pairs_picture(pairs, count, _stride(settings.model), describe(pairs, settings), path)
    return pairs


def similarity(
    weights: str | Path,
    settings: PretrainSettings | str | Path | None = None,
    overrides: Overrides = (),
    *,
    out: str | Path = "similarity.png",
    count: int = 4,
) -> Similarity:
    """Draw where in the key a network, and random weights, find a place of the query.

    Args:
        weights: a run folder, a checkpoint or a file of weights with a dense embedding.
        settings: settings, or a recipe by name or file; None is those of the run that ``weights``
            belongs to, or the demo.
        overrides: settings by key.
        out: new PNG or WebP file.
        count: number of maps to draw, 1 to 32.

    Raises:
        UserError: bad input, weights of another network or without a head, pairs without
            foreground, or ``out`` exists already; nothing was overwritten.
    """
    file, path = path_of(weights), path_of(out)
    find_file(file)
    named = settings or recipes.stored_beside(file) or "demo"
    settings = recipes.load(PretrainSettings, named, overrides)
    _check_inputs(settings, count)
    check_target(path)
    random = build_cp2(settings.model, settings.train.seed).encoder_q
    trained = copy.deepcopy(random)
    loaded = load_weights(trained, file)
    if any(name.startswith(_EMBEDDING) for name in loaded.missing):
        raise UserError(
            f"{file} holds no dense embedding (decode_head.contrast_conv): name a run folder or "
            "a checkpoint of cp2fast pretrain"
        )
    pairs = first_pairs(settings, max(2 * count, _FEWEST))
    take_statistics(random, pairs)
    cells = [
        foreground_cells(pairs, sample, trained.embedding_stride) for sample in range(len(pairs))
    ]
    if not any(cells):
        raise UserError(
            "these pairs have no foreground cell: set a larger augment.paste_area or model.size"
        )
    drawn = sorted(map(chosen, filter(None, cells)), key=lambda cell: cell.match is None)[:count]
    every = list(itertools.chain.from_iterable(cells))
    found = Similarity(
        random=figures(_maps(random, pairs, every)),
        trained=figures(_maps(trained, pairs, every)),
        cells=len(every),
        pairs=pairs,
        loaded=str(loaded),
    )
    about = [
        f"{file} on {describe(pairs, settings)}",
        "Colours: cosine of the marked query cell with every cell of the key, by the query "
        "encoder. Both maps of a row share one range: contrast counts, not brightness. Ring: the "
        "true place.",
        f"The rows are {len(drawn)} of {len(pairs)} pairs, one cell each; the figures are of all "
        f"{len(every)} foreground cells of all {len(pairs)} pairs:",
        str(found),
    ]
    before, after = (_maps(network, pairs, drawn) for network in (random, trained))
    draw_similarity_picture(pairs, drawn, before, after, about, path)
    return found


def _check_inputs(settings: PretrainSettings, count: int) -> None:
    if not 1 <= count <= _MOST:
        raise UserError(f"{count} pairs cannot be drawn: name 1 to {_MOST}")
    check_root(settings.data)
    if settings.data.root is not None:
        check_exists(settings.data.root)


def _maps(network: Segmenter, pairs: Pairs, cells: Sequence[Cell]) -> list[SimilarityMap]:
    query, key = embed(network, pairs.composed.query), embed(network, pairs.composed.key)
    return [similarity_map(query[c.sample], pairs, key[c.sample], c) for c in cells]


def describe(pairs: Pairs, settings: PretrainSettings) -> str:
    """One line that describes the data and the settings of the pairs."""
    backgrounds = {"batch": "backgrounds of the same batch", "none": "no backgrounds"}
    background = backgrounds.get(settings.data.background, "backgrounds from two more images")
    differences = recipes.differences(AugmentSettings(), settings.augment)  # from the paper's
    changed = "".join(f", augment.{key}={in_words(value)}" for key, _, value in differences)
    return (
        f"{pairs.images:,} images of {pairs.root}, decoded by {pairs.source.name}; "
        f"{settings.model.size} px, {background}, seed {settings.train.seed}{changed}"
    )


def _stride(model: ModelSettings) -> int:
    """Pixels from one cell of the feature grid to the next; found without creating weights."""
    with torch.device("meta"):
        return build_segmenter(model).embedding_stride
