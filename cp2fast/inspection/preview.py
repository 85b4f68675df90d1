"""``cp2fast preview``: a picture of the network's input, or of what it has learned."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from pathlib import Path

import torch

from cp2fast.config import AugmentSettings, ModelSettings, PretrainSettings, check_pretrain
from cp2fast.console import open_console
from cp2fast.data.images import check_exists
from cp2fast.errors import UserError
from cp2fast.inspection.pairs import Pairs, first_pairs
from cp2fast.inspection.pairs_picture import draw_pairs_picture
from cp2fast.inspection.similarity import (
    Cell,
    SimilarityMap,
    chosen,
    embed,
    figures,
    foreground_cells,
    similarity_map,
    take_statistics,
)
from cp2fast.inspection.similarity_picture import draw_similarity_picture
from cp2fast.inspection.style import check_target
from cp2fast.model.cp2 import build_cp2
from cp2fast.model.segmenter import Segmenter, build_segmenter
from cp2fast.recipes import differences
from cp2fast.weights.load import check_exist, load_weights
from cp2fast.wording import in_words

_EMBEDDING = "decode_head.contrast_conv."


def run_preview(settings: PretrainSettings, count: int, path: Path) -> None:
    """Draw the first ``count`` pairs of a run with these settings into ``path``.

    Raises:
        UserError: bad input, or ``path`` exists already; nothing was overwritten.
    """
    _check_inputs(settings)
    check_target(path)
    pairs = first_pairs(settings, count)
    count = min(count, len(pairs))
    draw_pairs_picture(pairs, count, _stride(settings.model), describe(pairs, settings), path)
    report(pairs, path)


def run_similarity(settings: PretrainSettings, weights: Path, count: int, path: Path) -> None:
    """Draw ``count`` similarity maps of the network in ``weights`` beside those of random weights.

    Raises:
        UserError: bad input, weights of another network or without a head, or ``path`` exists
            already; nothing was overwritten.
    """
    check_exist(weights)
    _check_inputs(settings)
    check_target(path)
    random = build_cp2(settings.model, settings.train.seed).encoder_q
    trained = copy.deepcopy(random)
    loaded = load_weights(trained, weights)
    if any(name.startswith(_EMBEDDING) for name in loaded.missing):
        raise UserError(
            f"{weights} holds no dense embedding (decode_head.contrast_conv): name a run folder or "
            "a checkpoint of cp2fast pretrain"
        )
    pairs = first_pairs(settings, 2 * count)
    take_statistics(random, pairs)
    cells = [
        foreground_cells(pairs, sample, trained.embedding_stride) for sample in range(len(pairs))
    ]
    shown = sorted(map(chosen, filter(None, cells)), key=lambda cell: cell.match is None)[:count]
    every = list(itertools.chain.from_iterable(cells))
    before, after = (_maps(network, pairs, shown) for network in (random, trained))
    figures_before, figures_after = (
        figures(_maps(network, pairs, every)) for network in (random, trained)
    )
    about = [
        f"{weights} on {describe(pairs, settings)}",
        "Colours: cosine of the marked query cell with every cell of the key, by the query "
        "encoder. Both maps of a row share one range: contrast counts, not brightness. Ring: the "
        "true place.",
        f"The rows are {len(shown)} of {len(pairs)} pairs, one cell each; the figures are of all "
        f"{len(every)} foreground cells of all {len(pairs)} pairs:",
        f"foreground less background {figures_before.gap:+.2f} at random, {figures_after.gap:+.2f} "
        f"trained; the true place beats {figures_before.below_match:.0%} and "
        f"{figures_after.below_match:.0%} of the cells.",
    ]
    draw_similarity_picture(pairs, shown, before, after, about, path)
    open_console().print(f"{weights}: {loaded}", *about[-2:], sep="\n")
    report(pairs, path)


def _check_inputs(settings: PretrainSettings) -> None:
    check_pretrain(settings)
    if settings.data.root is not None:
        check_exists(settings.data.root)


def _maps(network: Segmenter, pairs: Pairs, cells: Sequence[Cell]) -> list[SimilarityMap]:
    query, key = embed(network, pairs.composed.query), embed(network, pairs.composed.key)
    return [similarity_map(query[c.sample], pairs, key[c.sample], c) for c in cells]


def describe(pairs: Pairs, settings: PretrainSettings) -> str:
    """One line that describes the data and the settings of the pairs."""
    backgrounds = {"batch": "backgrounds of the same batch", "none": "no backgrounds"}
    background = backgrounds.get(settings.data.background, "backgrounds from two more images")
    return (
        f"{pairs.images:,} images of {pairs.root}, decoded by {pairs.source.name}; "
        f"{settings.model.size} px, {background}, "
        f"seed {settings.train.seed}{_changed(settings.augment)}"
    )


def _changed(augment: AugmentSettings) -> str:
    """The augmentation settings that differ from the paper's."""
    return "".join(
        f", augment.{key}={in_words(value)}"
        for key, _, value in differences(AugmentSettings(), augment)
    )


def report(pairs: Pairs, path: Path) -> None:
    """Print what was written, and which images could not be read."""
    console = open_console()
    if pairs.range_line:
        console.print(pairs.range_line)
    for line in pairs.bad:
        console.print(f"replaced an unreadable image: {line.replace(chr(9), ': ')}")
    console.print(f"wrote {path}")


def _stride(model: ModelSettings) -> int:
    """Pixels from one cell of the feature grid to the next; found without creating weights."""
    with torch.device("meta"):
        return build_segmenter(model).embedding_stride
