"""Public layouts in miniature, as their owners and tools write them: the same scenes in each."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from cp2fast.data.scenes import voc_palette

COUNT = 6
"""Scenes: of three classes, numbered 0 to 2; the last two are for validation where there is one."""


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 ``[H, W, 3]`` and labels ``[H, W]``."""
    random = np.random.default_rng(number)
    height, width = 36 + number, 48
    labels = np.zeros((height, width), np.uint8)
    labels[height // 2 :] = 1
    top, left = (int(random.integers(2, side - 18)) for side in (height, width))
    labels[top : top + 14, left : left + 16] = 2
    colours = np.array([[90, 140, 220], [100, 100, 90], [200, 60, 40]], np.uint8)
    image = colours[labels].astype(int) + random.integers(-20, 20, (height, width, 1))
    return image.clip(0, 255).astype(np.uint8), labels


def photo(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene(number)[0]).save(path, quality=92)


def grey(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def names() -> list[tuple[int, str]]:
    return [(number, "train" if number < COUNT - 2 else "val") for number in range(COUNT)]


def voc(root: Path) -> Path:
    """VOCdevkit: palette masks with a border of 255, lists, VOC's 21 classes."""
    for number, split in names():
        name = f"2007_{number:06d}"
        photo(root / f"JPEGImages/{name}.jpg", number)
        labels = scene(number)[1] * 7  # background, car, train... as VOC numbers them
        labels[0] = 255
        mask = Image.fromarray(labels)
        mask.putpalette(voc_palette())
        path = root / f"SegmentationClass/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask.save(path)
        listed = root / f"ImageSets/Segmentation/{split}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        with listed.open("a") as file:
            file.write(f"{name}\n")
    return root


def ade20k(root: Path) -> Path:
    """ADEChallengeData2016: numbers from 1, 0 is everything else, names in objectInfo150.txt."""
    lines = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
    known = {1: "wall", 2: "building, edifice", 3: "sky"}
    lines += [f"{n}\t0.1\t10\t2\t1\t{known.get(n, f'thing {n}')}" for n in range(1, 151)]
    root.mkdir(parents=True)
    (root / "objectInfo150.txt").write_text("\n".join(lines) + "\n")
    folders = {"train": ("training", "ADE_train"), "val": ("validation", "ADE_val")}
    for number, split in names():
        folder, begin = folders[split]
        name = f"{begin}_{number + 1:08d}"
        photo(root / f"images/{folder}/{name}.jpg", number)
        values = scene(number)[1] + 1
        values[:3] = 0
        grey(root / f"annotations/{folder}/{name}.png", values)
    return root


def cityscapes(root: Path) -> Path:
    """leftImg8bit and gtFine with folders of cities; four files an image beside the labels."""
    numbers = np.array([23, 7, 26], np.uint8)  # sky, road, car
    for number, split in names():
        city = ("aachen", "bochum")[number % 2] if split == "train" else "frankfurt"
        stem = f"{city}_{number:06d}_000019"
        photo(root / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png", number)
        values = numbers[scene(number)[1]]
        values[:2] = 3  # out of roi: not evaluated
        begin = root / f"gtFine/{split}/{city}/{stem}_gtFine"
        grey(Path(f"{begin}_labelIds.png"), values)
        grey(Path(f"{begin}_instanceIds.png"), values.astype(np.uint16) * 1000)
        grey(Path(f"{begin}_color.png"), np.zeros((*values.shape, 4), np.uint8))
        Path(f"{begin}_polygons.json").write_text("{}")
    return root


def cvat(root: Path) -> Path:
    """CVAT's "Segmentation mask 1.1": colours, labelmap.txt, one list that is not split."""
    colours = {"background": (0, 0, 0), "road": (250, 50, 83), "car": (36, 179, 83)}
    root.mkdir(parents=True)
    lines = [f"{name}:{r},{g},{b}::" for name, (r, g, b) in colours.items()]
    (root / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *lines]))
    table = np.array(list(colours.values()), np.uint8)
    listed = root / "ImageSets/Segmentation/default.txt"
    listed.parent.mkdir(parents=True)
    for number in range(COUNT):
        photo(root / f"JPEGImages/frame_{number:06d}.jpg", number)
        grey(root / f"SegmentationClass/frame_{number:06d}.png", table[scene(number)[1]])
        grey(root / f"SegmentationObject/frame_{number:06d}.png", table[scene(number)[1]])
    listed.write_text("".join(f"frame_{number:06d}\n" for number in range(COUNT)))
    return root


def coco(root: Path) -> Path:
    """COCO 2017: polygons, run lengths, a crowd; image folders named by year."""
    categories = [{"id": 3, "name": "car"}, {"id": 149, "name": "road"}]
    for split in ("train", "val"):
        images, annotations = [], []
        for number in [n for n, of in names() if of == split]:
            name = f"{number:012d}.jpg"
            photo(root / f"{split}2017/{name}", number)
            labels = scene(number)[1]
            height, width = labels.shape
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            rows, columns = np.nonzero(labels == 2)
            box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            polygon = [box[0], box[1], box[2], box[1], box[2], box[3], box[0], box[3]]
            common = {"image_id": number, "iscrowd": 0}
            annotations.append(
                common
                | {"id": 10 * number, "category_id": 3, "area": 224}
                | {"segmentation": [[float(place) for place in polygon]]}
            )
            road = np.zeros((height, width), np.uint8)
            road[height // 2 :] = 1
            annotations.append(
                common
                | {"id": 10 * number + 1, "category_id": 149, "area": int(road.sum())}
                | {"segmentation": {"size": [height, width], "counts": run_lengths(road)}}
            )
            crowd = np.zeros((height, width), np.uint8)
            crowd[:2, :4] = 1
            annotations.append(
                {"image_id": number, "iscrowd": 1, "id": 10 * number + 2, "category_id": 3}
                | {"area": 8, "segmentation": {"size": [height, width]}}
                | {"segmentation": {"size": [height, width], "counts": run_lengths(crowd)}}
            )
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = root / f"annotations/instances_{split}2017.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        (path.parent / f"captions_{split}2017.json").write_text(json.dumps({"images": images}))
    return root


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths: down the columns, beginning with zeros."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, len(flat)]).tolist()
    return [0, *runs] if flat[0] else runs
