"""Maps of cosines between a cell of the query and the cells of its key."""

import copy
import math

import numpy as np
import pytest
import torch

from cp2fast.batch import RaggedBatch
from cp2fast.config import PretrainSettings
from cp2fast.copypaste.op import copy_paste
from cp2fast.copypaste.parameters import MIRROR, Parameters
from cp2fast.copypaste.sampling import sample_parameters
from cp2fast.inspection.pairs import Pairs, first_pairs
from cp2fast.inspection.similarity import (
    Point,
    chosen,
    embed,
    figures,
    foreground_cells,
    in_key,
    similarity_map,
    take_statistics,
)
from cp2fast.model.cp2 import build_cp2

STRIDE, GRID = 16, 4
SIZE = 64


@pytest.fixture(scope="module")
def pairs(settings: PretrainSettings) -> Pairs:
    return first_pairs(settings, 8)


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


def placed(query: list[int], key: list[int], orientation: int = 0) -> Parameters:
    """Parameters of one sample with these crops (top, left, height, width), the query turned."""
    batch = RaggedBatch.pack([with_a_dot(200, 150)] * 3, range(3))
    parameters = sample_parameters(0, 0, batch, SIZE)
    parameters.box[:, :2] = torch.tensor([query, key], dtype=torch.int32)
    parameters.orientation[:, :2] = torch.tensor([orientation, 0], dtype=torch.int32)
    return parameters


def test_a_place_outside_the_keys_crop_is_nowhere_in_it() -> None:
    parameters = placed([0, 0, SIZE, SIZE], [10, 20, 50, 40])
    assert in_key(parameters, 0, SIZE, Point(19.9, 30)) is None
    assert in_key(parameters, 0, SIZE, Point(40, 60.1)) is None
    assert in_key(parameters, 0, SIZE, Point(20, 10)) == Point(0, 0)


def test_a_mirrored_query_shows_the_left_of_its_crop_on_the_right() -> None:
    parameters = placed([0, 20, 50, 40], [0, 0, SIZE, SIZE], MIRROR)
    assert in_key(parameters, 0, SIZE, Point(SIZE, 0)) == Point(20, 0)


def test_foreground_cells_are_those_whose_centre_pixel_is_foreground(pairs: Pairs) -> None:
    for sample in range(len(pairs)):
        found = {(cell.row, cell.column) for cell in foreground_cells(pairs, sample, STRIDE)}
        mask = pairs.composed.query_mask[sample]
        assert found == {
            (row, column)
            for row in range(GRID)
            for column in range(GRID)
            if mask[8 + 16 * row, 8 + 16 * column]
        }


def test_a_match_is_foreground_of_the_key_at_the_same_spot_of_the_photo(pairs: Pairs) -> None:
    matched = 0
    for sample in range(len(pairs)):
        for cell in foreground_cells(pairs, sample, STRIDE):
            anywhere = in_key(pairs.parameters, sample, 64, cell.place)
            if cell.match is None:
                assert anywhere is None or not at(pairs.composed.key_mask[sample], anywhere)
            else:
                assert cell.match == anywhere
                assert at(pairs.composed.key_mask[sample], cell.match)
                matched += 1
    assert matched > 8


def at(mask_SS: torch.Tensor, place: Point) -> bool:
    return bool(mask_SS[int(place.y), int(place.x)])


def test_the_chosen_cell_is_seen_in_the_key_where_any_is(pairs: Pairs) -> None:
    for sample in range(len(pairs)):
        cells = foreground_cells(pairs, sample, STRIDE)
        assert (chosen(cells).match is not None) == any(cell.match for cell in cells)


def test_a_map_tells_foreground_background_and_true_place_apart(pairs: Pairs) -> None:
    """Embeddings made by hand: the key's foreground is like the query, its background unlike."""
    cell = next(
        cell
        for sample in range(len(pairs))
        for cell in foreground_cells(pairs, sample, STRIDE)
        if cell.match is not None
    )
    key_cells = pairs.composed.key_mask[cell.sample, 8::16, 8::16]
    like, unlike = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    query = like[:, None, None].expand(2, GRID, GRID)
    key = torch.where(key_cells, like[:, None, None], unlike[:, None, None])
    row, column = int(cell.match.y) // 16, int(cell.match.x) // 16
    similarity = similarity_map(query, pairs, key, cell)
    assert similarity.foreground == 1
    assert similarity.background == 0
    assert similarity.at_match == float(key_cells[row, column])
    together = figures([similarity])
    assert together.gap == 1
    assert together.below_match == pytest.approx(
        float((~key_cells).float().mean()) if key_cells[row, column] else 0
    )


def test_figures_without_any_match_say_so(pairs: Pairs) -> None:
    cell = foreground_cells(pairs, 0, STRIDE)[0]
    lost = type(cell)(cell.sample, cell.row, cell.column, cell.place, None)
    features = torch.ones(1, GRID, GRID)
    assert math.isnan(figures([similarity_map(features, pairs, features, lost)]).below_match)


def test_a_view_compared_with_itself_is_most_similar_at_the_same_place(
    pairs: Pairs, settings: PretrainSettings
) -> None:
    network = build_cp2(settings.model, 0).encoder_q
    take_statistics(network, pairs)
    features = embed(network, pairs.composed.query)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(len(pairs), GRID, GRID))
    cell = foreground_cells(pairs, 0, STRIDE)[0]
    cosine = similarity_map(features[0], pairs, features[0], cell).cosine_hw
    assert cosine.argmax() == cell.row * GRID + cell.column


def test_statistics_are_those_of_the_pairs_and_weights_stay(
    pairs: Pairs, settings: PretrainSettings
) -> None:
    network = build_cp2(settings.model, 0).encoder_q
    before = copy.deepcopy(dict(network.named_parameters()))
    first = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    entering: list[torch.Tensor] = []
    hook = first.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    take_statistics(network, pairs)
    hook.remove()
    torch.testing.assert_close(first.running_mean, entering[0].mean(dim=(0, 2, 3)))
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name])
