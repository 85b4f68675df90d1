"""``cp2fast`` and scripts in processes of their own, to be killed, stopped and frozen."""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.servers import free_port

ROOT = Path(__file__).parents[1]


class Process:
    """A running ``cp2fast`` or script, as ``subprocess.Popen`` would have started it with pipes.

    Attributes:
        pid: its id.
        stdout, stderr: what it says, as text.
        returncode: as of ``Popen``; None while it was not seen to have ended.
    """

    def __init__(self, *words: object, script: str | None = None, **environment: object) -> None:
        """Start ``cp2fast``, or as ``python -c`` a script, with these words.

        The environment is that of this process, with changes.
        """
        changes = {name: str(value) for name, value in environment.items()}
        request = {
            "words": list(map(str, words)),
            "script": script,
            "environment": {**os.environ, **changes},
            "folder": str(Path.cwd()),
        }
        (output, theirs), (errors, theirs_too), (self._report, report) = (
            os.pipe() for _ in range(3)
        )
        for_it = [theirs, theirs_too, report]
        socket.send_fds(_server(), [json.dumps(request).encode()], for_it)
        for descriptor in for_it:
            os.close(descriptor)
        self.stdout, self.stderr = os.fdopen(output), os.fdopen(errors)
        self.pid, self.returncode = self._reported(), None

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        if self.returncode is None and select.select([self._report], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        if self.returncode is None:
            self.returncode = self._reported()
            os.close(self._report)
        return self.returncode

    def communicate(self) -> tuple[str, str]:
        """All that it says, once it has ended."""
        with ThreadPoolExecutor(2) as pool:
            said = tuple(pool.map(lambda stream: stream.read(), (self.stdout, self.stderr)))
        self.wait()
        return said

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _reported(self) -> int:
        return int(struct.unpack("i", os.read(self._report, 4))[0])


_SIGNALS_ITSELF = """
import os, sys
import cp2fast

number, step, command, *settings, _, out = sys.argv[1:]

def send(row):
    if row["step"] == int(step):
        os.kill(os.getpid(), int(number))

train = {"pretrain": cp2fast.pretrain, "finetune-voc": cp2fast.finetune}[command]
train(overrides=settings, out=out, on_row=send)
"""


def signalled(number: int, step: int, *words: object) -> Process:
    """The run of these words, which gets a signal once it has logged a step, however fast it is.

    Args:
        number: of the signal.
        step: that is logged.
        words: a command, its settings, and ``--out DIR`` at the end.
    """
    return Process(int(number), step, *words, script=_SIGNALS_ITSELF)


def two_ranks(*words: object, script: str | None = None, **environment: object) -> list[Process]:
    """Two processes of one run, as torchrun would start them; nobody starts them again."""
    common = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "localhost"}
    common |= {"MASTER_PORT": free_port(), **environment}
    return [Process(*words, script=script, RANK=r, LOCAL_RANK=r, **common) for r in (0, 1)]


def torchrun(*words: object) -> Process:
    """torchrun itself, which starts the ranks as new processes."""
    return Process(*words, script="from torch.distributed.run import main; main()")


@functools.cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair()
    words = [sys.executable, "-m", "tests.process_server", str(theirs.fileno())]
    nothing = subprocess.DEVNULL
    subprocess.Popen(words, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=nothing, stdout=nothing)
    theirs.close()
    return ours
