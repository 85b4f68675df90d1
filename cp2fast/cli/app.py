"""The typer application, and what its commands share."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, TypeAlias

import typer

from cp2fast import __version__, recipes
from cp2fast.config import Section
from cp2fast.wording import describe, in_words

_NO_DEFAULTS: Mapping[str, str] = MappingProxyType({})

RecipeAndSettings: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RECIPE] [KEY=VALUE]", help="Recipe and settings."),
]
SettingsOnly: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]", help="Settings.")
]
Resume: TypeAlias = Annotated[
    bool, typer.Option("--resume", help="Continue from the run folder's newest checkpoint.")
]

app = typer.Typer(
    name="cp2fast",
    help="Pretrain whole segmentation networks on unlabelled photos by copy-paste contrast (CP2).",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

data_app = typer.Typer(help="Arrange and check data sets.", rich_markup_mode=None)
app.add_typer(data_app, name="data")


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"cp2fast {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def settings_help(
    kind: type[Section],
    recipe: str | None = None,
    defaults: Mapping[str, str] = _NO_DEFAULTS,
    prefix: str = "",
) -> str:
    """All settings as an unwrapped block of the help text.

    Args:
        kind: the settings.
        recipe: recipe used if none is named; its values are shown beside the defaults.
        defaults: the command's own defaults, by key.
        prefix: prefix of the keys if ``kind`` is only a section of the settings.
    """
    text = "Settings, as KEY=VALUE (null stands for none):"
    beside = {}
    if recipe is not None:
        name = recipe.rpartition("/")[2]
        text = (
            "Settings, as KEY=VALUE (null stands for none). A recipe sets some of them: the "
            f"{name}'s values are shown beside the defaults; all recipes are in "
            f"{recipes.folder(kind)}/*.yaml. The settings of a run are in its config.yaml."
        )
        known = recipes.load(kind, None, []), recipes.load(kind, recipe, [])
        beside = {key: f"; {name} {in_words(new)}" for key, _, new in recipes.differences(*known)}
    lines = ["\b", *_wrapped(text, "")]
    for key, values, default, about in describe(kind):
        default = defaults.get(key, default) + beside.get(key, "")
        lines += [f"  {prefix}{key}  ({values}; default {default})", *_wrapped(about, " " * 6)]
    return "\n".join(lines)


def _wrapped(text: str, indent: str) -> list[str]:
    """Wrap so that lines fit into 80 columns with the help's own indent; paths stay whole."""
    return textwrap.wrap(
        text,
        78,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def split_words(arguments: list[str] | None) -> tuple[str | None, list[str]]:
    """The recipe, which is the first word unless that is a ``KEY=VALUE``, and the other words."""
    words = arguments or []
    if words and "=" not in words[0]:
        return words[0], words[1:]
    return None, words
