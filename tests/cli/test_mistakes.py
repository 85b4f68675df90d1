"""Command lines that cannot be parsed: one line that names the word and where to read on."""

import pytest

from tests.command_line import cp2fast, refusal


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
    ],
)
def test_a_word_that_cannot_be_parsed_is_named(words: str, named: list[str], command: str) -> None:
    message = refusal(cp2fast(*words.split()))
    assert message.startswith("cp2fast: ")
    assert all(word in message for word in named), message
    assert message.endswith(f"; see {f'cp2fast {command}'.strip()} --help")
