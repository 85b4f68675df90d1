"""Set up a pretraining: its images, their source and cache, the network, and the task of them."""

from __future__ import annotations

from cp2fast.config import SIZE_STEP, PretrainSettings, ProbeDataSettings, fewest_images
from cp2fast.copypaste.backends import fastest_backend
from cp2fast.cores import decoding_workers
from cp2fast.data.cache.open import Cache, Sharing, open_cache
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.image_sets.roots import public_root
from cp2fast.data.order import steps_per_epoch
from cp2fast.data.remote.disk_cache import DiskCache
from cp2fast.data.scenes import data_root
from cp2fast.data.sources.choice import choose_source
from cp2fast.data.survey import find_range
from cp2fast.data.windows import check_window, window_width
from cp2fast.errors import UserError
from cp2fast.labels.open import open_labelled
from cp2fast.pretrain.learner import build_learner
from cp2fast.pretrain.report import report
from cp2fast.pretrain.task import PretrainTask
from cp2fast.run_folder import RunFolder
from cp2fast.train.processes import Processes
from cp2fast.train.run import Kind
from cp2fast.train.task import samples_per_step


def build(settings: PretrainSettings, folder: RunFolder, processes: Processes) -> PretrainTask:
    """Build the task of these settings, its network with random weights.

    Raises:
        UserError: settings that do not work together, no images, or no source that works here.
    """
    if settings.train.probe is not None:  # detects a wrong path now rather than at the first probe
        open_labelled(ProbeDataSettings(), settings.train.probe)
    # The demo's images are generated only once.
    root = processes.agreement.of_main(lambda: data_root(settings.data))
    images = list_images(root, disk=DiskCache.of(settings.data))
    # From here on, and in config.yaml, the root has no passwords or signatures.
    window = window_width(settings.data, images)
    settings = settings.with_values("data", root=public_root(root), window=window)
    check_window(settings.data, images)
    learner = build_learner(settings, processes.device)
    _check_growing_sizes(settings, learner.network.encoder_q.feature_stride)
    fastest_backend(processes.device.type)  # compile or replace it now, not in the first step
    settings, range_line = _with_range(settings, images, processes)
    source = choose_source(settings.data, images, processes.device)
    cache = _open_cache(settings, images, processes)
    return PretrainTask(settings, folder, processes, images, source, cache, learner, range_line)


def _with_range(
    settings: PretrainSettings, images: ImageSet, processes: Processes
) -> tuple[PretrainSettings, str]:
    """The settings with the range of values, found once per run, and a line that states it.

    Raises:
        UserError: most images have several bands and none was chosen, or they lack the chosen ones.
    """
    data = settings.data
    threads = decoding_workers(data.workers)
    range_, line = processes.agreement.of_main(
        lambda: find_range(images, data.range, data.bands, data.max_pixels, threads)
    )
    return settings.with_values("data", range=range_), line


def _open_cache(settings: PretrainSettings, images: ImageSet, processes: Processes) -> Cache:
    train, ranks = settings.train, processes.ranks
    fewest = fewest_images(settings.data)
    per_epoch = steps_per_epoch(len(images), samples_per_step(settings, ranks), fewest)
    decodes = 3 if settings.data.background == "independent" else 1
    epochs = decodes * (train.epochs if train.steps is None else train.steps / per_epoch)
    sharing = Sharing(processes.agreement.gather, ranks.rank, ranks.local_rank)
    return open_cache(settings.data, images, train.seed, processes.device, epochs, sharing)


def _check_growing_sizes(settings: PretrainSettings, stride: int) -> None:
    start = settings.train.resolution
    if start is not None and (start % stride or SIZE_STEP % stride):
        raise UserError(
            f"train.resolution={start} with model.backbone={settings.model.backbone}: its cells of "
            f"{stride} pixels do not divide sizes that grow by {SIZE_STEP}; leave out "
            "train.resolution"
        )


PRETRAIN = Kind(
    name="pretrain",
    command="cp2fast pretrain",
    fixed=(
        "model.",
        "augment.",
        "data.background",
        "data.order",
        "data.window",
        "data.max_side",
        "data.range",
        "data.bands",
        "train.seed",
        "train.optimizer",
    ),
    last_file="curves.png",
    build=build,
    report=report,
)
