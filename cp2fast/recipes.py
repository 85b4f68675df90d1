"""Recipes: settings from YAML files and ``KEY=VALUE``; errors name the key and the fix.

Values are YAML, except for paths and other text, which are taken literally: ``data.root=2012`` and
``data.root=photos #1`` are folders of that name.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cp2fast.config import Section
from cp2fast.errors import UserError
from cp2fast.files import is_file, path_of, place_of, read_text
from cp2fast.run_folder import NOT_YAML, RunFolder
from cp2fast.wording import complaint, describe, renamed_settings, text_settings

Settings = TypeVar("Settings", bound=Section)
Overrides: TypeAlias = Mapping[str, object] | Sequence[str]
"""Settings by key, such as ``{"data.root": "photos"}``, or a list of ``KEY=VALUE``."""

_LOG = logging.getLogger("cp2fast")
_NULL, _TEXT = "tag:yaml.org,2002:null", "tag:yaml.org,2002:str"


class _Loader(yaml.SafeLoader):
    """Reads yes, no, true and off as text, such as names of classes: no setting is a boolean."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        letter: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:bool"]
        for letter, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def names(kind: type[Section]) -> list[str]:
    """The names of the built-in recipes of this kind."""
    found = folder(kind).glob("*.yaml")
    return sorted((Path(kind.recipes) / path.stem).as_posix() for path in found)


def folder(kind: type[Section]) -> Path:
    """The folder of the built-in recipes of this kind."""
    return _recipe_folder() / kind.recipes


def listed(overrides: Overrides) -> Overrides:
    """The overrides, as a list where they are an iterator, which could be read only once."""
    return overrides if isinstance(overrides, str | Mapping) else list(overrides)


def load(
    kind: type[Settings],
    recipe: Settings | str | Path | None,
    overrides: Overrides = (),
) -> Settings:
    """The settings of a recipe, with overrides.

    Args:
        kind: class of the settings.
        recipe: a recipe's name, or the path of a YAML file; None is the defaults. A settings object
            is used as it is.
        overrides: values by key, or a list of ``KEY=VALUE``, where the value is YAML and text is
            taken literally.

    Raises:
        UserError: no such recipe, an unknown key, a value of the wrong type or out of bounds, or an
            invalid combination.
    """
    overrides = listed(overrides)
    if isinstance(overrides, str) or not all(isinstance(word, str) for word in overrides):
        raise UserError(
            f"overrides={overrides!r}: write {{'data.root': 'photos'}} or ['data.root=photos']"
        )
    if isinstance(recipe, Section):
        tree = recipe.model_dump()
    else:
        tree = {} if recipe is None else _read_yaml(_recipe_path(kind, str(recipe)), kind)
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            _put(tree, kind, _current(kind, key), value)
    else:
        for override in overrides:
            _set(tree, kind, override)
    return _build(kind, tree)


def stored_beside(weights: Path) -> str | None:
    """The settings file that a pretraining left beside its weights; None if there is none.

    Args:
        weights: a run folder, or a checkpoint in it.

    Raises:
        UserError: they are of a fine-tuning, which has other settings.
    """
    run = weights
    if place_of(weights) != "folder":
        folder = weights.absolute().parent
        if folder.name != "checkpoints":
            return None
        run = folder.parent
    found = RunFolder(run)
    if found.kind == "finetune":
        raise UserError(
            f"{weights} was fine-tuned, which leaves the embedding untrained: name a run of "
            "cp2fast pretrain"
        )
    return str(found.config) if is_file(found.config) else None


def to_yaml(settings: BaseModel) -> str:
    """The settings as YAML that ``load`` reads back."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def differences(old: BaseModel, new: BaseModel) -> list[tuple[str, Any, Any]]:
    """The settings that differ between two objects of one class: (key, old value, new value)."""
    before, after = dict(_leaves(old.model_dump())), dict(_leaves(new.model_dump()))
    keys = dict.fromkeys([*after, *before])  # a mapping that is a value may hold other keys
    both = ((key, before.get(key), after.get(key)) for key in keys)
    return [(key, one, other) for key, one, other in both if one != other]


def _recipe_folder() -> Path:
    packaged = Path(__file__).with_name("configs")
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "configs"


def _recipe_path(kind: type[Section], recipe: str) -> Path:
    for named in (folder(kind) / f"{recipe}.yaml", _recipe_folder() / f"{recipe}.yaml"):
        if is_file(named):
            return named
    path = path_of(recipe)
    if is_file(path):
        return path
    known = names(kind)
    raise UserError(
        f"no recipe or file '{recipe}'; the nearest recipe is '{_nearest(recipe, known)}' "
        f"(there are {', '.join(known)})"
    )


def _read_yaml(path: Path, kind: type[Section]) -> dict[str, Any]:
    try:
        root = yaml.compose(read_text(path), _Loader)
        if root is None:
            return {}
        if not isinstance(root, yaml.MappingNode):
            raise UserError(f"{path} must hold sections such as 'data:' and 'train:'")
        if found := _duplicate(root):
            name, first, second = found
            raise UserError(f"{path} has {name} twice, in the lines {first} and {second}: keep one")
        _take_literally(root, text_settings(kind))
        return _with_current_names(kind, dict(_constructed(root)))
    except NOT_YAML as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def _with_current_names(kind: type[Section], tree: dict[str, Any]) -> dict[str, Any]:
    for old in renamed_settings(kind):
        section, _, name = old.rpartition(".")
        values = tree.get(section)
        if isinstance(values, dict) and name in values:
            value = values.pop(name)
            values.setdefault(_current(kind, old).rpartition(".")[2], value)
    return tree


def _constructed(node: yaml.Node) -> Any:
    return yaml.SafeLoader("").construct_document(node)


def _duplicate(section: yaml.Node, prefix: str = "") -> tuple[str, int, int] | None:
    """The first key that stands twice, and its lines; YAML would silently use the last one."""
    seen: dict[str, int] = {}
    for key, value in section.value if isinstance(section, yaml.MappingNode) else ():
        name, line = f"{prefix}{key.value}", key.start_mark.line + 1
        if name in seen:
            return name, seen[name], line
        seen[name] = line
        if found := _duplicate(value, f"{name}."):
            return found
    return None


def _take_literally(section: yaml.MappingNode, texts: Collection[str], prefix: str = "") -> None:
    """Keep text settings as typed, where YAML would read a number or a date."""
    for key, value in section.value:
        name = f"{prefix}{key.value}"
        if isinstance(value, yaml.MappingNode):
            _take_literally(value, texts, f"{name}.")
        elif name in texts:
            for node in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(node, yaml.ScalarNode) and node.tag != _NULL:
                    node.tag = _TEXT


def _set(tree: dict[str, Any], kind: type[Section], override: str) -> None:
    """Set one ``KEY=VALUE`` in the tree."""
    key, equals, text = override.partition("=")
    key = _current(kind, key)
    known, texts = _keys(kind), text_settings(kind)
    if not equals:
        raise UserError(f"'{override}' is not KEY=VALUE, as in {_nearest(key, known)}=...")
    if key in texts and not texts[key]:
        value = None if text in ("", "null") else text
    else:
        value = _value(override, text, key in texts) if key in known else text
    _put(tree, kind, key, value)


def _current(kind: type[Section], key: str) -> str:
    """The current name of a setting."""
    new = renamed_settings(kind).get(key)
    if new is None:
        return key
    _LOG.warning("%s is now called %s; please use the new name", key, new)
    return new


def _put(tree: dict[str, Any], kind: type[Section], key: str, value: object) -> None:
    if key not in _keys(kind):
        raise UserError(_unknown(kind, key, value))
    *sections, name = key.split(".")
    for section in sections:
        child = tree.get(section)
        if child is None:
            child = tree[section] = {}
        if not isinstance(child, dict):
            raise UserError(f"'{section}' in the recipe must be a section, not {child!r}")
        tree = child
    tree[name] = value


def _value(override: str, text: str, is_text: bool) -> Any:
    """Parse a value as YAML; items of a list of text are taken literally."""
    try:
        node = yaml.compose(text, _Loader)
        if node is None:
            return None
        if found := _duplicate(node):
            raise UserError(f"{override} has {found[0]} twice: keep one")
        for item in node.value if is_text and isinstance(node, yaml.SequenceNode) else ():
            item.tag = _TEXT if isinstance(item, yaml.ScalarNode) else item.tag
        return _constructed(node)
    except NOT_YAML as error:
        raise UserError(f"{override}: the value cannot be read as YAML; quote it") from error


def _build(kind: type[Settings], tree: Mapping[str, Any]) -> Settings:
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        errors = error.errors()
    first = errors[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("extra_forbidden", "invalid_key"):
        raise UserError(_unknown(kind, key, first["input"]))
    raise UserError(complaint(kind, tree, errors))


def _keys(kind: type[Section]) -> list[str]:
    return [setting.key for setting in describe(kind)]


def _unknown(kind: type[Section], key: str, value: object) -> str:
    return f"unknown setting {key}={value}: the nearest is {_nearest(key, _keys(kind))}"


def _nearest(name: str, known: Sequence[str]) -> str:
    """The known name closest to ``name``: by the last part, then by the section before it."""

    def closeness(key: str) -> tuple[float, ...]:
        parts = zip(key.rpartition("."), name.rpartition("."), strict=True)
        section, _, last = (difflib.SequenceMatcher(None, *both).ratio() for both in parts)
        return last, section

    return max(known, key=closeness)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
