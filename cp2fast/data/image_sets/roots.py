"""Expand a data set's roots: patterns, lists of files, and several of these.

    data.root -> the paths and URLs that it stands for, in order

A name that exists is taken literally, whatever characters it contains.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from cp2fast.config import Root
from cp2fast.data.image_sets.walk import files_below
from cp2fast.data.remote import objects
from cp2fast.data.remote.objects import Remote
from cp2fast.data.remote.urls import is_url, join, public, without_file_scheme
from cp2fast.errors import UserError
from cp2fast.files import cannot_read, read_bytes, without_mark

_MAGIC = re.compile(r"[*?\[]")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_IN_BRACES = 1_000_000


class Place(NamedTuple):
    """A path or URL of a data set."""

    name: str
    origin: Literal["named", "listed", "matched"] = "named"
    """Named directly, listed in a file or in braces, or matched by a pattern."""
    base: str = ""
    """Folder of the list, to which a relative name in it refers."""
    found: Remote | None = None
    """The remote object, if a pattern matched it; None for a folder."""

    @property
    def path(self) -> str:
        """A path or URL that can be opened."""
        return join(self.base, self.name)

    @property
    def item(self) -> Remote:
        """The remote object at this URL; its size is -1 if nothing has described it yet."""
        return self.found or Remote(self.path, -1, 0)


def places(root: Root) -> Iterator[Place]:
    """The places that a root stands for, in order; matches of a pattern are sorted.

    Raises:
        UserError: a list cannot be read, or what a pattern or braces stand for is not there.
    """
    if isinstance(root, tuple):
        for one in root:
            yield from places(one)
        return
    text = without_file_scheme(str(root))
    if not is_url(text) and os.path.lexists(text):
        yield Place(text)
    elif text.startswith("@"):
        yield from _listed(without_file_scheme(text[1:]))
    else:
        for name in braces_expanded(text):
            yield from _matches(name, is_one_of_several=name != text)


def shown(root: Root) -> str:
    """A root as shown in messages: without credentials."""
    if isinstance(root, tuple):
        return f"[{', '.join(map(shown, root))}]"
    text = str(root)
    return f"@{public(text[1:])}" if text.startswith("@") else public(text)


def public_root(root: Root) -> Root:
    """A root as stored in ``config.yaml``: without credentials."""
    if isinstance(root, Path):
        return root
    return tuple(map(shown, root)) if isinstance(root, tuple) else shown(root)


def braces_expanded(text: str) -> Iterator[str]:
    """Expand ``a{1..3}`` and ``{a,b}`` as a shell does.

    Numbers of a range are padded to the width of the first: ``{000..127}``.
    """
    found = next((match for match in _BRACES.finditer(text) if _choices(match[1])), None)
    if found is None:
        yield text
        return
    for choice in _choices(found[1]):
        yield from braces_expanded(text[: found.start()] + choice + text[found.end() :])


def _choices(inside: str) -> list[str]:
    """The alternatives for braces with this content; none if a shell would not expand them."""
    if numbers := _RANGE.fullmatch(inside):
        first, last = int(numbers[1]), int(numbers[2])
        if abs(last - first) >= _MOST_IN_BRACES:
            raise UserError(
                f"{{{inside}}} stands for more than {_MOST_IN_BRACES:,} names: write them into a "
                "list, and name it @LIST"
            )
        step = 1 if first <= last else -1
        return [str(number).zfill(len(numbers[1])) for number in range(first, last + step, step)]
    return inside.split(",") if "," in inside else []


def _matches(name: str, *, is_one_of_several: bool) -> Iterator[Place]:
    # In the query of a URL, a question mark does not belong to a pattern.
    if not _MAGIC.search(name.partition("?")[0] if name.startswith("http") else name):
        is_listed = is_one_of_several and not is_url(name)
        if is_listed and not os.path.lexists(name):
            raise UserError(f"there is no {name}: leave it out of the braces, or restore it")
        yield Place(name, "listed" if is_listed else "named")
        return
    if is_url(name):
        found = [Place(one, "matched", found=item) for one, item in objects.glob(name)]
    else:
        paths = set(_paths(os.path.expanduser(name)))
        found = [Place(one, "matched") for one in sorted(paths)]
    if not found:
        raise UserError(f"nothing matches {shown(name)}: name something that exists")
    yield from found


def _paths(pattern: str) -> Iterator[str]:
    """The local paths that match a pattern, in which ``**`` stands for any number of folders.

    ``glob`` alone would follow links that form a loop, and list their images repeatedly.
    """
    parts = pattern.split("/")
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    place = parts.index("**")
    above = "/".join(parts[:place]) or ("/" if place else "")
    rest = "/".join(parts[place + 1 :])
    for start in glob.iglob(above) if above else [""]:
        if not rest:
            yield start or "."
            continue
        for folder, entry in files_below(start, lambda *_: None):
            if entry is None:
                yield from _paths(os.path.join(glob.escape(folder), rest))


def _listed(path: str) -> Iterator[Place]:
    """The lines of a list of files, or the output of ``find -print0``."""
    if is_url(path):
        content = objects.read(path, 0, -1, objects.FIRST_PATIENCE)
        base = path.rpartition("/")[0]
    else:
        try:
            content = read_bytes(os.path.expanduser(path))
        except OSError as error:
            raise cannot_read(Path(path), error) from error
        base = os.path.dirname(os.path.expanduser(path))
    content = without_mark(content)
    separator = b"\0" if b"\0" in content else b"\n"
    lines = (os.fsdecode(line.rstrip(b"\r")) for line in content.split(separator))
    names = [without_file_scheme(line) for line in lines if line]
    if not names:
        raise UserError(f"{public(path)} lists nothing: write one path or URL per line")
    for name in names:
        is_whole = is_url(name) or os.path.isabs(name)
        yield Place(name, "listed", "" if is_whole else base)
