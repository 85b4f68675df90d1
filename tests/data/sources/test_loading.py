import pytest
import torch

from cp2fast.batch import RaggedBatch
from cp2fast.data.decoding.decode import BadImage
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.order import substitute
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.loading import MAX_SUBSTITUTES, Decoded, Failure, deliver, read_or_replace
from cp2fast.errors import UserError


def reader(*readable):
    def read(index):
        if index not in readable:
            raise BadImage(f"bad {index}")
        return f"image {index}"

    return read


def test_a_readable_image_is_itself():
    loaded = read_or_replace(7, reader(7), seed=0, count=20)
    assert (loaded.index, loaded.content, loaded.failures) == (7, "image 7", [])


def test_an_unreadable_one_gives_way_to_its_first_readable_substitute():
    chain = [substitute(3, 7, attempt, 20) for attempt in range(3)]
    assert len({7, *chain}) == 4, "choose a seed whose substitutes differ"
    loaded = read_or_replace(7, reader(chain[2]), seed=3, count=20)
    assert (loaded.planned, loaded.index) == (7, chain[2])
    assert loaded.failures == [Failure(index, f"bad {index}") for index in (7, *chain[:2])]


@pytest.mark.parametrize(("count", "tried"), [(5, MAX_SUBSTITUTES + 1), (1, 1)])
def test_giving_up_names_an_image_and_the_list(tmp_path, count, tried):
    loaded = read_or_replace(0, reader(), seed=0, count=count)
    assert loaded.content is None
    decoded = Decoded.of([loaded], None)
    assert decoded.tried == tried
    images = ImageSet.of_files(f"{number}.jpg" for number in range(count))
    for folder, named in ((tmp_path, "bad_images.txt"), (None, "the log")):
        with pytest.raises(UserError, match=rf"\d.jpg: bad \d.*listed in .*{named}"):
            deliver(decoded, images, BadImages(folder, max_fraction=1))


def test_delivery_counts_what_was_tried(tmp_path):
    places = [read_or_replace(index, reader(1, 2), seed=0, count=3) for index in (0, 1)]
    batch = RaggedBatch.pack([torch.zeros(1, 1, 3, dtype=torch.uint8)] * 2, [1, 1])
    bad = BadImages(tmp_path, max_fraction=1)
    delivered = deliver(
        Decoded.of(places, batch), ImageSet.of_files(f"{n}.jpg" for n in range(3)), bad
    )
    assert delivered is batch
    assert bad.state_dict() == {"tried": 3, "bad": 1}
    assert bad.path.read_text() == "0.jpg\tbad 0\n"
