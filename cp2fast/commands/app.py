"""The command line itself, and what its commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from cp2fast import __version__
from cp2fast.config import Section
from cp2fast.wording import describe

app = typer.Typer(
    name="cp2fast",
    help="Pretrain whole segmentation networks on unlabelled photos by copy-paste contrast (CP2).",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"cp2fast {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def settings_help(kind: type[Section]) -> str:
    """All settings as an unwrapped block of the help text."""
    lines = ["\b", "Settings, as KEY=VALUE:"]
    for setting in describe(kind):
        lines += [
            f"  {setting.key}  ({setting.values}; default {setting.default})",
            f"      {setting.help}",
        ]
    return "\n".join(lines)


def split_words(arguments: list[str] | None) -> tuple[str | None, list[str]]:
    """The recipe, if the first word is none of ``KEY=VALUE``, and the other words."""
    words = arguments or []
    if words and "=" not in words[0]:
        return words[0], words[1:]
    return None, words
