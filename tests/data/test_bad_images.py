import pytest

from cp2fast.data.bad_images import BadImages
from cp2fast.errors import UserError

A, B = ("a.jpg", "empty file"), ("b.jpg", "cannot be read: Permission denied")


def test_each_bad_image_is_listed_once_with_its_reason(tmp_path):
    bad = BadImages(tmp_path / "run", max_fraction=1)
    bad.record(10, [A])
    bad.record(10, [A, B])
    assert bad.path.read_text() == ("a.jpg\tempty file\nb.jpg\tcannot be read: Permission denied\n")
    assert (bad.tried, bad.bad) == (20, 3)


def test_nothing_is_written_while_all_is_well(tmp_path):
    BadImages(tmp_path, max_fraction=0).record(1000, [])
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_adds_to_the_list_and_to_the_counts(tmp_path):
    before = BadImages(tmp_path, max_fraction=1)
    before.record(60, [A])
    after = BadImages(tmp_path, max_fraction=1)
    after.load_state_dict(before.state_dict())
    after.record(60, [A, B])
    assert [line.split("\t")[0] for line in after.path.read_text().splitlines()] == [
        "a.jpg",
        "b.jpg",
    ]
    assert after.state_dict() == {"tried": 120, "bad": 3}


def test_too_many_end_the_run_and_the_list_is_complete(tmp_path):
    bad = BadImages(tmp_path, max_fraction=0.01)
    bad.record(99, [A, A])  # Too few tried to judge.
    with pytest.raises(UserError) as error:
        bad.record(101, [B])
    message = str(error.value)
    assert "3 of 200 images" in message
    assert str(tmp_path / "bad_images.txt") in message
    assert "data.max_bad_fraction=0.01" in message
    assert len(message.splitlines()) == 1
    assert "b.jpg" in bad.path.read_text()


def test_exactly_the_allowed_share_is_allowed(tmp_path):
    BadImages(tmp_path, max_fraction=0.01).record(200, [A, B])
