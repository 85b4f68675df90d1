"""The model card of a weight file: its content, its origin and how to load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cp2fast import __version__
from cp2fast.config import IMAGENET_MEAN, IMAGENET_STD
from cp2fast.console import printable
from cp2fast.model.segmenter import Segmenter
from cp2fast.run_folder import RunFolder, means_of_end_tenths, read_metrics
from cp2fast.weights.export.exported import Exported
from cp2fast.weights.trained import Trained


def model_card(trained: Trained, exported: Exported, file: str, difference: float) -> str:
    """The card in Markdown; its Python code runs unchanged in the folder of ``file``."""
    method = "fine-tuned on labels" if trained.is_finetuned else "pretrained without labels by CP2"
    model = trained.model
    lines = [
        f"# {printable(file)}",
        "",
        f"Weights of {exported.holds} of a {model.backbone} with an {model.head.upper()} head, "
        f"{method}, written by cp2fast {__version__}.",
        "",
        "## How to load it",
        "",
        "```python",
        exported.usage.rstrip(),
        "```",
        "",
        "Images are RGB, scaled to 0 to 1, then normalised with "
        f"{_normalisation(trained.network)}.{_values(trained)}",
        "",
        *([*map(printable, exported.notes), ""] if exported.notes else []),
        f"Before it was put in place, the file was loaded by {exported.library} and its outputs "
        f"on random images compared with the trained network's: they differ by {difference:.1e} "
        "of the largest output at most.",
        "",
        "## Training",
        "",
        *_training(trained),
        "",
        "## Settings",
        "",
        "```yaml",
        yaml.safe_dump(trained.facts["settings"], sort_keys=False).rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _normalisation(network: Segmenter) -> str:
    whose = "ImageNet's " if network.mean == IMAGENET_MEAN and network.std == IMAGENET_STD else ""
    return f"{whose}mean {list(network.mean)} and standard deviation {list(network.std)}"


def _values(trained: Trained) -> str:
    """How images of more than 8 bits or three bands became RGB, if there were any."""
    range_, bands = trained.values
    said = "" if bands is None else f" Red, green and blue are the bands {list(bands)}, from 1."
    if not isinstance(range_, str):
        low, high = range_
        said += f" Values of more than 8 bits: {low:.10g} became 0, and {high:.10g} 1."
    return said


def _training(trained: Trained) -> list[str]:
    """A table of what is known of the training; without its run a checkpoint has no metrics."""
    facts, settings = trained.facts, trained.facts["settings"]
    rows: dict[str, Any] = {
        "recipe": "the settings below, as a YAML file for "
        + ("cp2fast finetune-voc" if trained.is_finetuned else "cp2fast pretrain"),
        "data": settings.get("data", {}).get("root"),
        "images": facts.get("images"),
        "batch size": settings.get("data", {}).get("batch_size"),
        "steps": facts.get("step"),
        "seed": settings.get("train", {}).get("seed"),
        "started from": settings.get("model", {}).get("init"),
        "classes": ", ".join(trained.network.classes),
        "versions": ", ".join(f"{k} {v}" for k, v in facts.get("versions", {}).items()),
        **_measured(trained),
    }
    known = {name: value for name, value in rows.items() if value not in (None, "")}
    return ["| | |", "|---|---|", *(f"| {name} | {_cell(v)} |" for name, v in known.items())]


def _cell(value: object) -> str:
    """A value, which may hold the name of a file or a class, as a cell of a table."""
    return printable(str(value)).replace("|", r"\|")


def _measured(trained: Trained) -> dict[str, str]:
    """The losses at the beginning and end of the run, and the scores of exactly these weights."""
    if trained.run_folder is None:
        return {}
    rows = read_metrics(RunFolder(trained.run_folder).metrics)
    step = trained.facts.get("step") or 0
    # A logged row may belong to an evaluation, which has no loss.
    logged = [row for row in rows if row.get("loss") is not None and row["step"] <= step]
    names = [name for name in (logged[0] if logged else {}) if name.startswith("loss")]
    measured = {name.replace("_", " "): _course([row[name] for row in logged]) for name in names}
    for row in rows:
        if row["step"] == step:
            measured |= {
                name.replace("_", " "): f"{row[name]:.4f}"
                for name in ("miou", "pixel_accuracy")
                if isinstance(row.get(name), float)
            }
    return measured


def _course(values: list[float]) -> str:
    """A logged value at the beginning and the end."""
    if len(values) == 1:
        return f"{values[0]:.4f}, logged once"
    first, last = means_of_end_tenths(values)
    return f"{first:.4f} in the first tenth of the run, {last:.4f} in the last"


def card_path(out: Path) -> Path:
    """Path of the card, beside ``out``."""
    return out.with_name(f"{out.name}.md")
