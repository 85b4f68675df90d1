import numpy as np
import pytest

from cp2fast.probe.embed import Embedded, nearest, write


def test_the_nearest_are_those_of_the_largest_cosine_without_oneself() -> None:
    angles = np.radians([0, 10, 25, 90])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert nearest(vectors, range(4), 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert nearest(vectors, [3, 1], 2).tolist() == [[2, 1], [0, 2]]
    assert nearest(vectors, range(4), 9).shape == (4, 3)


def test_parquet_holds_names_and_vectors(tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    vectors = np.eye(3, dtype=np.float32)
    write(Embedded([0, 1, 2], ["a", "b", "c"], vectors), tmp_path / "v.parquet")
    table = parquet.read_table(tmp_path / "v.parquet")
    assert table["name"].to_pylist() == ["a", "b", "c"]
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist()), vectors)
