"""Unreadable images: count them, list each one once, and end the run if there are too many."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import starmap
from pathlib import Path

from cp2fast.errors import UserError

_FEWEST_TRIED = 100
_LOG = logging.getLogger("cp2fast")
_ESCAPES = str.maketrans({"\n": r"\n", "\r": r"\r", "\t": r"\t"})


def line_of(name: str, reason: str) -> str:
    """An image's line in a list of bad ones: name, tab, reason; breaks in these are escaped."""
    return f"{name.translate(_ESCAPES)}\t{reason.translate(_ESCAPES)}\n"


def allowed_bad(images: int, max_fraction: float) -> float:
    """How many bad images among ``images`` are tolerated.

    At least one always is, however few images there are; none if the fraction is 0.
    """
    return max(1.0, max_fraction * images) if max_fraction else 0.0


class BadImages:
    """How many images were tried, and which ones could not be read.

    Attributes:
        path: the list in the run folder, one image per line: its name, a tab, the reason. It is
            created with the first bad image, and shared by all processes of the run. None without a
            folder.
        tried: images tried so far, counting repeats.
        bad: how many of them could not be read, counting repeats.
    """

    def __init__(
        self, folder: Path | None, max_fraction: float, again: str = "the same command"
    ) -> None:
        """Start at zero; images that ``folder`` already lists are not listed again.

        Args:
            folder: folder of the list; None logs each bad image as a warning instead.
            max_fraction: ``data.max_bad_fraction``.
            again: the command that continues after too many bad images ended the run.
        """
        self.path = None if folder is None else folder / "bad_images.txt"
        self.tried = self.bad = 0
        self._max_fraction, self._again = max_fraction, again
        # Of this process only: images that an earlier one listed may have been repaired since.
        self._found: set[str] = set()
        self._listed: set[str] = set()  # as far as the file has been read
        self._read = 0

    def record(self, tried: int, failed: Iterable[tuple[str, str]], images: int) -> None:
        """Count ``tried`` images, of which those in ``failed`` (name, reason) are bad.

        The number of distinct bad images is compared with the ``images`` of the data set, so the
        limit does not depend on the order or the number of epochs. In a large data set it is
        reached late, so there is an early check for data sets in which most images are bad.

        Raises:
            UserError: more bad images than ``allowed_bad``; or, in the first pass, after at least
                100 images, a share of bad ones that is closer to 1 than to the allowed fraction.
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
            f"(see {self.path or 'the log'}), {reason}: fix them, or continue without them with "
            f"{self._again} data.max_bad_fraction=1"
        )

    def state_dict(self) -> dict[str, int]:
        """The counts, for a checkpoint."""
        return {"tried": self.tried, "bad": self.bad}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue with the counts of a checkpoint."""
        self.tried, self.bad = state["tried"], state["bad"]

    def _is_most_of_first_pass(self, images: int) -> bool:
        most = (1 + self._max_fraction) / 2
        return _FEWEST_TRIED <= self.tried <= images and self.bad > most * self.tried

    def _list(self, failed: Iterable[tuple[str, str]]) -> None:
        lines = {line.partition("\t")[0]: line for line in starmap(line_of, failed)}
        if self.path is None:
            for line in self._new(lines):
                _LOG.warning("%s", line.rstrip("\n").replace("\t", ": "))
        elif self._new(lines):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                with suppress(OSError):  # Not every file system has locks.
                    fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(self._read)
                others = file.read().decode(errors="surrogateescape").split("\n")
                self._listed |= {line.partition("\t")[0] for line in others}
                file.write("".join(self._new(lines)).encode(errors="surrogateescape"))
                self._read = file.tell()
        self._listed |= lines.keys()

    def _new(self, lines: Mapping[str, str]) -> list[str]:
        return [line for name, line in lines.items() if name not in self._listed]
