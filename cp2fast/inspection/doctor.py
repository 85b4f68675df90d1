"""What ``cp2fast doctor`` does: whether pretraining works here, and what would make it better."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from cp2fast import recipes
from cp2fast.bench.machine import machine, versions
from cp2fast.config import PretrainSettings
from cp2fast.console import open_console
from cp2fast.data.roots import shown
from cp2fast.errors import UserError
from cp2fast.inspection.advice import advise
from cp2fast.inspection.check import Check, Status
from cp2fast.inspection.data_health import DataHealth, Quantiles, examine
from cp2fast.inspection.installation import (
    check_backends,
    check_devices,
    check_sources,
    check_torch,
)
from cp2fast.run_folder import atomic_write

_STYLES: dict[Status, str] = {
    "ok": "green",
    "missing": "dim",
    "broken": "bold red",
    "advice": "yellow",
}
_SHOWN = 20
"""Broken files that are printed; the JSON file has all."""


def run_doctor(settings: PretrainSettings, report: Path | None) -> bool:
    """Test everything, say what came of it, and whether pretraining works here by default.

    Args:
        settings: as for a run; with ``data.root`` the data set is looked at too.
        report: a JSON file to write.

    Raises:
        UserError: there are no images in ``data.root``, or ``report`` exists already.
    """
    began = time.perf_counter()
    if report is not None and report.exists():
        raise UserError(f"{report} exists already: remove it, or name another file with --json")
    console = open_console()
    _show_machine(console)
    groups = {
        "sources": check_sources(),
        "backends of the copy-paste op": check_backends(),
        "devices": check_devices(),
        "torch": check_torch(),
    }
    checks = {title: _show_checks(console, title, found) for title, found in groups.items()}
    health = None
    if settings.data.root is not None:
        health = examine(settings, settings.data.root)
        _show_health(console, health, settings)
        checks["data"] = _show_checks(console, None, advise(health, settings))
        _show_bad(console, health)
    failing = [check for group in checks.values() for check in group if check.fails]
    _show_verdict(console, failing, settings)
    if report is not None:
        _write(report, checks, health, time.perf_counter() - began)
        console.print(f"wrote {report}")
    return not failing


def _show_machine(console: Console) -> None:
    this, installed = machine(), versions()
    console.print(
        f"[bold]cp2fast {installed['cp2fast']}[/] · Python {installed['python']} · "
        f"torch {installed['torch']} · {escape(str(this['cpu']))} · {this['cores']} cores · "
        f"{this['memory_gib']} GiB · GPU: {escape(str(this['gpu']))}",
        markup=True,
    )


def _show_checks(console: Console, title: str | None, found: Iterable[Check]) -> list[Check]:
    """Print each check as soon as it is done."""
    if title is not None:
        console.print(f"\n[bold]{title}[/]", markup=True)
    checks = []
    for check in found:
        checks.append(check)
        style = _STYLES[check.status]
        seconds = f" [dim]({check.seconds:.1f} s)[/]" if check.seconds >= 0.1 else ""
        console.print(
            f"  [{style}]{check.status:<8}[/] {check.name:<14} {escape(check.detail)}{seconds}",
            markup=True,
        )
        if check.fix is not None:
            console.print(f"{'':26}[bold]->[/] {escape(check.fix)}", markup=True)
    return checks


def _show_health(console: Console, health: DataHealth, settings: PretrainSettings) -> None:
    size, batch = settings.model.size, settings.data.batch_size
    console.print(
        f"\n[bold]data[/] {escape(health.root)}, for views of {size} px in batches of {batch}: "
        f"{escape(_pretrain(settings))}",
        markup=True,
    )
    rows = {
        "images": f"{health.images:,}, of which {health.sampled:,} were looked at",
        "formats": ", ".join(f"{kind} {count:,}" for kind, count in health.formats.items()),
    }
    if health.skipped:
        rows["skipped"] = ", ".join(f"{count:,} {kind}" for kind, count in health.skipped.items())
    if health.short_side and health.long_side and health.file_bytes:
        rows |= {
            "short side": f"{_spread(health.short_side)} px   (5 %, median, 95 %)",
            "long side": f"{_spread(health.long_side)} px",
            "file size": f"{_spread(health.file_bytes, 1 / 1024)} KiB",
        }
    kind = f" ({health.file_system})" if health.file_system else ""
    rows["reading"] = f"{health.read_milliseconds:.2f} ms a file{kind}"
    if health.decode_per_second:
        rows["decoding"] = f"{health.decode_per_second:,.0f} images/s on one thread"
    if health.images_per_second and health.epoch_seconds:
        rows["loading"] = (
            f"{health.images_per_second:,.0f} images/s by {health.source}: "
            f"{_duration(health.epoch_seconds)} an epoch, if the network keeps up"
        )
    for name, value in rows.items():
        console.print(f"  {name:<12} {value}")


def _show_bad(console: Console, health: DataHealth) -> None:
    for name, reason in health.bad[:_SHOWN]:
        console.print(f"    {name}: {reason}")
    if len(health.bad) > _SHOWN:
        console.print(f"    and {len(health.bad) - _SHOWN} more; --json FILE lists all")


def _show_verdict(console: Console, failing: list[Check], settings: PretrainSettings) -> None:
    if failing:
        names = ", ".join(check.name for check in failing)
        verdict = f"\n[bold red]pretraining does not work here:[/] {escape(names)}"
        console.print(verdict, markup=True)
    else:
        console.print("\n[bold green]pretraining works here[/]", end="", markup=True)
        console.print(f"; next: {_pretrain(settings)}")


def _pretrain(settings: PretrainSettings) -> str:
    """The command that trains with these settings; without ``data.root`` one for the user's own."""
    if settings.data.root is None:
        return "cp2fast pretrain r50 data.root=DIR"
    root = f"data.root={shown(settings.data.root)}"
    changes = {}
    for name in recipes.names(PretrainSettings):
        found = recipes.differences(recipes.load(PretrainSettings, name, [root]), settings)
        changes[name] = [f"{key}={_word(new)}" for key, _, new in found]
    nearest = min(changes, key=lambda name: (len(changes[name]), name))
    return " ".join(["cp2fast pretrain", nearest, root, *changes[nearest]])


def _word(value: object) -> str:
    return "null" if value is None else str(value)


def _write(
    path: Path, checks: dict[str, list[Check]], health: DataHealth | None, seconds: float
) -> None:
    content: dict[str, Any] = {
        "works": not any(check.fails for group in checks.values() for check in group),
        "seconds": seconds,
        "machine": machine(),
        "versions": versions(),
        "checks": {title: [asdict(check) for check in group] for title, group in checks.items()},
        "data": None if health is None else asdict(health),
    }
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")


def _spread(quantiles: Quantiles, scale: float = 1) -> str:
    return " / ".join(
        f"{scale * value:,.0f}" for value in (quantiles.low, quantiles.median, quantiles.high)
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
