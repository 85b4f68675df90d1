"""Unreadable images: count them, list each once, and end the run when there are too many."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from cp2fast.errors import UserError

_FEWEST_TRIED = 100
_LOG = logging.getLogger("cp2fast")


def allowed_bad(images: int, max_fraction: float) -> float:
    """How many bad images of ``images`` are too few to end a run.

    One always is, however few there are; none at a fraction of 0.
    """
    return max(1.0, max_fraction * images) if max_fraction else 0.0


class BadImages:
    """How many images were tried, and which of them could not be read.

    Attributes:
        path: the list in the run folder, one image a line: its name, a tab, the reason. It is
            there from the first bad image on. None where there is no folder: they are logged.
        tried: images tried so far, each time counted.
        bad: how many of them could not be read, each time counted.
    """

    def __init__(
        self, folder: Path | None, max_fraction: float, again: str = "the same command"
    ) -> None:
        """Count from zero; images that ``folder`` already lists are not listed again.

        Args:
            folder: folder of the list; None logs each bad image as a warning.
            max_fraction: ``data.max_bad_fraction``.
            again: the command that goes on with what too many bad images have ended.
        """
        self.path = None if folder is None else folder / "bad_images.txt"
        self.tried = 0
        self.bad = 0
        self._max_fraction = max_fraction
        self._again = again
        # Of this process only: what an earlier one has listed may be mended by now.
        self._found: set[str] = set()
        self._listed: set[str] = set()
        if self.path is not None and self.path.exists():
            lines = self.path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
            self._listed = {line.partition("\t")[0] for line in lines}

    def record(self, tried: int, failed: Iterable[tuple[str, str]], images: int) -> None:
        """Count ``tried`` images, of which those in ``failed`` (name, reason) are bad.

        Different bad images are held against the ``images`` of the data set: a figure that no order
        and no number of epochs changes. A large data set takes long to reach it; where most images
        are bad, the first hundred show it.

        Raises:
            UserError: more bad ones than ``allowed_bad``; or, in the first pass over at least 100
                images, a share of those tried that is nearer to all than to the allowed one.
        """
        failed = list(failed)
        self.tried += tried
        self.bad += len(failed)
        self._found |= {name for name, _ in failed}
        self._list(failed)
        allowed = allowed_bad(images, self._max_fraction)
        if len(self._found) > allowed:
            reason = f"and data.max_bad_fraction={self._max_fraction:g} allows {int(allowed):,}"
        elif self._is_most_of_first_pass(images):
            reason = f"most of those tried, with data.max_bad_fraction={self._max_fraction:g}"
        else:
            return
        raise UserError(
            f"at least {len(self._found):,} of the {images:,} images could not be read "
            f"(see {self.path or 'the log'}), {reason}: mend them, or go on without them by "
            f"{self._again} "
            "data.max_bad_fraction=1"
        )

    def state_dict(self) -> dict[str, int]:
        """The counts, for a checkpoint."""
        return {"tried": self.tried, "bad": self.bad}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from the counts of a checkpoint."""
        self.tried, self.bad = state["tried"], state["bad"]

    def _is_most_of_first_pass(self, images: int) -> bool:
        most = (1 + self._max_fraction) / 2
        return _FEWEST_TRIED <= self.tried <= images and self.bad > most * self.tried

    def _list(self, failed: Iterable[tuple[str, str]]) -> None:
        reasons = dict(failed)
        new = {name: reason for name, reason in reasons.items() if name not in self._listed}
        if not new:
            return
        self._listed |= new.keys()
        if self.path is None:
            for name, reason in new.items():
                _LOG.warning("%s: %s", name, reason)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(f"{name}\t{reason}\n" for name, reason in new.items())
