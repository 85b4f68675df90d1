"""Forks processes that have cp2fast imported already, which else takes each of them six seconds.

Started by processes.py. For each request on the socket it forks a keeper, which forks the process
itself, and reports the process's id and its exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import struct
import sys
from typing import Any

from cp2fast.cli import main

PRELOADED = ("cp2fast.pretrain.build", "cp2fast.finetune.build", "torch.utils.tensorboard")


def serve(connection: socket.socket) -> None:
    """Until the other end is closed. No thread may be started here: a fork would lose it."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    for module in PRELOADED:
        importlib.import_module(module)
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        if not message:
            return
        if os.fork() == 0:
            connection.close()
            keep(json.loads(message), *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def keep(request: dict[str, Any], output: int, errors: int, report: int) -> None:
    """Start the process and wait for it; only the process returns from here."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process == 0:
        os.close(report)
        become(request, output, errors)
        return
    os.close(output)
    os.close(errors)
    os.write(report, struct.pack("i", process))
    _, status = os.waitpid(process, 0)
    os.write(report, struct.pack("i", os.waitstatus_to_exitcode(status)))
    os._exit(0)


def become(request: dict[str, Any], output: int, errors: int) -> None:
    """``python -m cp2fast``, or the script, with the words, environment and folder asked for."""
    for descriptor, standard in ((output, 1), (errors, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    # New ones, as these are not at the end of a file.
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = ["cp2fast", *request["words"]]
    if request["script"] is None:
        main()
    else:
        exec(request["script"], {"__name__": "__main__"})  # noqa: S102


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as other_end:
        serve(other_end)
