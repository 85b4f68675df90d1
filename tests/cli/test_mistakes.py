"""Command lines that cannot be parsed: one line that names the word and where to read on."""

from pathlib import Path

import pytest

from tests.command_line import cp2fast, refusal
from tests.data import image_files


@pytest.mark.parametrize(
    ("words", "named", "command"),
    [
        ("preview --n 0", ["--n", "greater than or equal to 1"], "preview"),
        ("bench --seconds x", ["--seconds", "number"], "bench"),
        ("predict run photos", ["--out"], "predict"),
        ("pack photos", ["OUT"], "pack"),
        ("preview --modle x", ["--modle", "--model"], "preview"),
        ("--verison", ["--verison", "--version"], ""),
        ("pretrain --out", ["--out", "argument"], "pretrain"),
        ("pretrain --resume=3", ["--resume", "value"], "pretrain"),
        ("pretrian", ["'pretrian'", "'pretrain'"], ""),
        ("data", ["command"], "data"),
        ("data voc a b", ["(b)"], "data voc"),
        ("pretrain --batch-size 8", ["write data.batch_size=VALUE"], "pretrain"),
        ("finetune-voc --train.lr 1", ["write train.lr=VALUE"], "finetune-voc"),
        ("pretrain --stps 3", ["--stps", "settings are KEY=VALUE"], "pretrain"),
    ],
)
def test_a_word_that_cannot_be_parsed_is_named(words: str, named: list[str], command: str) -> None:
    message = refusal(cp2fast(*words.split()))
    assert message.startswith("cp2fast: ")
    assert all(word in message for word in named), message
    assert message.endswith(f"; see {f'cp2fast {command}'.strip()} --help")


def test_memory_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for number in range(4):
        image_files.photo(40, 30, number).save(tmp_path / f"{number}.jpg")
    settings = f"data.root={tmp_path} data.batch_size=4 model.backbone=resnet18 model.size=32"
    words = [*settings.split(), "model.queue=1000000000000000", "--out", str(tmp_path / "run")]
    assert "there is no memory for" in refusal(cp2fast("pretrain", *words))
    assert not (tmp_path / "run").exists()
