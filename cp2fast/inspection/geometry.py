"""Map points of a view to its photo, and to the other view of the same photo.

Coordinates are continuous, x to the right and y down, from the image's top left corner. The centre
of a pixel is at its index plus one half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cp2fast.copypaste.parameters import (
    FLIP,
    KEY_FOREGROUND,
    MIRROR,
    QUERY_FOREGROUND,
    TRANSPOSE,
    Parameters,
)


class Point(NamedTuple):
    """A point in pixels."""

    x: float
    y: float


@dataclass(frozen=True)
class View:
    """How a view was cropped from its photo.

    Attributes:
        top: first row of the crop, in pixels of the photo, as the next three.
        left: first column.
        height: number of rows.
        width: number of columns.
        orientation: orientation applied after the resize; 0 to 7, as in ``Parameters``.
        size: side of the view, in pixels.
    """

    top: int
    left: int
    height: int
    width: int
    orientation: int
    size: int

    @staticmethod
    def of(parameters: Parameters, sample: int, view: int, size: int) -> View:
        """The geometry of one view of one sample of a batch."""
        top, left, height, width = parameters.box[sample, view].tolist()
        return View(top, left, height, width, int(parameters.orientation[sample, view]), size)

    def to_photo(self, place: Point) -> Point:
        """The point of the photo that is visible at ``place`` in the view."""
        x = self.size - place.x if self.orientation & MIRROR else place.x
        y = self.size - place.y if self.orientation & FLIP else place.y
        if self.orientation & TRANSPOSE:
            x, y = y, x
        return Point(self.left + x * self.width / self.size, self.top + y * self.height / self.size)

    def from_photo(self, place: Point) -> Point | None:
        """The point of the view that shows ``place`` of the photo; None if outside the crop."""
        x = (place.x - self.left) * self.size / self.width
        y = (place.y - self.top) * self.size / self.height
        if not (0 <= x < self.size and 0 <= y < self.size):
            return None
        if self.orientation & TRANSPOSE:
            x, y = y, x
        return Point(
            self.size - x if self.orientation & MIRROR else x,
            self.size - y if self.orientation & FLIP else y,
        )


def in_key(parameters: Parameters, sample: int, size: int, place: Point) -> Point | None:
    """The point of the key's crop that matches ``place`` in the query's; None if there is none."""
    query, key = (
        View.of(parameters, sample, view, size) for view in (QUERY_FOREGROUND, KEY_FOREGROUND)
    )
    return key.from_photo(query.to_photo(place))
