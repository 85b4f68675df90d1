"""Pretraining as the engine runs it: pairs, losses, signals, warnings, pictures."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from shlex import quote
from typing import Any

import torch

from cp2fast.batch import CopyPasteBatch
from cp2fast.config import PretrainSettings, ProbeDataSettings
from cp2fast.data.cache.open import Cache
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import skipped_in_words
from cp2fast.data.order import plan, steps_per_epoch
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
from cp2fast.run_folder import RunFolder
from cp2fast.train.batches import Loaded, load_ahead
from cp2fast.train.compile import blank_images, compile_encoders
from cp2fast.train.learner import Learner
from cp2fast.train.precision import autocast
from cp2fast.train.processes import Processes
from cp2fast.train.schedule import cosine_by_epoch, scaled_by_batch
from cp2fast.train.task import Evaluation, samples_per_step
from cp2fast.weights.load import load_weights

_LOGGED = [field.name for field in fields(CP2Output) if field.name != "vectors"]
"""Outputs of the network that are logged under their names."""

_SIGNAL_KEYS = 1024
"""Most keys of the queue used for signals, the newest: eight for each of 128 channels."""


@dataclass
class PretrainTask:
    """The task of pretraining (see ``train.task.Task``), with random weights at first.

    Attributes:
        settings: settings, including ``data.root``.
        folder: the run's folder.
        processes: the run's processes.
        image_set: training images.
        source: source that decodes them.
        cache: cache of decoded pixels.
        learner: learner of these settings.
        range_line: line that states the range of values, if it was found.
    """

    settings: PretrainSettings
    folder: RunFolder
    processes: Processes
    image_set: ImageSet
    source: Choice
    cache: Cache
    learner: Learner[CP2, CopyPasteBatch]
    range_line: str = ""

    def __post_init__(self) -> None:
        """Derive the length of the run and its learning rate."""
        data, model, train = self.settings.data, self.settings.model, self.settings.train
        self.images = len(self.image_set)
        self.samples_per_step = samples_per_step(self.settings, self.processes.ranks)
        self.steps_per_epoch = steps_per_epoch(self.images, self.samples_per_step)
        self.total_steps = train.steps or train.epochs * self.steps_per_epoch
        scaled = train.lr_scaling == "linear"
        self._peak_lr = scaled_by_batch(train.lr, self.samples_per_step) if scaled else train.lr
        self.evaluate_every = None if train.probe is None else train.probe_every
        self.curves = CURVES
        self._health = Health(model.embedding, model.queue, self.total_steps)
        self._watch = Watch(self.settings, self.image_set, self.folder.path)
        self.bad = BadImages(
            self.folder.path,
            data.max_bad_fraction,
            again=f"cp2fast pretrain --resume --out {quote(str(self.folder.path))}",
        )

    @property
    def network(self) -> CP2:
        """The encoders and the queue."""
        return self.learner.network

    def initialise(self) -> None:
        """Load ``model.init`` into both encoders; print how ``train.probe`` is interpreted."""
        probed, init = self.settings.train.probe, self.settings.model.init
        if probed is not None:
            self._say(f"{probed}: {open_labelled(ProbeDataSettings(), probed).said}")
        if init is not None:
            self._say(str(load_weights(self.network.encoder_q, init)))
            self.network.encoder_k.load_state_dict(self.network.encoder_q.state_dict())

    def prepare(self, step: int, alive: Callable[[], None]) -> None:
        """Say what is trained on what, compile, and fill the queue if it should start with keys."""
        data, model, learner = self.settings.data, self.settings.model, self.learner
        for line in self._announcement(step):
            self._say(line)
        size = image_size(self.settings, step, self.total_steps)
        images_B3SS = blank_images(data.batch_size, size, learner.dtype, learner.device)
        compile_encoders(learner, self.settings.train.compile, images_B3SS, self._say)
        if step == 0 and model.queue_start == "keys":
            self._say(f"filling the queue with {model.queue} keys before the first step")
            self._fill_queue(alive)
        if step == 0 and self.processes.is_main:
            self._watch.picture(self.network.encoder_q, step)

    def batches(self, start: int, stop: int) -> Generator[Loaded[CopyPasteBatch], None, None]:
        """Batches of composed pairs."""
        return self._batches(self.settings.train.seed, start, stop)

    def learning_rate(self, step: int) -> float:
        """Half a cosine over the epochs."""
        return cosine_by_epoch(self._peak_lr, step, self.steps_per_epoch, self.total_steps)

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
        return {
            **dict(zip(_LOGGED, means, strict=True)),
            **found,
            "queue_fill": keys_taken / self.settings.model.queue,
            # The row has the mean over the processes: here that is their sum.
            "read_retries": retries() * self.processes.ranks.world_size,
        }

    def warnings(self, row: Mapping[str, Any]) -> list[str]:
        """Warnings about broken training, from the metrics."""
        return self._health.check(Metrics(**row))

    def evaluate(self, step: int, alive: Callable[[], None]) -> Evaluation | None:
        """Run ``train.probe`` in the main process; the others go on and wait for it."""
        if not self.processes.is_main:
            return None
        found = self._watch.probe(self.network.encoder_q, alive)
        if found is None:
            return None
        knn, linear = found.knn.miou, found.linear.miou
        line = f"probes of the frozen features: k-NN {knn:.1%}, linear {linear:.1%}"
        return Evaluation({"probe_knn": knn, "probe_linear": linear}, line)

    def preview(self, batch: CopyPasteBatch) -> None:
        """Draw composed pairs."""
        draw_pairs(batch, self.folder.preview, self.settings.augment)

    def pictures(self, step: int, complete: bool) -> None:
        """Draw the main directions of the dense features."""
        self._watch.picture(self.network.encoder_q, step)

    def state_dict(self) -> dict[str, Any]:
        """Both encoders, the queue, and the counts of bad images."""
        return {"model": self.network.state_dict(), "bad_images": self.bad.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the result of ``state_dict``."""
        self.network.load_state_dict(state["model"])
        self.bad.load_state_dict(state["bad_images"])

    def _say(self, line: str) -> None:
        self.processes.console.print(line)

    def _announcement(self, step: int) -> Iterator[str]:
        """Where the images come from, what is left out, and what is trained."""
        data, source, ranks = self.settings.data, self.source, self.processes.ranks
        yield f"decoding by {source.name} on the {source.decode.upper()}: {source.reason}"
        yield from filter(None, (self.cache.line, self.range_line))
        if skipped := skipped_in_words(self.image_set):
            yield f"{data.root}: {skipped}"
        processes = "" if ranks.world_size == 1 else f"{ranks.world_size} x "
        yield (
            f"pretraining {self.settings.model.backbone} on {self.images} images of "
            f"{data.root} ({processes}{self.learner.device.type}): steps {step + 1} to "
            f"{self.total_steps}, {self.steps_per_epoch} per epoch; run folder {self.folder.path}"
        )

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
        device, ranks = self.learner.device, self.processes.ranks
        independent = data.background == "independent"
        steps = plan(
            seed=seed,
            count=self.images,
            batch_size=data.batch_size * accumulate,
            start=start,
            stop=stop,
            rank=ranks.rank,
            world_size=ranks.world_size,
            independent=independent,
            order=data.order,
            windows=windows(data, self.image_set),
        )
        numbers = split_steps(steps, accumulate, independent)
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
        return load_ahead(composed, device)

    def _fill_queue(self, alive: Callable[[], None]) -> None:
        """Fill the queue with keys, from another order and augmentation than the training's."""
        steps = -(-self.settings.model.queue // self.samples_per_step)
        with closing(self._batches(self.settings.train.seed + 1, 0, steps)) as filling:
            for loaded in filling:
                alive()
                pairs = loaded.ready()
                with autocast(self.learner.dtype, self.learner.device):
                    self.network.take_keys(pairs.key, pairs.key_mask)
