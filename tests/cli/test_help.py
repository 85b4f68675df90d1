"""What ``--help`` says of commands and settings."""

import pytest

from cp2fast import recipes
from cp2fast.config import FinetuneSettings, PretrainSettings, Section
from tests.command_line import cp2fast

WITH_SETTINGS = {
    "pretrain": PretrainSettings,
    "finetune-voc": FinetuneSettings,
    "bench": PretrainSettings,
    "preview": PretrainSettings,
    "doctor": PretrainSettings,
}


def help_of(*command: str) -> str:
    done = cp2fast(*command, "--help")
    assert done.returncode == 0
    return done.stdout


def setting(command: str, key: str) -> str:
    """The line of a setting in a command's help."""
    [line] = [line for line in help_of(command).splitlines() if line.split()[:1] == [key]]
    return line.strip()


@pytest.mark.parametrize(("command", "kind"), WITH_SETTINGS.items())
def test_every_setting_of_a_command_is_listed_within_80_columns(
    command: str, kind: type[Section]
) -> None:
    listed = help_of(command).partition("Settings, as KEY=VALUE")[2].splitlines()
    keys = [line.split()[0] for line in listed if line.startswith("    ") and "(" in line]
    assert {one.key for one in recipes.describe(kind)} <= set(keys)
    assert [line for line in listed if len(line) > 80 and "/configs" not in line] == []


@pytest.mark.parametrize("command", ["pretrain", "preview"])
def test_what_the_demo_sets_stands_beside_the_default(command: str) -> None:
    assert setting(command, "data.batch_size").endswith("; default 256; demo 16)")
    assert setting(command, "train.epochs").endswith("; default 200; demo 8)")
    assert setting(command, "train.seed").endswith("; default 0)")


def test_what_the_demo_of_fine_tuning_sets_is_its_own() -> None:
    assert setting("finetune-voc", "train.steps").endswith("; default 40000; demo 100)")


def test_the_help_names_the_folder_of_the_recipes() -> None:
    for command, kind in (("pretrain", PretrainSettings), ("finetune-voc", FinetuneSettings)):
        assert f"{recipes.folder(kind)}/*.yaml" in help_of(command)
        assert "config.yaml" in help_of(command)


def test_the_bench_lists_its_own_defaults() -> None:
    assert "default 32; train, run 8" in setting("bench", "data.batch_size")
    assert "256, " not in help_of("bench").partition("Settings, as")[0]


def test_the_doctor_takes_the_defaults_and_lists_no_recipe() -> None:
    assert setting("doctor", "data.batch_size").endswith("; default 256)")


@pytest.mark.parametrize("group", [[], ["data"]])
def test_the_list_of_commands_has_whole_sentences_in_80_columns(group: list[str]) -> None:
    listed = help_of(*group).partition("Commands:\n")[2].splitlines()
    assert listed
    assert [line for line in listed if line.endswith("...") or len(line) > 80] == []
    assert all(line.endswith(".") for line in listed)
