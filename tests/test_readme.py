"""Every ``cp2fast`` command in README.md and docs/ does what it says, at a tiny scale.

Commands are taken from fenced and indented blocks, and each runs once, in this process and in an
empty folder, where it finds what it reads: ``DIR`` is a folder of generated scenes, and runs that
it names are there. What is changed about a command is all in the tables below: words that stand
for something of the reader's, and settings that make it small. A command that cannot run here is
parsed instead: the command, its options and its settings exist. ``pytest -rP`` prints which.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from cp2fast import config, recipes
from cp2fast.data.scenes import generate_scenes
from tests import command_line

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

STANDS_FOR = {
    r"--out DIR\b": "--out results",
    r"--json FILE\b": "--json results.json",
    r"--model PATH\b": "--model runs/given",
    r"model\.init=(FILE|RUN)\b": "model.init=runs/given",
    r"\bFILE\.": "results.",
    r"\bRUN\b": "runs/given",
    r"\bDIR\b|\bPHOTOS(\.\.\.)?": "scenes",
}
"""Words of the pages, and what they are here; the first that fits is taken."""

SMALL_NETWORK = ["model.backbone=test_resnet", "model.head_channels=16", "model.size=64"]
SMALL_PRETRAINING = [
    *SMALL_NETWORK,
    "model.queue=64",
    "data.batch_size=4",
    "data.workers=1",
    "data.scenes=12",
    "train.steps=2",
    "train.device=cpu",
]
SMALL_FINETUNING = [
    "model.size=64",
    "data.batch_size=2",
    "data.workers=1",
    "data.scenes=12",
    "data.short_side=64",
    "train.steps=2",
    "train.device=cpu",
]
BUDGET = {
    "pretrain": SMALL_PRETRAINING,
    "finetune-voc": SMALL_FINETUNING,
    "preview": SMALL_PRETRAINING,
}
"""Settings appended to a command; a run that is resumed has its own."""

PARSED_ONLY = {
    r"^cp2fast bench\b": "measures for minutes; tests/bench runs it at a tiny size",
    r"^cp2fast doctor\b": "compiles for seconds; tests/inspection and tests/pretrain run it",
    r"^cp2fast data voc\b": "needs the network",
    r"\bimagenet\b": "needs the network",
    r"=cuda\b|decode=gpu\b": "needs a GPU",
    r"s3://|https://": "needs a server, as tests/data/remote/test_objects.py has one",
    r"^torchrun\b": "starts several processes, as tests/train/ does",
    r"\[": "is a synopsis",
    r"(preview|pretrain) my\.yaml": "reads the recipe that the command before it has written",
    r"data\.root=shards": "reads what the command before it has packed",
    r"data\.root=photos|runs/photos": "tells how a picture was made, from photos not in here",
}
SECTIONS = "data|model|augment|train|evaluation"
FILES = r"txt\b|csv\b|safetensors\b|pt\b"
"""Endings of files whose names look like settings."""


def commands() -> list[str]:
    """The distinct commands of all pages, in order."""
    found: dict[str, None] = {}
    for page in PAGES:
        found |= dict.fromkeys(commands_of(page.read_text(encoding="utf-8")))
    return list(found)


def commands_of(page: str) -> Iterator[str]:
    """The commands in the code blocks of a page, without comments, continued lines joined."""
    fenced = False
    for line in page.replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            words = shlex.split(line.strip().removeprefix("$ "), comments=True)
            if words and (words[0] == "cp2fast" or (words[0] == "torchrun" and "cp2fast" in words)):
                yield shlex.join(words).replace("'&&'", "&&")


def reason_not_to_run(command: str) -> str | None:
    return next((why for what, why in PARSED_ONLY.items() if re.search(what, command)), None)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What commands read: scenes, a pretrained network, and a fine-tuned one where that exists."""
    shelf = tmp_path_factory.mktemp("shelf")
    generate_scenes(shelf / "scenes", 12, seed=0)
    data = f"data.root={shelf / 'scenes'}"
    pretrained, finetuned = str(shelf / "pretrained"), str(shelf / "finetuned")
    cp2fast(shelf, ["pretrain", "demo", data, *SMALL_PRETRAINING, "--out", pretrained])
    if "finetune-voc" in help_of():
        start = f"model.init={pretrained}"
        cp2fast(shelf, ["finetune-voc", data, start, *SMALL_FINETUNING, "--out", finetuned])
    return shelf


@pytest.mark.parametrize("command", commands())
def test_it_works_as_written(command: str, shelf: Path, tmp_path: Path) -> None:
    if (reason := reason_not_to_run(command)) is not None:
        print(f"parsed only, as it {reason}: {command}")
        parse(command)
    else:
        run(command, shelf, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    kinds = [kind for kind in vars(config).values() if is_settings(kind)]
    known = {setting.key for kind in kinds for setting in recipes.describe(kind)}
    named = re.findall(rf"`((?:{SECTIONS})\.(?!{FILES})\w+)", page.read_text(encoding="utf-8"))
    assert set(named) <= known


def is_settings(kind: object) -> bool:
    return isinstance(kind, type) and "train" in getattr(kind, "model_fields", {})


def test_a_page_gives_its_commands_without_comments_and_prompts() -> None:
    page = "\n".join(
        [
            "In prose `cp2fast nothing` and",
            "cp2fast nothing",
            "```sh",
            "$ cp2fast pretrain r50 \\",
            "    data.root=DIR   # a comment",
            "python -m this",
            "```",
            "    cp2fast pretrain && cp2fast preview",
            "    torchrun --nproc-per-node 8 -m cp2fast pretrain r50",
        ]
    )
    assert list(commands_of(page)) == [
        "cp2fast pretrain r50 data.root=DIR",
        "cp2fast pretrain && cp2fast preview",
        "torchrun --nproc-per-node 8 -m cp2fast pretrain r50",
    ]


@pytest.mark.parametrize(
    "command",
    [
        "cp2fast pretrian",
        "cp2fast pretrain --owt x",
        "cp2fast pretrain data.rot=DIR",
        "cp2fast pretrain augment.mena=0",
    ],
)
def test_a_command_option_or_setting_that_does_not_exist_is_found(
    command: str, shelf: Path, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError):
        parse(command)
    with pytest.raises(AssertionError):
        run(command, shelf, tmp_path)


def test_a_word_that_stands_for_nothing_is_found(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="STANDS_FOR"):
        run("cp2fast pretrain data.root=FOLDER", shelf, tmp_path)


def run(command: str, shelf: Path, folder: Path) -> None:
    """Run one command, or several joined by ``&&``, in ``folder``; assert that it succeeds."""
    for what, stand_in in STANDS_FOR.items():
        command = re.sub(what, stand_in, command)
    unknown = re.findall(r"(?<![\w/.-])[A-Z]{2,}(?![\w/.-])", command)
    assert not unknown, f"say in STANDS_FOR what {unknown} is: {command}"
    for step in command.split(" && "):
        words = shlex.split(step)[1:]
        provide(words, shelf, folder)
        budget = [] if "--resume" in words or not words else BUDGET.get(words[0], [])
        cp2fast(folder, fitted(words, budget))


def fitted(words: list[str], budget: list[str]) -> list[str]:
    """The budget's settings after the command's own; a recipe of a ViT keeps being one."""
    if any(word.startswith("vit") for word in words):
        budget = [word.replace("=test_resnet", "=test_vit") for word in budget]
    return [*words, *budget]


def provide(words: list[str], shelf: Path, folder: Path) -> None:
    """Put into ``folder`` what the command reads and earlier commands did not leave there."""
    scenes = folder / "scenes"
    if not scenes.exists():
        scenes.symlink_to(shelf / "scenes")
        (folder / "photos").symlink_to(shelf / "scenes" / "JPEGImages")
    read = " ".join(words)
    if "--resume" not in words:
        read = re.sub(r"--out \S+", "", read)
    for path in re.findall(r"(?:runs|data)/[\w./-]+|VOCdevkit/\w+", read):
        place = folder / path
        if place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if "VOC" in path:
            place.symlink_to(shelf / "scenes")
        else:
            kind = "finetuned" if re.search("finetune|voc", path) else "pretrained"
            # Linked, not copied: a run's files are replaced, never written into.
            shutil.copytree(shelf / kind, place, copy_function=os.link)


def parse(command: str) -> None:
    """Assert that the commands, options and settings exist."""
    for step in command.split(" && "):
        words = [word.strip("[]") for word in shlex.split(step)]
        words = words[words.index("cp2fast") + 1 :]
        text = help_of(*words[:1]) if words and not words[0].startswith("-") else help_of()
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        keys = re.findall(rf"\b((?:{SECTIONS})\.\w+)=", " ".join(words))
        for name in options + (keys if "Settings, as KEY=VALUE" in text else []):
            assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text), (
                f"no {name}: {command}"
            )


@cache
def help_of(*command: str) -> str:
    return cp2fast(ROOT, [*command, "--help"])


def cp2fast(folder: Path, words: list[str]) -> str:
    """Run the command line in ``folder``; what it printed, once it has succeeded."""
    with contextlib.chdir(folder):
        done = command_line.cp2fast(*words)
    assert done.returncode == 0, f"cp2fast {shlex.join(words)}: {done.stderr or done.stdout}"
    return done.stdout
