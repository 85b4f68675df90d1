"""Command lines that cannot be parsed: one line that names the word and the fix."""

import pytest

from tests.command_line import cp2fast, refusal


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("preview --n 0", "--n should be greater than or equal to 1; see cp2fast preview --help"),
        ("preview --n 99", "--n should be less than or equal to 32; see cp2fast preview --help"),
        ("preview --n two", "--n should be a whole number; see cp2fast preview --help"),
        ("bench --seconds x", "--seconds should be a number; see cp2fast bench --help"),
        (
            "predict run photos",
            "predict needs --out DIR (folder of the masks); see cp2fast predict --help",
        ),
        (
            "predict --out masks",
            "predict needs MODEL (what to predict with); see cp2fast predict --help",
        ),
        ("pack photos", "pack needs OUT (FILE.beton, FILE.tar, or a folder); see cp2fast pack"),
        ("preview --modle x", "no option --modle: the nearest is --model; see cp2fast preview"),
        ("pretrain --zz", "no option --zz: there are --help, --out, --resume; see cp2fast pret"),
        ("--verison", "no option --verison: the nearest is --version; see cp2fast --help"),
        (
            "pretrain --batch-size 8",
            "--batch-size is no option but a setting: write data.batch_size=VALUE; see",
        ),
        (
            "finetune-voc --train.lr 1",
            "--train.lr is no option but a setting: write train.lr=VALUE; see cp2fast finetune",
        ),
        ("pretrain --out", "--out requires an argument; see cp2fast pretrain --help"),
        ("pretrain --resume=3", "--resume does not take a value; see cp2fast pretrain --help"),
        ("pretrian", "no command 'pretrian': the nearest is pretrain; see cp2fast --help"),
        ("nosuch", "no command 'nosuch': there are pretrain, finetune-voc, predict, bench, "),
        ("data", "data needs a command: there are voc, check; see cp2fast data --help"),
        ("data vco", "no command 'vco': the nearest is voc; see cp2fast data --help"),
        ("data voc a b", "data voc: too many words: b; see cp2fast data voc --help"),
    ],
)
def test_a_word_that_cannot_be_parsed_is_named_with_the_fix(words: str, message: str) -> None:
    assert refusal(cp2fast(*words.split())).startswith(f"cp2fast: {message}")
