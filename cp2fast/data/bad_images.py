"""Unreadable images: counted, listed once each, and too many of them end the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from cp2fast.errors import UserError

_FEWEST_TRIED = 100


class BadImages:
    """How many images were tried, and which of them could not be read.

    Attributes:
        path: the list in the run folder, one image a line: its name, a tab, the reason. It is
            there from the first bad image on.
        tried: images tried so far, each time counted.
        bad: how many of them could not be read, each time counted.
    """

    def __init__(self, folder: Path, max_fraction: float) -> None:
        """Count from zero; images that ``folder`` already lists are not listed again."""
        self.path = folder / "bad_images.txt"
        self.tried = 0
        self.bad = 0
        self._max_fraction = max_fraction
        self._listed: set[str] = set()
        if self.path.exists():
            lines = self.path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
            self._listed = {line.partition("\t")[0] for line in lines}

    def record(self, tried: int, failed: Iterable[tuple[str, str]]) -> None:
        """Count ``tried`` images, of which those in ``failed`` (name, reason) are bad.

        Raises:
            UserError: of at least 100 tried, more than the allowed fraction is bad.
        """
        failed = list(failed)
        self.tried += tried
        self.bad += len(failed)
        self._list(failed)
        if self.tried >= _FEWEST_TRIED and self.bad > self._max_fraction * self.tried:
            raise UserError(
                f"{self.bad} of {self.tried} images could not be read (see {self.path}): mend or "
                f"remove them, or raise data.max_bad_fraction={self._max_fraction:g}"
            )

    def state_dict(self) -> dict[str, int]:
        """The counts, for a checkpoint."""
        return {"tried": self.tried, "bad": self.bad}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from the counts of a checkpoint."""
        self.tried, self.bad = state["tried"], state["bad"]

    def _list(self, failed: Iterable[tuple[str, str]]) -> None:
        reasons = dict(failed)
        new = {name: reason for name, reason in reasons.items() if name not in self._listed}
        if not new:
            return
        self._listed |= new.keys()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(f"{name}\t{reason}\n" for name, reason in new.items())
