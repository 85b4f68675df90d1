"""The images of a data set, local or remote, listed in an order that never changes.

data.root -> paths and URLs (roots.py) -> folders walked, shards indexed -> ImageSet
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Literal

from cp2fast.config import Root
from cp2fast.data.image_sets.beton import is_beton
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.remote_shards import list_remote_beton, list_remote_shards
from cp2fast.data.image_sets.roots import Place, places, shown
from cp2fast.data.image_sets.several import joined
from cp2fast.data.image_sets.shards import (
    COMPRESSED_SUFFIXES,
    is_image,
    is_shard,
    left_out_in_words,
    list_members,
    no_members,
    suffix_of,
)
from cp2fast.data.image_sets.walk import VOC_PHOTOS, Found, classify, walk
from cp2fast.data.progress_line import ProgressLine
from cp2fast.data.remote import objects
from cp2fast.data.remote.disk_cache import DiskCache, default_folder
from cp2fast.data.remote.objects import CONNECTIONS, Remote
from cp2fast.data.remote.urls import is_url, join, public
from cp2fast.errors import UserError
from cp2fast.files import place_of


def list_images(
    root: Root, name_it: str = "set data.root to", disk: DiskCache | None = None
) -> ImageSet:
    """The images of ``root``; an image's number is its position in this list.

    A folder stands for every image below it, sorted by relative path. Folders may be nested and may
    be symbolic links; each real folder is read once, so links that form a loop are harmless. Hidden
    files and folders are skipped, as are the folders where systems keep thumbnails and deleted
    files, and masks and depth maps named as in WebDataset (``x.seg.png``). In a folder with the
    layout of PASCAL VOC only ``JPEGImages`` is used, without the masks beside it.

    A ``.tar`` file, or a folder that holds some, stands for the images inside (``shards.py``), and
    a ``.beton`` for its samples (``beton.py``). Each of these may be a URL of any file system of
    fsspec. A root may also be a pattern, a list of files, or several roots (``roots.py``).

    Args:
        root: folder, file, URL, pattern or several of these.
        name_it: how messages tell the user to set the root.
        disk: the cache of remote files; by default the user's.

    Raises:
        UserError: ``root`` is missing, is neither a folder nor a shard, holds no image or both
            images and shards, a folder below it cannot be read, or a shard is damaged.
    """
    disk = disk or DiskCache(default_folder())
    parts, rest = list[ImageSet](), Counter[str]()
    for kind, group in groupby(places(root), _kind):
        if kind == "images":
            parts += _single(list(group), disk)
        elif kind == "shards":
            parts += _shards(list(group), name_it, disk)
        else:
            others = list(group)
            rest.update(suffix_of(os.path.basename(one.name)) for one in others if _is_rest(one))
            parts += [_one(one.path, name_it, disk) for one in others if not _is_rest(one)]
    if not parts:
        there = f" (there are {left_out_in_words(rest)})" if rest else ""
        raise UserError(f"no images in {shown(root)}: {name_it} what holds images{there}")
    return _with_skipped(joined(parts), rest)


def is_container(name: str) -> bool:
    """Whether a file of this name holds several images, or would once it is unpacked."""
    name = os.path.basename(name)
    return is_shard(name) or is_beton(name) or name.lower().endswith(COMPRESSED_SUFFIXES)


def check_exists(root: Root) -> None:
    """Raise UserError unless ``root`` is a folder or a file, without listing the images."""
    for place in places(root):
        if place.origin == "named" and not is_url(place.name):
            _check_path(Path(place.name), "set data.root to")


def skipped_in_words(images: ImageSet) -> str | None:
    """A message on files that are not images; None if there are none."""
    return f"skipped: {left_out_in_words(images.skipped)}" if images.skipped else None


def _kind(place: Place) -> Literal["images", "shards", "other"]:
    """Images and shards are listed together with adjacent ones, all else separately."""
    name, remote_ = place.path, is_url(place.path)
    last = (name.partition("?")[0] if remote_ else name).rpartition("/")[2]
    if is_shard(last) and (remote_ or place_of(Path(name)) != "folder"):
        return "shards"
    if not is_image(last) or (not remote_ and place.origin == "named"):
        return "other"
    # Trust the list: checking each of a million files takes long on a network disk.
    is_folder = place.origin == "matched" and not remote_ and os.path.isdir(name)
    return "other" if is_folder else "images"


def _is_rest(place: Place) -> bool:
    """Whether a pattern matched a file that holds no images."""
    if place.origin != "matched" or is_beton(place.name):
        return False
    return place.found is not None or (not is_url(place.name) and os.path.isfile(place.name))


def _check_path(path: Path, name_it: str) -> None:
    place = place_of(path)
    if place == "nothing":
        raise UserError(f"there is no folder or file {path}: {name_it} your images")
    if place == "other":
        raise UserError(f"{path} is neither a folder nor a file: {name_it} your images")


def _single(group: list[Place], disk: DiskCache) -> Iterator[ImageSet]:
    """Images that are named individually."""
    for (is_remote, base), adjacent in groupby(group, lambda p: (is_url(p.path), p.base)):
        some = list(adjacent)
        names = [place.name for place in some]
        if not is_remote:
            first = Path(join(base, names[0]))
            if place_of(first) == "nothing":
                raise UserError(
                    f"{first} is listed, but not there: write the paths as seen from {base or '/'}"
                )
            yield ImageSet.of_files(names, base=base)
            continue
        yield ImageSet.of_objects(base, names, _described([place.item for place in some]), disk)


def _described(items: Sequence[Remote]) -> list[Remote]:
    """The objects, asking the server for those whose size no listing gave.

    Raises:
        UserError: one of them does not exist.
    """
    if all(item.size >= 0 for item in items):
        return list(items)
    progress = ProgressLine("looking up remote files", len(items))

    def described(item: Remote) -> Remote:
        found = item if item.size >= 0 else _object(item.url)
        progress.advance()
        return found

    with ThreadPoolExecutor(CONNECTIONS, "cp2fast-list") as pool:
        return list(pool.map(described, items))


def _object(url: str) -> Remote:
    """The object at this URL. Raises UserError if there is none."""
    found = objects.look_up(url)
    if found is None:
        raise UserError(f"{public(url)} is not there (404): restore it, or leave it out")
    return found


def _shards(group: list[Place], name_it: str, disk: DiskCache) -> Iterator[ImageSet]:
    for is_remote, some in groupby(group, lambda place: is_url(place.path)):
        if is_remote:
            yield list_remote_shards(_described([place.item for place in some]), disk)
            continue
        paths = [Path(place.path) for place in some]
        for path in paths:
            _check_path(path, name_it)
        yield _local_shards(paths)


def _one(name: str, name_it: str, disk: DiskCache) -> ImageSet:
    """The images of a folder or a ``.beton``."""
    if is_url(name):
        return _one_remote(name, name_it, disk)
    path = Path(name)
    _check_path(path, name_it)
    if place_of(path) == "folder":
        photos = path / VOC_PHOTOS
        return _list_folder(photos if place_of(photos) == "folder" else path, name_it)
    if is_beton(path.name):
        return ImageSet.of_beton(path)
    if path.name.lower().endswith(COMPRESSED_SUFFIXES):
        return _local_shards([path])
    if is_image(path.name):
        raise UserError(f"{path} is a single image: {name_it} its folder, {path.parent}")
    raise UserError(
        f"{path} is neither a folder nor a .tar shard nor a .beton: {name_it} what holds the "
        f"images, or @{path} if it lists them"
    )


def _one_remote(url: str, name_it: str, disk: DiskCache) -> ImageSet:
    if is_beton(url.partition("?")[0]):
        return list_remote_beton(_object(url), disk)
    listed = {path: (size, version) for path, size, version in objects.find(url)}
    found = classify(listed)
    if not listed:
        raise UserError(
            f"there is nothing at {public(url)} that can be listed: {name_it} what holds the images"
        )
    shards = _shards_directly_in(found, public(url), name_it)
    paths = shards or sorted(found.images)
    items = _described([Remote(join(url, path), *listed[path]) for path in paths])
    if shards:
        images = list_remote_shards(items, disk, listed)
    else:
        images = ImageSet.of_objects(url, paths, items, disk)
    return _with_skipped(images, found.skipped)


def _list_folder(root: Path, name_it: str) -> ImageSet:
    found = walk(str(root))
    shards = _shards_directly_in(found, str(root), name_it)
    if shards:
        images = _local_shards([root / shard for shard in shards])
    else:
        images = ImageSet.of_files(sorted(found.images), base=str(root))
    return _with_skipped(images, found.skipped)


def _shards_directly_in(found: Found, root: str, name_it: str) -> list[str]:
    """The shards directly in a folder, sorted; those in subfolders are counted as skipped.

    Raises:
        UserError: there are images as well, or neither.
    """
    shards = sorted(path for path in found.shards if "/" not in path)
    if found.images and shards:
        raise UserError(
            f"{root} holds both images ({root}/{min(found.images)}) and shards ({shards[0]}): keep "
            f"one kind there, or {name_it} a single shard"
        )
    if not found.images and not shards:
        raise UserError(f"no images in {root}: {_instead(root, found, name_it)}")
    if found.shards and not shards:
        found.skipped[".tar"] += len(found.shards)
    return shards


def _instead(root: str, found: Found, name_it: str) -> str:
    """A message on what a folder without images contains, and how to fix this."""
    if found.shards:
        folders = sorted({f"{root}/{path.rpartition('/')[0]}" for path in found.shards})
        more = f" (and {len(folders) - 1} more such folders)" if len(folders) > 1 else ""
        return f"its shards are in {folders[0]}{more}, so {name_it} that folder"
    advice = "it needs images (.jpg, .png, .tif and others), at any depth, or .tar shards"
    if found.compressed:
        return f"{advice} (unpack {min(found.compressed)})"
    there = left_out_in_words(found.skipped)
    return f"{advice} (there are {there})" if there else advice


def _local_shards(paths: Sequence[Path]) -> ImageSet:
    left_out = Counter[str]()
    members = [member for path in paths for member in list_members(path, left_out)]
    if not members:
        raise no_members(str(paths[0] if len(paths) == 1 else paths[0].parent), left_out)
    return _with_skipped(ImageSet.of_members(members), left_out)


def _with_skipped(images: ImageSet, more: Counter[str]) -> ImageSet:
    return replace(images, skipped=images.skipped + more)
