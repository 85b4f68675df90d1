"""What ``cp2fast doctor`` prints: checks, the state of the data set, and what to run next."""

from __future__ import annotations

import shlex
from datetime import timedelta

from rich.console import Console
from rich.markup import escape

from cp2fast import recipes
from cp2fast.config import PretrainSettings
from cp2fast.data.image_sets.roots import shown
from cp2fast.data.survey import as_typed
from cp2fast.inspection.check import Check, Status
from cp2fast.inspection.data_health import DataHealth, Quantiles
from cp2fast.inspection.doctor import Diagnosis
from cp2fast.machine import machine, versions

_STYLES: dict[Status, str] = {
    "ok": "green",
    "missing": "dim",
    "broken": "bold red",
    "advice": "yellow",
}
_SHOWN = 20
"""Number of broken files that are printed; the JSON file lists all."""


class CheckLines:
    """Prints each check as soon as it is done, below the title of its group."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._group = ""

    def __call__(self, group: str, check: Check) -> None:
        """Print one check."""
        if group != self._group:
            self._console.print(f"\n[bold]{group}[/]", markup=True)
            self._group = group
        _show_check(self._console, check)


def show_machine(console: Console) -> None:
    """Print the machine and the versions that matter."""
    this, installed = machine(), versions()
    console.print(
        f"[bold]cp2fast {installed['cp2fast']}[/] · Python {installed['python']} · "
        f"torch {installed['torch']} · {escape(str(this['cpu']))} · {this['cores']} cores · "
        f"{this['memory_gib']} GiB · GPU: {escape(str(this['gpu']))}",
        markup=True,
    )


def show_data(console: Console, found: Diagnosis) -> None:
    """Print the state of the data set, advice, and the first broken files; nothing without one."""
    if found.data is None:
        return
    _show_health(console, found.data, found.settings)
    for check in found.checks["data"]:
        _show_check(console, check)
    _show_bad(console, found.data)


def show_verdict(console: Console, found: Diagnosis, command: str | None = None) -> None:
    """Print whether pretraining works here, and the command to run next."""
    if found.failing:
        names = ", ".join(check.name for check in found.failing)
        verdict = f"\n[bold red]pretraining does not work here:[/] {escape(names)}"
        console.print(verdict, markup=True)
    else:
        console.print("\n[bold green]pretraining works here[/]", end="", markup=True)
        console.print(f"; next: {command or _pretrain(found.proposal)}")


def _show_check(console: Console, check: Check) -> None:
    style = _STYLES[check.status]
    seconds = f" [dim]({check.seconds:.1f} s)[/]" if check.seconds >= 0.1 else ""
    console.print(
        f"  [{style}]{check.status:<8}[/] {check.name:<14} {escape(check.detail)}{seconds}",
        markup=True,
    )
    if check.fix is not None:
        console.print(f"{'':26}[bold]->[/] {escape(check.fix)}", markup=True)


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
    rows["reading"] = f"{health.read_milliseconds:.2f} ms a file"
    if health.decode_per_second:
        rows["decoding"] = f"{health.decode_per_second:,.0f} images/s on one thread"
    if health.images_per_second and health.epoch_seconds:
        rows["loading"] = (
            f"{health.images_per_second:,.0f} images/s by {health.source}: "
            f"{timedelta(seconds=round(health.epoch_seconds))} an epoch, if the network keeps up"
        )
    for name, value in rows.items():
        console.print(f"  {name:<12} {value}")


def _show_bad(console: Console, health: DataHealth) -> None:
    for name, reason in health.bad[:_SHOWN]:
        console.print(f"    {name}: {reason}")
    if len(health.bad) > _SHOWN:
        console.print(f"    and {len(health.bad) - _SHOWN} more; --json FILE lists all")


def _pretrain(settings: PretrainSettings) -> str:
    """The command that trains with these settings, to be pasted into a shell; without credentials.

    A template if ``data.root`` is not set.
    """
    if settings.data.root is None:
        return "cp2fast pretrain r50 data.root=DIR"
    root = f"data.root={shown(settings.data.root)}"
    changes = {}
    for name in recipes.names(PretrainSettings):
        found = recipes.differences(recipes.load(PretrainSettings, name, [root]), settings)
        changes[name] = [f"{key}={_word(new)}" for key, _, new in found if key != "data.root"]
    nearest = min(changes, key=lambda name: (len(changes[name]), name))
    return shlex.join(["cp2fast", "pretrain", nearest, root, *changes[nearest]])


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(_word, value))}]"
    if isinstance(value, float):
        return f"{value:.10g}"
    return "null" if value is None else str(value)


def _spread(quantiles: Quantiles, scale: float = 1) -> str:
    return " / ".join(
        f"{scale * value:,.0f}" for value in (quantiles.low, quantiles.median, quantiles.high)
    )
