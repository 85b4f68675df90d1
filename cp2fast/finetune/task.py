"""Fine-tuning as the engine runs it: crops, cross-entropy, evaluations, pictures."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cp2fast import philox
from cp2fast.config import FinetuneSettings
from cp2fast.cores import decodes_apart
from cp2fast.data.image_sets.digest import digest, file_size
from cp2fast.data.order import steps_per_epoch
from cp2fast.data.prefetch import prefetch
from cp2fast.errors import UserError
from cp2fast.finetune.average import Average
from cp2fast.finetune.boundary import BoundaryScores, boundary_scores
from cp2fast.finetune.confusion import Scores, scores
from cp2fast.finetune.evaluate import evaluate
from cp2fast.finetune.groups import parameter_groups
from cp2fast.finetune.loader import CropBatch, crop_batches
from cp2fast.finetune.loss import balanced_weights, segmentation_loss
from cp2fast.finetune.pictures import CURVES, draw_confusion, draw_crops, draw_predictions
from cp2fast.finetune.start import load_start
from cp2fast.labels.dataset import LabelledData
from cp2fast.labels.survey import shares_in_words, survey
from cp2fast.model.segmenter import Segmenter
from cp2fast.philox import Stream
from cp2fast.run_folder import RunFolder, read_metrics
from cp2fast.train.compile import blank_images, compile_method, uncompiled
from cp2fast.train.curves import draw_curves
from cp2fast.train.distributed import Ranks
from cp2fast.train.learner import learner_of
from cp2fast.train.schedule import polynomial
from cp2fast.train.task import Evaluation, Loaded, samples_per_step

_BATCHES_AHEAD = 2


class Best(NamedTuple):
    """The highest mIoU so far, and the number of evaluations since without a higher one."""

    miou: float = -1.0
    since: int = 0

    def after(self, miou: float) -> Best:
        """The value after one more evaluation."""
        return Best(miou) if miou > self.miou else Best(self.miou, self.since + 1)


@dataclass(frozen=True)
class SegmentationOutput:
    """The network's output for a batch of crops."""

    loss: Tensor


class FinetuneTask:
    """The task of fine-tuning (see ``train.task.Task``), with results for the command.

    Attributes:
        result: scores of the last evaluation.
        boundary: boundary scores of the last evaluation; None if ``evaluation.boundary`` is 0.
    """

    def __init__(
        self,
        settings: FinetuneSettings,
        folder: RunFolder,
        ranks: Ranks,
        data: LabelledData,
        network: Segmenter,
        device: torch.device,
        range_line: str = "",
    ) -> None:
        """Create the task for a network with random weights.

        Args:
            settings: resolved settings.
            folder: the run's folder.
            ranks: ranks of this process.
            data: data to train and evaluate on.
            network: the network; moved to ``device``.
            device: device of this process.
            range_line: line that states the range of values, if it was found.
        """
        train = settings.train
        self.settings = settings
        self.folder = folder
        self.ranks = ranks
        self.data = data
        self.range_line = range_line
        self.images = len(data.train)
        self.samples_per_step = samples_per_step(settings, ranks)
        self.steps_per_epoch = steps_per_epoch(self.images, self.samples_per_step)
        self.total_steps = train.steps
        self.peak_lr = train.lr
        self.evaluate_every: int | None = train.evaluate_every
        self.network = network
        groups = parameter_groups(network, train.layer_decay)
        self.learner = learner_of(network, groups, self._step, train, device)
        self.average = None if train.ema is None else Average(network, train.ema)
        if self.average is not None:
            update = self.average.update
            self.learner.optimizer.register_step_post_hook(lambda *_: update(network))
        self.result: Scores | None = None
        self.boundary: BoundaryScores | None = None
        self._class_weight: list[float] | None = None
        self._best = Best()

    def announcement(self, step: int) -> str:
        """What is trained, and on what."""
        data, model = self.data, self.settings.model
        return (
            f"fine-tuning {model.backbone} with {model.head} on {len(data.train)} images of "
            f"{self.settings.data.root} ({data.train_split}; {len(data.classes)} classes; "
            f"{self.learner.device}): steps {step + 1} to {self.total_steps}; run folder "
            f"{self.folder.path}"
        )

    def initialise(self, say: Callable[[str], None]) -> None:
        """Read all masks once, then load ``model.init``."""
        found = survey(self.data)
        say(f"{self.settings.data.root}: {self.data.said}")
        if self.range_line:
            say(self.range_line)
        for line in [*shares_in_words(found, self.data), *found.warnings]:
            say(line)
        if self.settings.train.class_weight == "auto":
            self._class_weight = balanced_weights(found.train[: len(self.data.classes)].tolist())
        say(load_start(self.network, self.settings.model))
        if self.average is not None:
            self.average.restart(self.network)

    @property
    def judged(self) -> Segmenter:
        """The network that is evaluated: the average if ``train.ema`` is set."""
        return self.network if self.average is None else self.average.network

    def prepare(self, step: int, say: Callable[[str], None], alive: Callable[[], None]) -> None:
        """Compile the network."""
        self.network.train()
        batch_size, size = self.settings.data.batch_size, self.settings.model.size
        images_B3SS = blank_images(batch_size, size, torch.float32, self.learner.device)
        setting = self.settings.train.compile
        compile_method([self.network], "forward", setting, images_B3SS, self.learner.dtype, say)

    def batches(self, start: int, stop: int) -> Generator[Loaded[CropBatch], None, None]:
        """Batches of crops, prepared in advance in a thread."""
        made = crop_batches(
            self.data,
            self.settings,
            range(start, stop),
            self.learner.device,
            self.ranks.rank,
            self.ranks.world_size,
            decodes_apart(self.learner.device),
        )
        return prefetch(made, _BATCHES_AHEAD)

    def learning_rate(self, step: int) -> float:
        """Learning rate, polynomial in the steps."""
        train = self.settings.train
        return polynomial(train.lr, train.lr_end, train.lr_power, step, train.steps)

    def image_name(self, number: int) -> str:
        """The path of the photo."""
        return str(self.data.train[number].image)

    @cached_property
    def digest(self) -> str:
        """Digest of the training photos."""
        photos = [example.image for example in self.data.train]
        names = (photo.name.encode("utf-8", "surrogateescape") for photo in photos)
        return digest(names, len(photos), lambda number: file_size(photos[number]))

    def measure(self, step: int, outputs: Sequence[SegmentationOutput]) -> dict[str, float]:
        """The loss."""
        losses = torch.stack([output.loss.detach() for output in outputs])
        return {"loss": losses.mean().item()}

    def warnings(self, row: Mapping[str, Any]) -> list[str]:
        """No warnings."""
        return []

    def evaluate(self, step: int, alive: Callable[[], None]) -> Evaluation:
        """Compute the scores on the evaluation split."""
        device = self.learner.device
        if self.ranks.world_size > 1:
            for buffer in self.network.buffers():  # On the CPU each process has its own batch
                dist.broadcast(buffer, 0)  # statistics; those of the main one are saved.
            if self.average is not None:
                self.average.take_buffers(self.network)
        with uncompiled():
            judged = evaluate(self.judged, self.data, self.settings, device, self.ranks, alive)
        self._confusion = judged.confusion
        self.result = scores(judged.confusion, self.data.classes)
        found = {
            "miou": self.result.miou,
            "pixel_accuracy": self.result.pixel_accuracy,
            "dice": self.result.dice,
        }
        line = "mIoU {miou:.1%}, pixel accuracy {pixel_accuracy:.1%}, Dice {dice:.1%}"
        if self.settings.evaluation.boundary > 0:
            self.boundary = boundary_scores(judged.boundary, self.data.classes)
            if self.boundary.mean is not None:
                found["boundary_f"] = self.boundary.mean
                line += ", boundary F {boundary_f:.1%}"
        self._best = self._best.after(self.result.miou)
        self._stop_where_nothing_improves(step)
        return Evaluation(scores=found, score=self.result.miou, line=line.format(**found))

    def _stop_where_nothing_improves(self, step: int) -> None:
        """End the run at ``step`` after ``train.patience`` evaluations without improvement."""
        patience = self.settings.train.patience
        if patience is not None and self._best.since >= patience:
            self.total_steps = min(self.total_steps, step)

    def preview(self, batch: CropBatch) -> None:
        """Draw crops and labels."""
        draw_crops(batch, self.network, self.data, self.folder.preview)

    def pictures(self, step: int, complete: bool) -> None:
        """Draw the confusion matrix, predictions and curves."""
        if not complete:
            return
        path, device = self.folder.path, self.learner.device
        draw_confusion(self._confusion, self.data.classes, path / "confusion.png")
        with uncompiled():
            draw_predictions(
                self.judged, self.data, self.settings, device, path / "predictions.png"
            )
        draw_curves(read_metrics(self.folder.metrics), CURVES, self.folder.curves)

    def state_dict(self) -> dict[str, Any]:
        """The network, with the names and colours of its classes."""
        networks = (
            {"model": self.network.state_dict()}
            if self.average is None
            else self.average.state_dict(self.network)
        )
        return networks | {
            "classes": list(self.data.classes),
            "colours": [list(colour) for colour in self.data.colours],
            "class_weight": self._class_weight,
            "patience": list(self._best),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the result of ``state_dict``.

        Raises:
            UserError: the data set now has other classes.
        """
        if state["classes"] != list(self.data.classes):
            raise UserError(
                f"{self.settings.data.root} holds {len(self.data.classes)} classes, but the run in "
                f"{self.folder.path} was started with {len(state['classes'])} or other names: "
                "restore them, or start another run with --out DIR"
            )
        if self.average is None:
            self.network.load_state_dict(state["model"])
        else:
            self.average.load_state_dict(state, self.network)
        self._class_weight = state.get("class_weight")
        self._best = Best(*state.get("patience", ()))
        self._stop_where_nothing_improves(state["step"])

    def _step(
        self, network: nn.Module, batch: CropBatch, step: int, number: int
    ) -> SegmentationOutput:
        if number == 0:
            # Dropout uses torch's own generator; seeding it for each step makes resuming exact.
            words = philox.words(self.settings.train.seed, Stream.DROPOUT, step, self.ranks.rank)
            torch.manual_seed(int(words[0]))
        logits = network(batch.images)
        with torch.autocast(logits.device.type, enabled=False):
            logits = self.network.upsample(logits, batch.labels.shape[1:])
            train = self.settings.train
            loss = segmentation_loss(
                logits,
                batch.labels,
                train.loss_mean,
                self._weights(logits),
                train.dice_weight,
            )
        return SegmentationOutput(loss)

    def _weights(self, logits: Tensor) -> Tensor | None:
        """Class weights of the loss, on the device of the logits."""
        return None if self._class_weight is None else logits.new_tensor(self._class_weight).float()
