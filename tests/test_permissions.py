"""What the file system refuses a command: one line, exit code 2, nothing lost."""

from pathlib import Path

import pytest

from tests import unprivileged
from tests.data import image_files

pytestmark = pytest.mark.slow

SMALL = [
    *("data.batch_size=4", "data.workers=1", "model.backbone=test_resnet", "model.size=64"),
    *("model.queue=64", "train.device=cpu", "train.steps=1"),
]

REFUSED = """
import sys
from pathlib import Path
from tests.command_line import cp2fast
root = Path(sys.argv[1])
W = sys.argv[2:]
P = f"data.root={root}/photos"
assert cp2fast("pretrain", "r50", P, *W, "--out", root / "run").returncode == 0
cases = [
    ("run", 0o500, ["pretrain", "--resume", "--out", root / "run", "train.steps=2"]),
    ("run", 0, ["pretrain", "--resume", "--out", root / "run", "train.steps=2"]),
    ("run", 0, ["pretrain", "r50", P, *W, "--out", root / "run" / "x"]),
    ("run", 0, ["pretrain", "r50", P, f"model.init={root / 'run'}", *W]),
    ("run/config.yaml", 0, ["pretrain", "--resume", "--out", root / "run", "train.steps=2"]),
    ("run/checkpoints", 0, ["pretrain", "--resume", "--out", root / "run", "train.steps=2"]),
    ("run/checkpoints", 0, ["export", root / "run", "--to", "timm"]),
    ("photos", 0, ["pretrain", "r50", P, *W]),
    ("photos", 0, ["preview", P, "data.batch_size=4"]),
    ("photos", 0, ["pack", root / "photos", root / "a.tar"]),
]
for name, mode, words in cases:
    before = (root / name).stat().st_mode
    (root / name).chmod(mode)
    done = cp2fast(*words)
    (root / name).chmod(before)
    print(done.returncode, len(done.stderr.splitlines()), done.stderr.strip().replace("\\n", " | "))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(8):
        image_files.photo(40, 30, number).save(tmp_path / "photos" / f"{number}.jpg")
    return tmp_path


def test_every_command_says_in_one_line_what_it_may_not_do(root: Path) -> None:
    here = Path(__file__).parents[1]
    done = unprivileged.run("-c", REFUSED, root, *SMALL, folder=here)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 10, done.stdout
    for line in lines:
        code, count, message = line.split(" ", 2)
        assert (code, count) == ("2", "1"), line
        assert "cp2fast: " in message
        assert "ermission denied" in message or "is not readable" in message
    assert sorted(path.name for path in root.iterdir()) == ["photos", "run"]
