"""A place of the query, followed through the photo into the key."""

import numpy as np
import pytest
import torch

from cp2fast.batch import RaggedBatch
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.parameters import MIRROR, Parameters
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.inspection.geometry import Point, View, in_key

SIZE = 64


def with_a_dot(x: int, y: int, height: int = 300, width: int = 400) -> torch.Tensor:
    """A black photo with one bright spot, wide enough to survive the resize."""
    image = torch.zeros((height, width, 3), dtype=torch.uint8)
    image[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5] = 255
    return image


def plain(parameters: Parameters) -> Parameters:
    """The same crops and flips without colour, blur or background."""
    fields = dict(parameters.__dict__)
    for name in ("jitter", "grey"):
        fields[name] = torch.zeros_like(fields[name])
    fields["sigma"] = torch.zeros_like(fields["sigma"])
    fields["paste"] = torch.tensor([0, 0, SIZE, SIZE], dtype=torch.int32).expand(
        len(parameters), 2, 4
    )
    return Parameters(**fields)


def centre_of_light(image_3SS: torch.Tensor) -> Point | None:
    brightness = (image_3SS - image_3SS.amin(dim=(1, 2), keepdim=True)).sum(0).numpy()
    if brightness.max() < 1:
        return None
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    total = brightness.sum()
    return Point((columns * brightness).sum() / total, (rows * brightness).sum() / total)


@pytest.mark.parametrize("epoch", range(12))
def test_what_the_query_shows_at_a_place_the_key_shows_at_its_match(epoch: int) -> None:
    photo = with_a_dot(200, 150)
    batch = RaggedBatch.pack([photo] * 3, range(3))
    parameters = plain(sample_parameters(0, epoch, batch, SIZE))
    parameters.orientation[:] = torch.randint(8, (3, 4))
    composed = copy_paste(batch, parameters, SIZE)
    for sample in range(3):
        query, key = centre_of_light(composed.query[sample]), centre_of_light(composed.key[sample])
        if query is None or key is None or not all(4 < side < SIZE - 4 for side in query + key):
            continue
        match = in_key(parameters, sample, SIZE, query)
        assert match is not None
        assert match == pytest.approx(key, abs=0.5)


def test_a_place_outside_the_crop_is_nowhere_in_the_view() -> None:
    view = View(top=10, left=20, height=50, width=40, orientation=0, size=SIZE)
    assert view.from_photo(Point(19.9, 30)) is None
    assert view.from_photo(Point(40, 60.1)) is None
    assert view.from_photo(Point(20, 10)) == Point(0, 0)


@pytest.mark.parametrize("orientation", range(8))
def test_to_the_photo_and_back_is_where_it_began(orientation: int) -> None:
    view = View(top=10, left=20, height=50, width=40, orientation=orientation, size=SIZE)
    assert view.from_photo(view.to_photo(Point(13.5, 40.5))) == pytest.approx((13.5, 40.5))


def test_a_mirrored_view_shows_the_left_of_its_crop_on_the_right() -> None:
    view = View(top=0, left=20, height=50, width=40, orientation=MIRROR, size=SIZE)
    assert view.to_photo(Point(SIZE, 0)) == Point(20, 0)
