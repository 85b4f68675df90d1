"""Pretraining as the engine runs it: pairs, losses, signals, warnings, pictures."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import cached_property
from typing import Any

import torch

from cp2fast.batch import CopyPasteBatch
from cp2fast.config import PretrainSettings, ProbeDataSettings
from cp2fast.data.cache.open import Cache
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import skipped_in_words
from cp2fast.data.order import plan, steps_per_epoch
from cp2fast.data.prefetch import prefetch
from cp2fast.data.remote.retry import retries
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.choice import Choice
from cp2fast.data.sources.open import open_source
from cp2fast.data.windows import windows
from cp2fast.labels.open import open_labelled
from cp2fast.model.cp2 import CP2, CP2Output
from cp2fast.model.signals import signals
from cp2fast.pretrain.batches import compose, image_size, split_steps
from cp2fast.pretrain.health import Health
from cp2fast.pretrain.metrics import Metrics
from cp2fast.pretrain.pictures import CURVES, draw_pairs
from cp2fast.pretrain.watch import Watch
from cp2fast.run_folder import RunFolder, read_metrics
from cp2fast.train.compile import blank_images, compile_encoders
from cp2fast.train.curves import draw_curves
from cp2fast.train.distributed import Ranks
from cp2fast.train.learner import Learner
from cp2fast.train.precision import autocast
from cp2fast.train.schedule import cosine_by_epoch, scaled_by_batch
from cp2fast.train.task import Evaluation, Loaded, samples_per_step
from cp2fast.weights.load import load_weights

_BATCHES_AHEAD = 2
_LOGGED = {
    "loss": "loss",
    "loss_instance": "loss_instance",
    "loss_dense": "loss_dense",
    "accuracy_instance": "accuracy_instance",
    "accuracy_dense": "accuracy_dense",
    "similarity_gap": "similarity_gap",
    "embedding_deviation": "embedding_std",
}
"""Logged outputs of the network, and their names in ``metrics.jsonl``."""

_SIGNAL_KEYS = 1024
"""Most keys of the queue used for signals, the newest: eight for each of 128 channels."""


class PretrainTask:
    """The task of pretraining; see ``train.task.Task``."""

    def __init__(
        self,
        settings: PretrainSettings,
        folder: RunFolder,
        ranks: Ranks,
        image_set: ImageSet,
        source: Choice,
        cache: Cache,
        learner: Learner[CP2, CopyPasteBatch],
        range_line: str = "",
    ) -> None:
        """Create the task for a network with random weights.

        Args:
            settings: settings, including ``data.root``.
            folder: the run's folder.
            ranks: ranks of this process.
            image_set: training images.
            source: source that decodes them.
            cache: cache of decoded pixels.
            learner: learner of these settings.
            range_line: line that states the range of values, if it was found.
        """
        data, train = settings.data, settings.train
        self.settings = settings
        self.folder = folder
        self.ranks = ranks
        self.image_set = image_set
        self.source = source
        self.cache = cache
        self.learner = learner
        self.range_line = range_line
        self.images = len(image_set)
        self._windows = windows(data, image_set)
        self.samples_per_step = samples_per_step(settings, ranks)
        self.steps_per_epoch = steps_per_epoch(self.images, self.samples_per_step)
        self.total_steps = train.steps or train.epochs * self.steps_per_epoch
        scaled = train.lr_scaling == "linear"
        self.peak_lr = scaled_by_batch(train.lr, self.samples_per_step) if scaled else train.lr
        self.evaluate_every = None if train.probe is None else train.probe_every
        self._watch = Watch(settings, image_set, folder.path)
        self.bad = BadImages(
            folder.path,
            data.max_bad_fraction,
            again=f"cp2fast pretrain --resume --out {folder.path}",
        )

    @property
    def network(self) -> CP2:
        """The encoders and the queue."""
        return self.learner.network

    def announcement(self, step: int) -> str:
        """Where the images come from, what is left out, and what is trained."""
        data, ranks = self.settings.data, self.ranks
        skipped = skipped_in_words(self.image_set)
        processes = "" if ranks.world_size == 1 else f"{ranks.world_size} x "
        lines = [
            f"decoding by {self.source.name} on the {self.source.decode.upper()}: "
            f"{self.source.reason}",
            self.cache.line,
            self.range_line,
            "" if skipped is None else f"{data.root}: {skipped}",
            f"pretraining {self.settings.model.backbone} on {self.images} images of "
            f"{data.root} ({processes}{self.learner.device.type}): steps {step + 1} to "
            f"{self.total_steps}, {self.steps_per_epoch} an epoch; run folder {self.folder.path}",
        ]
        return "\n".join(filter(None, lines))

    def initialise(self, say: Callable[[str], None]) -> None:
        """Load ``model.init`` into both encoders; print how ``train.probe`` is interpreted."""
        probed = self.settings.train.probe
        if probed is not None:
            say(f"{probed}: {open_labelled(ProbeDataSettings(), probed).said}")
        if self.settings.model.init is not None:
            say(str(load_weights(self.network.encoder_q, self.settings.model.init)))
            self.network.encoder_k.load_state_dict(self.network.encoder_q.state_dict())

    def prepare(self, step: int, say: Callable[[str], None], alive: Callable[[], None]) -> None:
        """Compile the encoders, and fill the queue if it should start with keys."""
        data, model, learner = self.settings.data, self.settings.model, self.learner
        size = image_size(self.settings, step, self.total_steps)
        images_B3SS = blank_images(data.batch_size, size, learner.dtype, learner.device)
        compile_encoders(self.network, self.settings.train.compile, images_B3SS, learner.dtype, say)
        if step == 0 and model.queue_start == "keys":
            self._fill_queue(alive)
        self._health = Health(model.embedding, model.queue, self.total_steps)
        if step == 0 and self.ranks.is_main:
            self._watch.picture(self.network.encoder_q, step)

    def batches(self, start: int, stop: int) -> Generator[Loaded[CopyPasteBatch], None, None]:
        """Batches of composed pairs, prepared in advance in a thread."""
        return self._batches(self.settings.train.seed, start, stop)

    def learning_rate(self, step: int) -> float:
        """Learning rate, half a cosine over the epochs."""
        return cosine_by_epoch(self.peak_lr, step, self.steps_per_epoch, self.total_steps)

    def image_name(self, number: int) -> str:
        """The path of the image."""
        return self.image_set.name(number)

    @cached_property
    def digest(self) -> str:
        """Digest of the images' names and sizes."""
        return self.image_set.digest(self.settings.data.root)

    def measure(self, step: int, outputs: Sequence[CP2Output]) -> dict[str, float]:
        """What ``Metrics`` has besides the pace: losses, accuracies, signals of the last batch."""
        keys_taken = self._keys_taken(step)
        keys_NC = self.network.newest_keys(min(keys_taken, _SIGNAL_KEYS))
        found = asdict(signals(keys_NC, outputs[-1].vectors))
        values = torch.stack(
            [torch.stack([getattr(output, name) for name in _LOGGED]) for output in outputs]
        )
        means = values.detach().mean(dim=0).tolist()
        return (
            dict(zip(_LOGGED.values(), means, strict=True))
            | found
            | {
                "queue_fill": keys_taken / self.settings.model.queue,
                "read_retries": retries()
                * self.ranks.world_size,  # the mean over them is their sum
            }
        )

    def warnings(self, row: Mapping[str, Any]) -> list[str]:
        """Warnings about broken training, from the metrics."""
        return self._health.check(Metrics(**row))

    def evaluate(self, step: int, alive: Callable[[], None]) -> Evaluation | None:
        """Run ``train.probe`` in the main process; the others go on and wait for it."""
        if not self.ranks.is_main:
            return None
        found = self._watch.probe(self.network.encoder_q, alive)
        if found is None:
            return None
        line = f"probes of the frozen features: k-NN {found.knn:.1%}, linear {found.linear:.1%}"
        return Evaluation({"probe_knn": found.knn, "probe_linear": found.linear}, None, line)

    def preview(self, batch: CopyPasteBatch) -> None:
        """Draw composed pairs."""
        draw_pairs(batch, self.folder.preview, self.settings.augment)

    def pictures(self, step: int, complete: bool) -> None:
        """Draw the main directions of the dense features; at the end also the curves."""
        self._watch.picture(self.network.encoder_q, step)
        if complete:
            draw_curves(read_metrics(self.folder.metrics), CURVES, self.folder.curves)

    def state_dict(self) -> dict[str, Any]:
        """Both encoders, the queue, and the counts of bad images."""
        return {"model": self.network.state_dict(), "bad_images": self.bad.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the result of ``state_dict``."""
        self.network.load_state_dict(state["model"])
        self.bad.load_state_dict(state["bad_images"])

    def _keys_taken(self, step: int) -> int:
        """How many vectors of the queue are keys rather than initial random vectors."""
        model = self.settings.model
        if model.queue_start == "keys":
            return model.queue
        return min(step * self.samples_per_step, model.queue)

    def _batches(
        self, seed: int, start: int, stop: int
    ) -> Generator[Loaded[CopyPasteBatch], None, None]:
        data, accumulate = self.settings.data, self.settings.train.gradient_accumulation_steps
        independent = data.background == "independent"
        steps = plan(
            seed=seed,
            count=self.images,
            batch_size=data.batch_size * accumulate,
            start=start,
            stop=stop,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            independent=independent,
            order=data.order,
            windows=self._windows,
        )
        numbers = split_steps(steps, accumulate, independent)
        device = self.learner.device
        decoded = open_source(
            self.source, data, self.image_set, numbers, seed, device, self.bad, self.cache.arena
        )
        composed = compose(
            decoded,
            self.settings,
            seed=seed,
            start=start,
            steps_per_epoch=self.steps_per_epoch,
            total_steps=self.total_steps,
            device=device,
            dtype=self.learner.dtype,
        )
        return prefetch(composed, _BATCHES_AHEAD)

    def _fill_queue(self, alive: Callable[[], None]) -> None:
        """Fill the queue with keys, from another order and augmentation than the training's."""
        steps = -(-self.settings.model.queue // self.samples_per_step)
        with closing(self._batches(self.settings.train.seed + 1, 0, steps)) as filling:
            for loaded in filling:
                alive()
                pairs = loaded.ready()
                with autocast(self.learner.dtype, self.learner.device):
                    self.network.take_keys(pairs.key, pairs.key_mask)
