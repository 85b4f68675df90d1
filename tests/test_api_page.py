"""The Python of docs/api.md runs from top to bottom, at a tiny scale."""

import re
import runpy
from pathlib import Path

import pytest

import cp2fast
from cp2fast.data.scenes import generate_scenes

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[1] / "docs/api.md"
TINY = """
model: {backbone: test_resnet, head_channels: 16, size: 64}
data: {batch_size: 4, workers: 1}
train: {steps: 2, device: cpu}
"""
RECIPES = {"r50": TINY, "voc_r50": TINY.replace("workers: 1", "workers: 1, short_side: 64")}


@pytest.fixture(scope="module")
def script() -> str:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) >= 4
    return "\n".join(blocks)


def test_the_page_runs_from_top_to_bottom(
    script: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    generate_scenes(tmp_path / "VOC2012", 16, seed=0)
    (tmp_path / "photos").symlink_to(tmp_path / "VOC2012" / "JPEGImages")
    for name, text in RECIPES.items():
        assert script.count(f'"{name}"') == 1
        script = script.replace(f'"{name}"', f'"{name}.yaml"')
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "page.py").write_text(script)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("page.py", run_name="__main__")
    printed = capfd.readouterr().out
    assert re.search(r"^mIoU \d+\.\d%$", printed, re.M)
    assert re.search(r"^3 True \S+checkpoints \[\d", printed, re.M)
    assert re.search(r"^epoch 1 step 4 loss \d", printed, re.M)
    assert list((tmp_path / "runs/photos/export").glob("*.safetensors"))
    assert re.search(r"^like \S+scene_00000.jpg: \S+scene_000", printed, re.M)
    assert "0 photos could not be read: {}" in printed
    assert len(list((tmp_path / "masks").glob("*.npz"))) == 16
    assert re.search(r"^torch.Size\(\[\d+, 3, 224, 224\]\) \[\]$", printed, re.M)
    assert re.search(r"^16 images, \d+ bytes, 0 rejected$", printed, re.M)
    written = ("similarity.png", "preview.png", "data-check.png", "proposed.yaml", "shards")
    assert [name for name in written if not (tmp_path / name).exists()] == []


def test_every_type_that_the_page_describes_is_public() -> None:
    rows = re.findall(r"^\| (`[A-Z].*?`) \|", PAGE.read_text(encoding="utf-8"), re.M)
    named = set(re.findall(r"`([A-Z]\w+)`", " ".join(rows)))
    assert {"Run", "Scores", "Similarity", "ImageBatches"} <= named <= set(cp2fast.__all__)


def test_ones_own_loss_takes_about_thirty_lines(script: str) -> None:
    example = script.partition("import timm\n")[2].partition("batch = next(")[0]
    assert len(example.splitlines()) <= 33
