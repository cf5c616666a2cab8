"""The supervisor of a `Service`: ``python supervisor.py ROOT PORT``.

It listens, and runs ``ROOT/current/serve.py`` on that socket in a process that it forks; at HUP it
starts the release that is current by then, and ends the old one when the new one answers: no
request is turned away. Each host of each test has one, so it imports little.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

__all__: list[str] = []


def _supervise(root: str, port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    listener.setblocking(False)  # two releases accept from it for a moment
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    child = 0
    while True:
        program = os.path.realpath(f"{root}/current/serve.py")
        if os.path.exists(program):  # noqa: PTH110
            child = _replaced(child, program, listener)
        signal.sigwait([signal.SIGHUP])


def _replaced(old: int, program: str, listener: socket.socket) -> int:
    reader, writer = os.pipe()
    new = os.fork()  # to start another Python would take longer than all that it does
    if new == 0:
        os.close(reader)
        _become(program, listener.detach(), writer)
    os.close(writer)
    is_ready = os.read(reader, 1)
    os.close(reader)
    if old and is_ready:
        os.kill(old, signal.SIGTERM)
        os.waitpid(old, 0)
    return new


def _become(program: str, listener: int, writer: int) -> None:
    sys.argv = [program, str(listener), str(writer)]
    try:
        with open(program) as file:  # noqa: PTH123
            exec(compile(file.read(), program, "exec"), {"__file__": program})
    finally:
        os._exit(0)


if __name__ == "__main__":
    _supervise(sys.argv[1], int(sys.argv[2]))
