"""What is told of a folder of images."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cp2fast.config import PretrainSettings
from cp2fast.data.image_sets.listing import list_images
from cp2fast.inspection.data_health import Quantiles, examine


def write(folder: Path, name: str, width: int, height: int) -> None:
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(folder / name)


def test_counts_formats_and_sizes_are_those_of_the_files(
    settings: PretrainSettings, tmp_path: Path
) -> None:
    for number in range(6):
        write(tmp_path, f"{number}.jpg", 100 + number, 60)
    for number in range(3):
        write(tmp_path, f"{number}.png", 60, 100)
    health = examine(settings, tmp_path, list_images(tmp_path))
    assert (health.images, health.sampled) == (9, 9)
    assert health.formats == {"JPEG": 6, "PNG": 3}
    assert health.short_side == Quantiles(60, 60, 60)
    assert health.long_side is not None
    assert health.long_side.median == 101
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert health.file_bytes is not None
    assert health.file_bytes.median == np.median(sizes)
    assert health.bad == []


def test_a_format_is_told_by_content_not_by_name(
    settings: PretrainSettings, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40)).save(buffer, "PNG")
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(buffer.getvalue())
    np.save(tmp_path / "array.npy", np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "half.png").write_bytes(buffer.getvalue()[:20])
    (tmp_path / "text.jpg").write_text("not an image")
    found = examine(settings, tmp_path, list_images(tmp_path))
    assert found.formats == {"PNG": 5, "numpy": 1, "unknown": 1}


def test_broken_files_are_listed_with_reasons(settings: PretrainSettings, tmp_path: Path) -> None:
    for number in range(8):
        write(tmp_path, f"{number}.jpg", 80, 60)
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "0.jpg").read_bytes()[:200])
    (tmp_path / "text.png").write_text("not an image")
    found = examine(settings, tmp_path, list_images(tmp_path))
    bad = {Path(name).name: reason for name, reason in found.bad}
    assert bad.keys() == {"empty.jpg", "half.jpg", "text.png"}
    assert bad["empty.jpg"] == "empty file"
    assert all(reason and "\n" not in reason for reason in bad.values())


def test_the_epoch_takes_as_long_as_its_images_at_the_measured_rate(
    settings: PretrainSettings, scenes: Path
) -> None:
    health = examine(settings, scenes, list_images(scenes))
    assert health.source == "torch"
    assert health.images_per_second is not None
    assert health.images_per_second > 0
    assert health.decode_per_second is not None
    assert health.decode_per_second > 0
    assert health.epoch_seconds == pytest.approx(12 / health.images_per_second)


def test_a_folder_in_which_nothing_can_be_used_has_no_rates(
    settings: PretrainSettings, tmp_path: Path
) -> None:
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(b"")
    health = examine(settings, tmp_path, list_images(tmp_path))
    assert len(health.bad) == 4
    assert health.images_per_second is None
    assert health.epoch_seconds is None
    assert health.short_side is None
