"""Typed settings: YAML recipes, ``KEY=VALUE`` overrides, and errors that name the key and the fix.

Every setting is declared here once, with its type, default, bounds and one line of help; the
command line's ``--help``, the run folder's ``config.yaml`` and the error messages follow from it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from cp2fast.errors import UserError


class Section(BaseModel):
    """A group of settings; unknown keys are refused, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switches(cls, value: object) -> object:
        """YAML reads yes, no, on and off as booleans, which Python would take for 1 and 0."""
        if isinstance(value, bool):
            raise ValueError("input should not be yes, no, true or false")
        return value


class DataSettings(Section):
    """Where the images come from and how they become a batch."""

    root: Path | None = Field(None, description="folder of images; no labels needed")
    scenes: int = Field(
        0, ge=0, description="with no data.root: generate this many scenes in ./demo-data"
    )
    source: Literal["auto", "dali", "ffcv", "torch"] = Field(
        "auto", description="decoder and loader; auto takes the fastest that works here"
    )
    decode: Literal["auto", "cpu", "gpu"] = Field(
        "auto", description="where DALI decodes JPEG; auto is the CPU"
    )
    background: Literal["batch", "independent"] = Field(
        "batch",
        description="from the same batch (one decode a sample) or two more images (three decodes)",
    )
    batch_size: PositiveInt = Field(256, description="samples a step and process")
    workers: int = Field(2, ge=0, description="decoding threads (dali) or processes (torch)")
    max_pixels: PositiveInt = Field(
        100_000_000, description="an image of more pixels is refused as a bad file"
    )
    max_bad_fraction: float = Field(
        0.01, ge=0, le=1, description="stop when more than this share of at least 100 images is bad"
    )


class ModelSettings(Section):
    """The segmentation network and the contrast that trains it (paper, sections 3 and 4.1)."""

    backbone: str = Field("resnet50", description="timm ResNet or ViT")
    head: Literal["aspp", "fcn"] = Field("aspp", description="segmentation head")
    head_channels: PositiveInt = Field(512, description="channels inside the head")
    size: PositiveInt = Field(224, description="side of the composed images, pixels")
    embedding: PositiveInt = Field(128, description="channels of the dense embedding")
    queue: PositiveInt = Field(65_536, description="negative keys kept for the instance loss")
    queue_start: Literal["random", "keys"] = Field(
        "random",
        description="what the queue holds before step 1: random vectors, as the paper, or keys",
    )
    momentum: float = Field(0.999, ge=0, lt=1, description="of the key encoder's moving average")
    temperature: PositiveFloat = Field(0.2, description="of the instance loss")
    dense_weight: float = Field(0.2, ge=0, description="weight of the dense loss")
    dense_axis: Literal["query", "key"] = Field(
        "query", description="positions that the dense loss normalises over"
    )
    init: Path | None = Field(
        None, description="weights to start from: run folder, checkpoint or state dict"
    )


class TrainSettings(Section):
    """The optimisation and the run."""

    epochs: PositiveInt = Field(200, description="passes over the images")
    steps: PositiveInt | None = Field(None, description="total steps; overrides train.epochs")
    seed: int = Field(0, ge=0, description="of the weights, the order and the augmentation")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto is the GPU if any")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="optimiser")
    lr: PositiveFloat = Field(0.015, description="peak learning rate; the paper's is for batch 256")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(1e-4, ge=0, description="of every trained parameter")
    log_every: PositiveInt = Field(10, description="steps between two logged ones")
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="minutes between checkpoints; each epoch also ends with one"
    )
    checkpoint_keep: PositiveInt = Field(2, description="checkpoints kept")


class PretrainSettings(Section):
    """All settings of ``cp2fast pretrain``."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()


Settings = TypeVar("Settings", bound=Section)

MIN_IMAGES_FOR_BATCH_BACKGROUNDS = 3
"""A foreground and two different backgrounds."""


class Setting(NamedTuple):
    """One line of the documentation of the settings."""

    key: str
    values: str
    default: str
    help: str


def describe(kind: type[Section], prefix: str = "") -> Iterator[Setting]:
    """Every setting of ``kind``, in order, with what it takes and its default."""
    for name, field in kind.model_fields.items():
        section = _section_type(field.annotation)
        if section is not None:
            yield from describe(section, f"{prefix}{name}.")
        else:
            yield Setting(
                f"{prefix}{name}",
                _values(field.annotation),
                "none" if field.default is None else str(field.default),
                field.description or "",
            )


def recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    folder = _recipe_folder()
    return sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))


def load(kind: type[Settings], recipe: str | None, overrides: Sequence[str]) -> Settings:
    """The settings of a recipe, with overrides.

    Args:
        kind: which settings.
        recipe: a recipe's name, or the path of a YAML file; None is the defaults.
        overrides: ``KEY=VALUE``; the value is read as YAML.

    Raises:
        UserError: a recipe that is not there, an unknown key, a value of the wrong type or out of
            bounds, or a combination that cannot work.
    """
    tree = {} if recipe is None else _read_yaml(_recipe_path(recipe))
    for override in overrides:
        _set(tree, kind, override)
    return _build(kind, tree)


def to_yaml(settings: BaseModel) -> str:
    """The settings as a YAML file that ``load`` reads back."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def differences(old: BaseModel, new: BaseModel) -> list[tuple[str, Any, Any]]:
    """The settings in which two objects of one kind differ: (key, old value, new value)."""
    before, after = dict(_leaves(old.model_dump())), dict(_leaves(new.model_dump()))
    return [(key, before[key], after[key]) for key in after if before[key] != after[key]]


def check_pretrain(settings: PretrainSettings) -> None:
    """Refuse combinations that cannot work, naming the key to change.

    Raises:
        UserError: the first such combination.
    """
    data, train = settings.data, settings.train
    if data.root is None and data.scenes == 0:
        raise UserError("data.root is not set: name your folder of images with data.root=DIR")
    if data.background == "batch" and data.batch_size < MIN_IMAGES_FOR_BATCH_BACKGROUNDS:
        raise UserError(
            f"data.batch_size={data.batch_size} with data.background=batch: a sample needs two "
            "other images of its batch; use data.batch_size=3 or more, or "
            "data.background=independent"
        )
    if data.batch_size == 1:
        raise UserError(
            "data.batch_size=1: batch normalisation needs at least 2 samples; use data.batch_size=2"
        )
    if data.decode == "gpu" and train.device == "cpu":
        raise UserError(
            "data.decode=gpu with train.device=cpu: use data.decode=cpu, or train.device=cuda"
        )
    if data.decode == "gpu" and data.source == "torch":
        raise UserError(
            "data.decode=gpu with data.source=torch: only DALI decodes on the GPU; use "
            "data.source=dali, or data.decode=cpu"
        )


def _recipe_folder() -> Path:
    packaged = Path(__file__).with_name("configs")
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "configs"


def _recipe_path(recipe: str) -> Path:
    named = _recipe_folder() / f"{recipe}.yaml"
    if named.is_file():
        return named
    path = Path(recipe).expanduser()
    if path.is_file():
        return path
    nearest = _nearest(recipe, recipes())
    raise UserError(
        f"no recipe or file '{recipe}'; the nearest recipe is '{nearest}' "
        f"(there are {', '.join(recipes())})"
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold sections such as 'data:' and 'train:'")
    return tree


def _set(tree: dict[str, Any], kind: type[Section], override: str) -> None:
    """Put one ``KEY=VALUE`` into the tree."""
    key, equals, text = override.partition("=")
    known = [setting.key for setting in describe(kind)]
    if not equals:
        raise UserError(f"'{override}' is not KEY=VALUE, as in {_nearest(key, known)}=...")
    if key not in known:
        raise UserError(_unknown(key, text, known))
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{override}: the value cannot be read as YAML; quote it") from error
    *sections, name = key.split(".")
    for section in sections:
        child = tree.setdefault(section, {})
        if not isinstance(child, dict):
            raise UserError(f"'{section}' in the recipe must be a section, not {child!r}")
        tree = child
    tree[name] = value


def _build(kind: type[Settings], tree: Mapping[str, Any]) -> Settings:
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    known = [setting.key for setting in describe(kind)]
    if first["type"] == "extra_forbidden":
        raise UserError(_unknown(key, first["input"], known))
    wanted = first["msg"].removeprefix("Value error, ")
    wanted = wanted[0].lower() + wanted[1:]
    if key not in known:
        raise UserError(f"{key}={first['input']}: {wanted}")
    setting = next(setting for setting in describe(kind) if setting.key == key)
    raise UserError(
        f"{key}={first['input']}: {wanted} ({setting.help}; takes {setting.values}, "
        f"default {setting.default})"
    )


def _unknown(key: str, value: object, known: Sequence[str]) -> str:
    return f"unknown setting {key}={value}: the nearest is {_nearest(key, known)}"


def _nearest(name: str, known: Sequence[str]) -> str:
    """The known name most like ``name``; a key's last part counts when its section is missing."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return close[0]
    last_parts = {key.rpartition(".")[2]: key for key in reversed(known)}
    close = difflib.get_close_matches(name.rpartition(".")[2], last_parts, n=1, cutoff=0.0)
    return last_parts[close[0]] if close else ""


def _section_type(annotation: Any) -> type[Section] | None:
    is_section = isinstance(annotation, type) and issubclass(annotation, Section)
    return annotation if is_section else None


def _values(annotation: Any) -> str:
    """What a setting takes, in words."""
    text = str(getattr(annotation, "__name__", annotation))
    if "Literal" in str(annotation):
        return "|".join(str(value) for value in annotation.__args__)
    names = {"int": "whole number", "float": "number", "str": "text", "Path": "path"}
    return next((word for name, word in names.items() if name in str(annotation)), text)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
