"""What a complete pretraining prints: its files, and commands that use its weights."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from cp2fast.data.scenes import DEMO_DATA, DEMO_RUN
from cp2fast.pretrain.objects import objects_in_colours
from cp2fast.pretrain.task import PretrainTask
from cp2fast.pretrain.watch import PICTURE
from cp2fast.train.run import Run


def report(run: Run[PretrainTask]) -> Iterator[str]:
    """Lines for the user; the commands are ready to type."""
    folder, path = run.folder, run.folder.path
    yield (
        f"checkpoint in {folder.checkpoints}; pictures {folder.preview}, {folder.curves} and "
        f"{path / PICTURE}"
    )
    if run.task.settings.data.root == DEMO_DATA:
        objects = objects_in_colours(path, DEMO_DATA / "SegmentationClass")
        if objects is not None:
            yield str(objects)
        init = "" if path == DEMO_RUN else f" {quote(f'model.init={path}')}"
        yield f"next, the same scenes with their masks: cp2fast finetune-voc{init}"
        yield "then, on your own photos: cp2fast pretrain r50 data.root=DIR"
    else:
        init = quote(f"model.init={path}")
        yield f"next, on images with masks: cp2fast finetune-voc data.root=DIR {init}"
        yield f"in other libraries: cp2fast export {quote(str(path))} --to timm"
        yield f"what it has learned: cp2fast preview --model {quote(str(path))}"
