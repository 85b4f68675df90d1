"""Rows of a CSV file, whichever delimiter it has."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from cp2fast.errors import UserError
from cp2fast.files import cannot_read, open_plain, read_text, without_mark

_DELIMITERS = ",;\t"
_HEAD = 1 << 16


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows that are not blank, their cells without blanks around them, numbered from 1.

    The delimiter is the one that is most frequent in the first row.

    Raises:
        UserError: the file cannot be read, or is no CSV.
    """
    return _rows(read_text(path), path)


def first_rows(path: Path) -> list[tuple[int, list[str]]]:
    """``read_rows`` of the beginning of a file that may be large, or no CSV at all."""
    try:
        with open_plain(path) as file:
            begin = file.read(_HEAD)
    except OSError as error:
        raise cannot_read(path, error) from error
    return _rows(without_mark(begin).decode("utf-8", "replace"), path)


def _rows(text: str, path: Path) -> list[tuple[int, list[str]]]:
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(_DELIMITERS, key=first.count)
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    except csv.Error as error:
        raise UserError(f"{path} is no CSV file ({error}): save it again as CSV") from error
    return [(number, row) for number, row in enumerate(rows, 1) if any(row)]


def column(head: Sequence[str], names: Sequence[str]) -> int | None:
    """The place of the first of these names in the head of a table; None if there is none."""
    return next((head.index(name) for name in names if name in head), None)
