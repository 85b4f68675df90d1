"""benchmarks/chart.py draws what was kept."""

import runpy
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_kept_results_are_drawn_without_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [ROOT / f"benchmarks/results/{name}_cpu_2core.json" for name in ("augment", "train")]
    script, out = ROOT / "benchmarks/chart.py", tmp_path / "chart.png"
    monkeypatch.setattr("sys.argv", [str(script), *map(str, kept), str(out)])
    runpy.run_path(str(script), run_name="__main__")
    with Image.open(out) as image:
        assert image.format == "PNG"
