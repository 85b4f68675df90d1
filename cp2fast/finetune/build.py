"""Set up a fine-tuning: its images with masks, the network, and the task of them."""

from __future__ import annotations

from dataclasses import replace

from cp2fast.config import FinetuneSettings
from cp2fast.data.decoding.levels import Levels
from cp2fast.data.order import steps_per_epoch
from cp2fast.data.scenes import data_root
from cp2fast.errors import UserError
from cp2fast.finetune.result import RESULT, report
from cp2fast.finetune.start import build_network, resolve, synchronised
from cp2fast.finetune.task import FinetuneTask
from cp2fast.labels.dataset import range_of
from cp2fast.labels.open import open_labelled
from cp2fast.model.backbone import levels
from cp2fast.model.segmenter import check_size
from cp2fast.run_folder import RunFolder
from cp2fast.train.processes import Processes
from cp2fast.train.run import Kind


def build(settings: FinetuneSettings, folder: RunFolder, processes: Processes) -> FinetuneTask:
    """Build the task of these settings, its network with random weights.

    Raises:
        UserError: settings that do not work together, or no images with masks.
    """
    settings = resolve(settings)
    # The demo's images are generated only once.
    root = processes.agreement.of_main(lambda: data_root(settings.data))
    settings = settings.with_values("data", root=root)
    data = open_labelled(settings.data, root, settings.data.workers)
    given = settings.data
    range_, range_line = processes.agreement.of_main(
        lambda: range_of(data, given.range, given.bands)
    )
    settings = settings.with_values("data", range=range_)
    data = replace(data, levels=Levels.of(range_, given.bands))
    _check_batch(settings, len(data.train), processes)
    network = build_network(settings.model, len(data.classes), settings.train.seed)
    if len(levels(network.backbone)) == 1:  # only these lose pixels at the image's border
        check_size(network, str(settings.model.backbone), settings.model.size)
    if settings.train.freeze == "backbone":
        network.freeze_backbone()
    if processes.ranks.world_size > 1 and processes.device.type == "cuda":
        network = synchronised(network)
    return FinetuneTask(settings, folder, processes, data, network, range_line)


def _check_batch(settings: FinetuneSettings, images: int, processes: Processes) -> None:
    """Refuse batches of one with ASPP, which normalises one value per channel and image.

    Only on GPUs do the processes normalise their batches together.
    """
    size, world_size = settings.data.batch_size, processes.ranks.world_size
    fewest = 2 if settings.model.head == "aspp" else 1
    steps_per_epoch(images, size * world_size, fewest)
    if size * (world_size if processes.device.type == "cuda" else 1) < fewest:
        raise UserError(
            "data.batch_size=1 with model.head=aspp: batch normalisation needs at least 2 crops; "
            "use data.batch_size=2"
        )


FINETUNE = Kind(
    name="finetune",
    command="cp2fast finetune-voc",
    fixed=(
        "model.",
        "data.short_side",
        "data.scale_",
        "data.train_split",
        "data.val_split",
        "data.val_fraction",
        "data.val_seed",
        "data.masks",
        "data.classes",
        "data.unknown",
        "data.nearest",
        "data.range",
        "data.bands",
        "data.colours",
        "train.seed",
        "train.optimizer",
        "train.freeze",
        "train.layer_decay",
        "train.ema",
        "train.class_weight",
    ),
    last_file=RESULT,
    build=build,
    report=report,
    resolve=resolve,
)
