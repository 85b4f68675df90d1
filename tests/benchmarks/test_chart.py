"""benchmarks/chart.py draws what was kept."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_kept_results_are_drawn_without_measuring(tmp_path) -> None:
    kept = [ROOT / f"benchmarks/results/{name}_cpu_2core.json" for name in ("augment", "train")]
    script, out = ROOT / "benchmarks/chart.py", tmp_path / "chart.png"
    subprocess.run([sys.executable, script, *kept, out], check=True)
    with Image.open(out) as image:
        assert image.format == "PNG"
