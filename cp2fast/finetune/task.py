"""Fine-tuning as the engine runs it: crops, cross-entropy, evaluations, pictures."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cp2fast import philox
from cp2fast.config import FinetuneSettings
from cp2fast.cores import decodes_apart
from cp2fast.data.image_sets.digest import digest, file_size
from cp2fast.data.order import steps_per_epoch
from cp2fast.errors import UserError
from cp2fast.finetune.average import Average
from cp2fast.finetune.evaluate import Scores, evaluate
from cp2fast.finetune.loader import CropBatch, crop_batches
from cp2fast.finetune.loss import balanced_weights, segmentation_loss
from cp2fast.finetune.pictures import CURVES, draw_confusion, draw_crops, draw_predictions
from cp2fast.finetune.result import RESULT
from cp2fast.finetune.start import load_start, parameter_groups
from cp2fast.labels.dataset import LabelledData
from cp2fast.labels.painted import Annotations
from cp2fast.labels.survey import shares_in_words, survey
from cp2fast.model.segmenter import Segmenter
from cp2fast.philox import Stream
from cp2fast.run_folder import RunFolder, write_json
from cp2fast.train.batches import Loaded, load_ahead
from cp2fast.train.compile import blank_images, compile_method, uncompiled
from cp2fast.train.learner import Learner, mean_loss
from cp2fast.train.processes import Processes
from cp2fast.train.schedule import polynomial
from cp2fast.train.task import Evaluation, samples_per_step


class Best(NamedTuple):
    """The highest mIoU so far; below 0 before the first evaluation."""

    miou: float = -1.0
    step: int = 0
    """The last step at which it was reached."""
    since: int = 0
    """Evaluations since it was first reached."""

    def after(self, miou: float, step: int) -> Best:
        """The value after one more evaluation."""
        if miou > self.miou:
            return Best(miou, step)
        return Best(self.miou, step if miou == self.miou else self.step, self.since + 1)


class SegmentationOutput(NamedTuple):
    """The loss of a batch of crops."""

    loss: Tensor


@dataclass
class FinetuneTask:
    """The task of fine-tuning (see ``train.task.Task``), with random weights at first.

    Attributes:
        settings: resolved settings.
        network: the network; moved to this process's device.
        range_line: line that states the range of values, if it was found.
        result: scores of the last evaluation.
    """

    settings: FinetuneSettings
    folder: RunFolder
    processes: Processes
    data: LabelledData
    network: Segmenter
    range_line: str = ""

    def __post_init__(self) -> None:
        """Derive the length of the run, and set up what trains the network."""
        train, network = self.settings.train, self.network
        self.images = len(self.data.train)
        self.samples_per_step = samples_per_step(self.settings, self.processes.ranks)
        self.steps_per_epoch = steps_per_epoch(self.images, self.samples_per_step)
        self.total_steps = train.steps
        self.evaluate_every: int | None = train.evaluate_every
        self.curves = CURVES
        groups = parameter_groups(network, train.layer_decay)
        self.learner = Learner(network, groups, self._forward, train, self.processes.device)
        self.average = Average(network, train.ema)
        self.learner.optimizer.register_step_post_hook(lambda *_: self.average.update())
        self.result: Scores | None = None
        self._class_weight_K: Tensor | None = None
        self._best = Best()

    def initialise(self) -> None:
        """Load ``model.init``, then read all masks once."""
        start = load_start(self.network, self.settings.model)
        found, say = survey(self.data), self.processes.console.print
        say(f"{self.settings.data.root}: {self.data.said}")
        if self.range_line:
            say(self.range_line)
        for line in [*shares_in_words(found, self.data), *found.warnings]:
            say(line)
        if self.settings.train.class_weight == "auto":
            weights = balanced_weights(found.train[: len(self.data.classes)].tolist())
            self._class_weight_K = torch.tensor(weights, device=self.learner.device)
        say(start)
        self.average.restart()

    def prepare(self, step: int, alive: Callable[[], None]) -> None:
        """Say what is trained on what, and compile the network."""
        data, model, device = self.data, self.settings.model, self.learner.device
        say = self.processes.console.print
        say(
            f"fine-tuning {model.backbone} with {model.head} on {self.images} images of "
            f"{self.settings.data.root} ({data.train_split}; {len(data.classes)} classes; "
            f"{device}): steps {step + 1} to {self.total_steps}; run folder {self.folder.path}"
        )
        self.network.train()
        images_B3SS = blank_images(self.settings.data.batch_size, model.size, torch.float32, device)
        setting = self.settings.train.compile
        compile_method([self.network], "forward", setting, images_B3SS, self.learner.dtype, say)

    def batches(self, start: int, stop: int) -> Generator[Loaded[CropBatch], None, None]:
        """Batches of crops."""
        device, ranks = self.learner.device, self.processes.ranks
        steps, apart = range(start, stop), decodes_apart(device)
        crops = crop_batches(self.data, self.settings, steps, device, ranks, apart)
        return load_ahead(crops, device)

    def learning_rate(self, step: int) -> float:
        """Polynomial in the steps."""
        train = self.settings.train
        return polynomial(train.lr, train.lr_end, train.lr_power, step, train.steps)

    def image_name(self, number: int) -> str:
        """The path of the photo."""
        return str(self.data.train[number].image)

    @cached_property
    def digest(self) -> str:
        """Digest of the training photos."""
        return _digest([example.image for example in self.data.train])

    @cached_property
    def _labels_digest(self) -> str:
        """Digest of what ``digest`` leaves out: the photos to evaluate on, and the masks' files."""
        train, val = self.data.train, self.data.val
        masks = (example.mask for example in [*train, *val])
        files = (mask.file if isinstance(mask, Annotations) else mask for mask in masks)
        return _digest([*(example.image for example in val), *dict.fromkeys(files)])

    def measure(self, step: int, outputs: Sequence[SegmentationOutput]) -> dict[str, float]:
        """The loss."""
        return {"loss": mean_loss(outputs).item()}

    def warnings(self, row: Mapping[str, Any]) -> Sequence[str]:
        """No warnings."""
        return ()

    def evaluate(self, step: int, alive: Callable[[], None]) -> Evaluation:
        """Compute the scores on the evaluation split."""
        if self.processes.ranks.world_size > 1:
            for buffer in self.network.buffers():  # On the CPU each process has its own batch
                dist.broadcast(buffer, 0)  # statistics; those of the main one are saved.
            self.average.take_buffers()
        with uncompiled():
            self._confusion, result = evaluate(
                self.average.network, self.data, self.settings, self.processes, alive
            )
        self.result = result
        found = {"miou": result.miou, "pixel_accuracy": result.pixel_accuracy, "dice": result.dice}
        line = "mIoU {miou:.1%}, pixel accuracy {pixel_accuracy:.1%}, Dice {dice:.1%}"
        if result.boundary_f is not None:
            found["boundary_f"] = result.boundary_f
            line += ", boundary F {boundary_f:.1%}"
        self._best = self._best.after(result.miou, step)
        self._stop_where_nothing_improves(step)
        return Evaluation(found, line.format(**found), is_best=self._best.step == step)

    def preview(self, batch: CropBatch) -> None:
        """Draw crops and labels."""
        draw_crops(batch, self.network, self.data, self.folder.preview)

    def pictures(self, step: int, complete: bool) -> None:
        """At the end, draw the confusion matrix and predictions, and write ``result.json``."""
        if not complete or self.result is None:
            return
        path, data, settings = self.folder.path, self.data, self.settings
        draw_confusion(self._confusion, data.classes, path / "confusion.png")
        with uncompiled():
            device = self.learner.device
            draw_predictions(self.average.network, data, settings, device, path / "predictions.png")
        content = asdict(self.result) | {
            "best": {"miou": self._best.miou, "step": self._best.step},
            "images": len(data.val),
            "step": step,
            "settings": settings.model_dump(mode="json"),
        }
        write_json(path / RESULT, content)

    def state_dict(self) -> dict[str, Any]:
        """The network with the names and colours of its classes, and the best mIoU."""
        miou, step, since = self._best
        return self.average.state_dict() | {
            "classes": list(self.data.classes),
            "colours": [list(colour) for colour in self.data.colours],
            "labels_digest": self._labels_digest,
            "class_weight": self._class_weight_K,
            "best": [miou, step] if step else None,
            "patience": [miou, since],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the result of ``state_dict``.

        Raises:
            UserError: the data set now has other classes, masks or photos to evaluate on.
        """
        if state["classes"] != list(self.data.classes):
            raise UserError(
                f"{self.settings.data.root} holds {len(self.data.classes)} classes, but the run in "
                f"{self.folder.path} was started with {len(state['classes'])} or other names: "
                "restore them, or start another run with --out DIR"
            )
        if state.get("labels_digest", self._labels_digest) != self._labels_digest:
            raise UserError(
                f"{self.settings.data.root} holds other masks, or other images to evaluate on, "
                f"than those that the run in {self.folder.path} was started with, by their names "
                "and sizes: restore them, or start another run with --out DIR"
            )
        self.average.load_state_dict(state)
        weights = state.get("class_weight")
        if weights is not None:  # a list in runs of earlier versions
            self._class_weight_K = torch.as_tensor(weights, device=self.learner.device)
        if state.get("best"):
            (miou, best_step), (_, since) = state["best"], state.get("patience", (0, 0))
            self._best = Best(miou, best_step, since)
        self._stop_where_nothing_improves(state["step"])

    def _stop_where_nothing_improves(self, step: int) -> None:
        """End the run at ``step`` after ``train.patience`` evaluations without improvement."""
        patience = self.settings.train.patience
        if patience is not None and self._best.since >= patience:
            self.total_steps = min(self.total_steps, step)

    def _forward(
        self, network: nn.Module, batch: CropBatch, step: int, number: int
    ) -> SegmentationOutput:
        train = self.settings.train
        if number == 0:
            # Dropout uses torch's own generator; seeding it for each step makes resuming exact.
            words = philox.words(train.seed, Stream.DROPOUT, step, self.processes.ranks.rank)
            torch.manual_seed(int(words[0]))
        logits = network(batch.images)
        with torch.autocast(logits.device.type, enabled=False):
            logits = self.network.upsample(logits, batch.labels.shape[1:])
            loss = segmentation_loss(
                logits, batch.labels, train.loss_mean, self._class_weight_K, train.dice_weight
            )
        return SegmentationOutput(loss)


def _digest(files: Sequence[Path]) -> str:
    names = (file.name.encode("utf-8", "surrogateescape") for file in files)
    return digest(names, len(files), lambda number: file_size(files[number]))
