from pathlib import Path

import pytest

from tests.data import image_files


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images, nested, and five files that are none."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(60):
        folder = root / f"class.{number % 3}"
        folder.mkdir(exist_ok=True)
        photo = image_files.photo(40 + number, 100 - number, seed=number)
        photo.save(folder / f"{number:02d}.v1.jpg")
        if number % 12 == 5:
            (folder / f"{number:02d}.bad.jpg").write_bytes(b"not an image")
    return root
