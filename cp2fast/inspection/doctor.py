"""``cp2fast doctor``: tests whether pretraining works here, and what would help."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from cp2fast import __version__, recipes
from cp2fast.config import MIN_IMAGES_FOR_BATCH_BACKGROUNDS, PretrainSettings
from cp2fast.console import printable
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.image_sets.roots import public_root
from cp2fast.data.remote.disk_cache import DiskCache
from cp2fast.errors import UserError
from cp2fast.files import path_of, refuse_target
from cp2fast.inspection.advice import advise, batch_of_few
from cp2fast.inspection.check import Check
from cp2fast.inspection.data_health import DataHealth, examine
from cp2fast.inspection.installation import (
    check_backends,
    check_devices,
    check_sources,
    check_torch,
)
from cp2fast.machine import machine, versions
from cp2fast.recipes import Overrides
from cp2fast.run_folder import atomic_write

_GROUPS = {
    "sources": check_sources,
    "backends of the copy-paste op": check_backends,
    "devices": check_devices,
    "torch": check_torch,
}


@dataclass(frozen=True)
class Diagnosis:
    """What ``doctor`` has found with ``settings``.

    Attributes:
        checks: outcomes by group: those of the installation, and ``data``.
        data: state of the data set; None if ``data.root`` is not set.
    """

    settings: PretrainSettings
    checks: dict[str, list[Check]]
    data: DataHealth | None
    seconds: float

    @property
    def failing(self) -> list[Check]:
        """The checks that fail, of what pretraining needs."""
        return [check for group in self.checks.values() for check in group if check.fails]

    @property
    def works(self) -> bool:
        """Whether pretraining works here."""
        return not self.failing

    @property
    def proposal(self) -> PretrainSettings:
        """The settings with the range and the bands that suit the data set, if it needs them."""
        if self.data is None or not self.data.proposal.is_needed:
            return self.settings
        return self.data.proposal.applied(self.settings)

    def to_json(self) -> dict[str, Any]:
        """As plain values, with the machine and the versions of what is installed."""
        return {
            "works": self.works,
            "seconds": self.seconds,
            "machine": machine(),
            "versions": versions(),
            "checks": {
                title: [asdict(one) for one in group] for title, group in self.checks.items()
            },
            "data": None if self.data is None else asdict(self.data),
        }

    def write_recipe(self, path: str | Path) -> None:
        """Write a recipe: settings that are not defaults, and those that suit the data set.

        ``data.root`` is written without credentials.

        Raises:
            UserError: no data set was examined, or the file exists already or cannot be written.
        """
        if self.data is None:
            raise UserError(f"a recipe {path} needs a data set to look at: name data.root")
        path = path_of(path)
        refuse_target(path, "--write")
        lines, proposed = _recipe(self.settings, self.data)
        tree: dict[str, dict[str, Any]] = {}
        for key, _, value in recipes.differences(PretrainSettings(), proposed):
            section, _, name = key.partition(".")
            tree.setdefault(section, {})[name] = value
        content = PretrainSettings.model_validate(tree).model_dump(mode="json", exclude_unset=True)
        text = "\n".join([*lines, yaml.safe_dump(content, sort_keys=False)])
        try:
            with atomic_write(path) as file:
                file.write(text.encode())
        except OSError as error:
            raise UserError(
                f"cannot write {path} ({error.strerror}): name another place"
            ) from error


def doctor(
    settings: PretrainSettings | str | Path | None = None,
    overrides: Overrides = (),
    *,
    on_check: Callable[[str, Check], None] = lambda group, check: None,
) -> Diagnosis:
    """Test what works here, and the images of ``data.root`` if it is set.

    Decodes, composes and trains a few tiny pictures with everything that is installed.

    Args:
        settings: settings, or a recipe by name or file; None is the defaults.
        overrides: settings by key.
        on_check: called with the group and the outcome of each test of the installation.

    Raises:
        UserError: bad input, or there are no images in ``data.root``.
    """
    began = time.perf_counter()
    settings = recipes.load(PretrainSettings, settings, overrides)
    root, images = settings.data.root, None
    if root is not None:  # first, because the installation takes long to test
        images = list_images(root, disk=DiskCache.of(settings.data))
    checks: dict[str, list[Check]] = {}
    for group, test in _GROUPS.items():
        checks[group] = []
        for check in test():
            checks[group].append(check)
            on_check(group, check)
    health = None
    if root is not None and images is not None:
        health = examine(settings, root, images)
        checks["data"] = list(advise(health, settings))
    return Diagnosis(settings, checks, health, time.perf_counter() - began)


def _recipe(settings: PretrainSettings, health: DataHealth) -> tuple[list[str], PretrainSettings]:
    """The comments of the proposed recipe, and its settings."""
    found = health.proposal
    values = ", ".join(f"{count} of {kind}" for kind, count in found.values.items())
    lines = [
        f"# {printable(health.root)}: proposed by cp2fast doctor {__version__}.",
        f"# {sum(found.values.values())} of {health.images:,} images were looked at: {values}.",
    ]
    if found.range != "auto" and settings.data.range == "auto":
        lines.append("# data.range: the 1st to the 99th percentile of those of more than 8 bits.")
    if found.bands is not None and settings.data.bands is None:
        lines.append(f"# data.bands, counted from 1: {found.reason}.")
    if settings.model.init is not None:
        lines.append("# augment.mean and std: those that the weights of model.init are used to.")
    proposed = found.applied(settings)
    if settings.data.root is not None:
        proposed = proposed.with_values("data", root=public_root(settings.data.root))
    if MIN_IMAGES_FOR_BATCH_BACKGROUNDS <= health.images < proposed.data.batch_size:
        lines.append("# data.batch_size: so few images fill no larger batch.")
        proposed = proposed.with_values("data", batch_size=batch_of_few(health.images))
    return lines, proposed
