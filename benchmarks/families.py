"""What works with each family of backbones: members of each go through the whole of cp2fast.

One step of pretraining, its checkpoint, one more step from there, one step of fine-tuning from that
run, a prediction, and exports that are read back by their libraries. Failures are recorded with
their message. The table of docs/weights.md is written from the result.

    python -m benchmarks.families --json benchmarks/results/families.json  # adds missing members
    python -m benchmarks.families --only convnext_atto
    python -m benchmarks.families --table benchmarks/results/families.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch

import cp2fast
from cp2fast.data.scenes import generate_scenes
from cp2fast.errors import UserError
from cp2fast.model.families import family_of

PAGE = Path(__file__).parents[1] / "docs/weights.md"
BEGIN, END = "<!-- families: written by benchmarks/families.py -->", "<!-- end of families -->"


class Member(NamedTuple):
    """A backbone of a family, and the head and image size that it is run with."""

    backbone: str
    head: str
    size: int = 64


MEMBERS = (
    Member("convnext_atto", "segformer"),
    Member("vit_small_patch14_reg4_dinov2", "linear", 56),
    Member("swin_tiny_patch4_window7_224", "segformer"),
    Member("mobilenetv4_conv_small", "fcn"),
    Member("vit_small_patch16_dinov3", "linear"),
    Member("efficientnet_lite0", "aspp"),
    Member("convnextv2_atto", "aspp"),
    Member("resnet50", "aspp"),
    Member("resnext50_32x4d", "segformer"),
    Member("swinv2_tiny_window8_256", "fcn"),
    Member("vit_small_patch16_224", "aspp"),
    Member("vit_small_patch14_dinov2", "fcn", 56),
    Member("convnext_tiny", "aspp"),
)
COLUMNS = ("pretrain", "resume", "fine-tune", "predict", "timm", "safetensors", "onnx")


def run(member: Member, data: Path, folder: Path) -> dict[str, Any]:
    """The outcome of each step: ``ok`` or an error; nothing more is tried without a pretraining."""
    pretrained, tuned = folder / "pretrain", folder / "finetune"
    common: dict[str, object] = {
        "data.root": data,
        "data.workers": 1,
        "train.device": "cpu",
        "train.steps": 1,
        "model.size": member.size,
    }
    first = common | {
        "model.backbone": member.backbone,
        "model.head": member.head,
        "model.head_channels": 16,
        "model.embedding": 16,
        "model.queue": 16,
        "data.batch_size": 3,
    }

    def pretrain() -> None:
        cp2fast.pretrain("r50", first, out=pretrained, quiet=True)

    def resume() -> None:
        more = {"train.steps": 2}
        again = cp2fast.pretrain(None, more, out=pretrained, resume=True, quiet=True)
        if again.step != 2:
            raise RuntimeError(f"{again.step} steps")

    def finetune() -> None:
        start = common | {
            "model.init": str(pretrained),
            "data.batch_size": 2,
            "data.short_side": 72,
        }
        cp2fast.finetune("voc_r50", start, out=tuned, quiet=True)

    def predict() -> None:
        found = cp2fast.predict(tuned, data / "JPEGImages", folder / "masks")
        if found.unreadable:
            raise RuntimeError(f"unreadable: {found.unreadable}")

    def export(to: Any) -> Callable[[], object]:
        source = pretrained if to == "timm" else tuned
        return lambda: cp2fast.export(
            source, to, folder / f"w.{'onnx' if to == 'onnx' else 'safetensors'}"
        )

    steps: dict[str, Callable[[], object]] = dict(
        zip(COLUMNS, (pretrain, resume, finetune, predict), strict=False)
    )
    outcome: dict[str, Any] = {
        "backbone": member.backbone,
        "head": member.head,
        "size": member.size,
        "family": family_of(member.backbone).title,
    }
    for name in COLUMNS:
        try:
            steps.get(name, export(name))()
            outcome[name] = "ok"
        except (UserError, RuntimeError, AssertionError, ValueError) as error:
            outcome[name] = " ".join(str(error).split())[:200]
        for written in folder.glob("w.*"):
            written.unlink()
        if outcome["pretrain"] != "ok":
            break
    if (pretrained / "checkpoints").is_dir():
        found = cp2fast.load(pretrained)
        outcome["stride"] = found.feature_stride
        outcome["logits_stride"] = found.stride
        outcome["million_parameters"] = sum(p.numel() for p in found.backbone.parameters()) / 1e6
    return outcome


def table(rows: list[dict[str, Any]]) -> str:
    """The result as a Markdown table."""
    head = ["family", "`model.backbone`", "stride", "head", *COLUMNS]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row["family"], f"`{row['backbone']}`", str(row.get("stride", "")), row["head"]]
        cells += [{"ok": "yes"}.get(row.get(name, ""), "no") for name in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_table(rows: list[dict[str, Any]]) -> None:
    """Replace the table between the two marks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Run the members and save the result, or write the table of a saved one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", help="backbones, with commas between them")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--table", type=Path, help="a saved result: write docs/weights.md from it")
    options = parser.parse_args()
    if options.table:
        write_table(json.loads(options.table.read_text())["families"])
        return
    names = options.only.split(",") if options.only else [m.backbone for m in MEMBERS]
    kept = options.json is not None and options.json.is_file()
    rows = json.loads(options.json.read_text())["families"] if kept else []
    done = {row["backbone"] for row in rows}
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "scenes"
        generate_scenes(data, 6, seed=0)
        for member in (m for m in MEMBERS if m.backbone in names and m.backbone not in done):
            folder = Path(temporary) / "runs"
            began = time.perf_counter()
            rows.append(run(member, data, folder))
            print(f"{time.perf_counter() - began:5.0f} s", json.dumps(rows[-1]), flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            if options.json:
                versions = {"torch": torch.__version__, "timm": timm.__version__}
                result = {"benchmark": "families", "versions": versions, "families": rows}
                options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
