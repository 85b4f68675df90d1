"""``cp2fast doctor``: tests whether pretraining works here, and suggests improvements."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape

from cp2fast import __version__, recipes
from cp2fast.bench.machine import machine, versions
from cp2fast.config import PretrainSettings
from cp2fast.console import open_console, printable
from cp2fast.data.roots import shown
from cp2fast.data.survey import as_typed
from cp2fast.errors import UserError
from cp2fast.files import refuse_target
from cp2fast.inspection.advice import advise
from cp2fast.inspection.check import Check, Status
from cp2fast.inspection.data_health import DataHealth, Quantiles, examine
from cp2fast.inspection.installation import (
    check_backends,
    check_devices,
    check_sources,
    check_torch,
)
from cp2fast.run_folder import atomic_write, write_json

_STYLES: dict[Status, str] = {
    "ok": "green",
    "missing": "dim",
    "broken": "bold red",
    "advice": "yellow",
}
_SHOWN = 20
"""Number of broken files that are printed; the JSON file lists all."""


def run_doctor(settings: PretrainSettings, report: Path | None, recipe: Path | None = None) -> bool:
    """Run all tests and print the results; returns whether pretraining works here by default.

    Args:
        settings: as for a run; if ``data.root`` is set, the data set is examined too.
        report: JSON file to write.
        recipe: YAML file to write, with the settings and those that suit the data set's values.

    Raises:
        UserError: there are no images in ``data.root``, ``report`` or ``recipe`` cannot be written,
            or a recipe is requested without a data set.
    """
    began = time.perf_counter()
    for option, path in (("--json", report), ("--write", recipe)):
        if path is not None:
            refuse_target(path, option)
    if recipe is not None and settings.data.root is None:
        raise UserError(f"--write {recipe} needs a data set to look at: name it with data.root=DIR")
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
        if recipe is not None:
            write_recipe(recipe, settings, health)
            console.print(f"wrote {recipe}; see it with: cp2fast preview {recipe}")
        if health.proposal.is_needed:
            settings = health.proposal.applied(settings)
    failing = [check for group in checks.values() for check in group if check.fails]
    _show_verdict(console, failing, f"cp2fast pretrain {recipe}" if recipe else _pretrain(settings))
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
    rows["values"] = ", ".join(f"{n} of {kind}" for kind, n in health.proposal.values.items())
    if health.proposal.mean is not None and health.proposal.std is not None:
        mean, std = as_typed(health.proposal.mean), as_typed(health.proposal.std)
        rows["colours"] = f"augment.mean={mean} augment.std={std}"
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


def write_recipe(path: Path, settings: PretrainSettings, health: DataHealth) -> None:
    """Write a recipe for ``cp2fast pretrain``: settings that are not defaults, and the proposal.

    Raises:
        UserError: it cannot be written.
    """
    found = health.proposal
    values = ", ".join(f"{count} of {kind}" for kind, count in found.values.items())
    lines = [
        f"# {printable(health.root)}: proposed by cp2fast doctor {__version__}.",
        f"# {sum(found.values.values())} of {health.images:,} images were looked at: {values}.",
    ]
    if found.range != "auto" and settings.data.range == "auto":
        lines.append("# data.range: the 1st to the 99th percentile of their values.")
    if found.bands is not None and settings.data.bands is None:
        lines.append(f"# data.bands, counted from 1: {found.reason}.")
    if settings.model.init is not None:
        lines.append("# augment.mean and std: those that the weights of model.init are used to.")
    tree: dict[str, dict[str, Any]] = {}
    for key, _, value in recipes.differences(PretrainSettings(), found.applied(settings)):
        section, _, name = key.partition(".")
        tree.setdefault(section, {})[name] = value
    content = PretrainSettings.model_validate(tree).model_dump(mode="json", exclude_unset=True)
    text = "\n".join([*lines, yaml.safe_dump(content, sort_keys=False)])
    try:
        with atomic_write(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): name another place") from error


def _show_verdict(console: Console, failing: list[Check], command: str) -> None:
    if failing:
        names = ", ".join(check.name for check in failing)
        verdict = f"\n[bold red]pretraining does not work here:[/] {escape(names)}"
        console.print(verdict, markup=True)
    else:
        console.print("\n[bold green]pretraining works here[/]", end="", markup=True)
        console.print(f"; next: {command}")


def _pretrain(settings: PretrainSettings) -> str:
    """The command that trains with these settings, or a template if ``data.root`` is not set."""
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
    if isinstance(value, tuple) and all(isinstance(item, int | float) for item in value):
        return as_typed(value)
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
    write_json(path, content)


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
