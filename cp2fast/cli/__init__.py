"""The command line: one file per command, which parses its words and calls the package."""

from __future__ import annotations

import errno
import logging
import os
import re
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import typer

# Importing a command adds it to the app, which lists the commands in this order.
# isort: off
from cp2fast.cli import (  # noqa: F401
    pretrain,
    finetune_voc,
    predict,
    bench,
    preview,
    probe,
    embed,
    doctor,
    pack,
    data_voc,
    data_check,
    export,
    models,
)

# isort: on
from cp2fast.cli.app import app
from cp2fast.cli.mistakes import mistake
from cp2fast.console import open_missing, printable, show_everything
from cp2fast.errors import UserError, is_out_of_memory

__all__ = ["app", "main"]

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Base of the errors of the command line itself; typer does not export it."""

_INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells; typer returns it."""

_SYSTEM_ERRORS = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "change its permissions"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room there"),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "check that disk"),
    **dict.fromkeys(
        (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR), "correct the path"
    ),
}
"""Errors of the file system that are no fault of cp2fast, and what the user can do."""


def main() -> None:
    """Run the command line; 0 done, 2 bad input, 130 interrupted, 1 anything else."""
    try:
        _main()
    except SystemExit as ended:
        if _is_joined():
            # The interpreter's end could abort the process: torch's threads still serve the group.
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(ended.code if isinstance(ended.code, int) else 1)
        raise


def _is_joined() -> bool:
    """Whether this process is in a group of torch's, which it leaves only after a success."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def _main() -> None:
    # Both are read when torch is first imported. Threads that spin while they wait for others take
    # the cores from those that decode and compose: on two busy cores a step took twice as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The first touch of large pages costs a quarter of that of small ones.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # Notebooks set a matplotlib backend that is not available to the commands they start.
    os.environ["MPLBACKEND"] = "agg"
    open_missing()
    show_everything()
    try:
        _run([_expand_home(word) for word in sys.argv[1:]])
    except UserError as error:
        sys.exit(_refuse(str(error)))
    except _UsageError as error:
        sys.exit(_refuse(mistake(error, sys.argv[1:])))
    except KeyboardInterrupt:
        print("cp2fast: interrupted", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        asked = re.search(r"tried to allocate (\d+) bytes", str(error))
        size = "" if asked is None else f" for {int(asked[1]) / (1 << 30):,.1f} GiB at once"
        sys.exit(
            _refuse(
                f"there is no memory{size}: choose smaller settings, such as data.batch_size, "
                "model.size or model.queue"
            )
        )
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left is flushed at exit
    except OSError as error:
        if error.errno not in _SYSTEM_ERRORS or error.filename is None:
            raise
        path = os.fsdecode(error.filename)
        fix = _SYSTEM_ERRORS[error.errno]
        sys.exit(_refuse(f"{path}: {error.strerror}: {fix}, or name another place"))


def _run(words: list[str]) -> None:
    """Run a command, raising the errors that typer and rich turn into an exit or an abort."""
    with _messages():
        try:
            if app(words, prog_name="cp2fast", standalone_mode=False) == _INTERRUPTED:
                raise KeyboardInterrupt
        except (SystemExit, typer.Abort) as ended:
            if isinstance(ended.__context__, BrokenPipeError | EOFError):
                raise ended.__context__ from None
            raise
        sys.stdout.flush()


def _stdout_is_closed() -> bool:
    """True after ``cp2fast models | head``, but not for a pipe between our own processes."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


@contextmanager
def _messages() -> Iterator[None]:
    """Print the package's log messages, which announce slow work; only in the main process."""
    logger, handler = logging.getLogger("cp2fast"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("cp2fast: %(message)s"))
    level = logger.level
    logger.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _expand_home(word: str) -> str:
    """Expand a ``~`` that the shell left, as in ``--out=~/runs``; settings expand their own."""
    option, equals, value = word.partition("=")
    if equals and option.startswith("--"):
        return option + equals + os.path.expanduser(value)
    return os.path.expanduser(word)


def _refuse(message: str) -> int:
    print(f"cp2fast: {printable(message)}", file=sys.stderr)
    return 2
