import pytest

from cp2fast.data.sources.bad_images import BadImages
from cp2fast.errors import UserError

A, B = ("a.jpg", "empty file"), ("b.jpg", "cannot be read: Permission denied")


def names(bad: BadImages) -> list[str]:
    return [line.split("\t")[0] for line in bad.path.read_text().splitlines()]


def test_each_bad_image_is_listed_once_with_its_reason(tmp_path):
    bad = BadImages(tmp_path / "run", max_fraction=1)
    bad.record(10, [A], 50)
    bad.record(10, [A, B], 50)
    assert bad.path.read_text() == ("a.jpg\tempty file\nb.jpg\tcannot be read: Permission denied\n")
    assert (bad.tried, bad.bad) == (20, 3)


def test_nothing_is_written_while_all_is_well(tmp_path):
    BadImages(tmp_path, max_fraction=0).record(1000, [], 50)
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_adds_to_the_list_and_to_the_counts(tmp_path):
    before = BadImages(tmp_path, max_fraction=1)
    before.record(60, [A], 50)
    after = BadImages(tmp_path, max_fraction=1)
    after.load_state_dict(before.state_dict())
    after.record(60, [A, B], 50)
    assert names(after) == ["a.jpg", "b.jpg"]
    assert after.state_dict() == {"tried": 120, "bad": 3}


def test_processes_that_share_a_run_folder_list_an_image_once(tmp_path):
    ranks = [BadImages(tmp_path, max_fraction=1) for _ in range(2)]
    for failed in ([A], [A, B], [B]):
        for rank in ranks:
            rank.record(10, failed, 50)
    assert [rank.bad for rank in ranks] == [4, 4]
    assert names(ranks[0]) == ["a.jpg", "b.jpg"]


def test_a_name_that_is_several_lines_is_one_in_the_list_however_often_a_run_is_resumed(tmp_path):
    odd = ["a\nb.jpg", "c\rd.jpg", "e\tf.jpg", "g\\n\udcff.jpg"]
    for _ in range(3):
        bad = BadImages(tmp_path, max_fraction=1)
        bad.record(4, [(name, "damaged:\nempty") for name in odd], 50)
    lines = bad.path.read_bytes().splitlines()
    assert lines == [
        rb"a\nb.jpg" + b"\t" + rb"damaged:\nempty",
        rb"c\rd.jpg" + b"\t" + rb"damaged:\nempty",
        rb"e\tf.jpg" + b"\t" + rb"damaged:\nempty",
        rb"g\n" + b"\xff.jpg\t" + rb"damaged:\nempty",
    ]


def test_too_many_end_the_run_and_the_list_is_complete(tmp_path):
    bad = BadImages(tmp_path, max_fraction=0.01, again="cp2fast pretrain --resume --out here")
    bad.record(99, [A, A], images=150)
    with pytest.raises(UserError) as error:
        bad.record(4, [B], images=150)
    message = str(error.value)
    assert "at least 2 of the 150 images" in message
    assert str(tmp_path / "bad_images.txt") in message
    assert "data.max_bad_fraction=0.01 allows 1" in message
    assert message.endswith("cp2fast pretrain --resume --out here data.max_bad_fraction=1")
    assert len(message.splitlines()) == 1
    assert "b.jpg" in bad.path.read_text()


def test_exactly_the_allowed_share_is_allowed(tmp_path):
    BadImages(tmp_path, max_fraction=0.01).record(200, [A, B], images=200)


def test_one_bad_image_never_ends_a_run_however_often_it_is_drawn(tmp_path):
    bad = BadImages(tmp_path, max_fraction=0.01)
    for _ in range(1000):
        bad.record(9, [A], images=9)


def test_none_is_allowed_where_the_fraction_is_zero(tmp_path):
    with pytest.raises(UserError, match=r"at least 1 of the 500 images .* allows 0"):
        BadImages(tmp_path, max_fraction=0).record(3, [A], images=500)


def test_a_data_set_of_mostly_bad_images_ends_the_run_in_its_first_hundred(tmp_path):
    bad = BadImages(tmp_path, max_fraction=0.01)
    half = [(f"{number}.jpg", "empty file") for number in range(50)]
    bad.record(60, half, images=1_000_000)
    bad.record(40, [], images=1_000_000)  # 50 of 100 may still be chance.
    with pytest.raises(UserError, match=r"at least 52 of the 1,000,000 .* most of those tried"):
        bad.record(2, [A, B], images=1_000_000)


def test_all_may_be_bad_where_the_fraction_is_one(tmp_path):
    bad = BadImages(tmp_path, max_fraction=1)
    bad.record(200, [(f"{number}.jpg", "empty file") for number in range(200)], images=200)


def test_images_that_were_mended_before_a_run_goes_on_do_not_count(tmp_path):
    before = BadImages(tmp_path, max_fraction=0.01)
    with pytest.raises(UserError):
        before.record(10, [A, B], images=10)
    BadImages(tmp_path, max_fraction=0.01).record(10, [("c.jpg", "empty file")], images=10)
