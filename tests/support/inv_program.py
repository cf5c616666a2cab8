"""Run ``inv`` in a process of its own, forked from one that has imported its modules.

Starting Python and importing Invoke costs more than most tasks; here it is paid once for each
worker of the test run. The forked process is like a new one otherwise: its own arguments,
environment, folder and streams, and Python's own end. A test of the start itself, of the process's
arguments or of what it imports runs ``python -m invoke`` instead.

As a program (``python -m tests.support.inv_program FD``) it is the process that forks. A request
is a packet of JSON with the descriptors of the three streams; the answers are the process id, and
then the exit status.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import IO, Any

__all__ = ["Completed", "InvProgram"]

_MAX_PACKET = 200_000  # the environment of a test


class Completed(subprocess.CompletedProcess[bytes]):
    """The result of a forked process, with its largest memory in KiB."""

    max_rss_kib = 0


class InvProgram:
    """The process that forks; for one thread at a time to start, any to use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._started_with: Mapping[str, str] | None = None

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: bytes = b"",
        timeout: float = 30,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``inv`` with these arguments, as `subprocess.run` would.

        :raises subprocess.TimeoutExpired: it took longer, and was killed.
        """
        if self._started_with not in (None, settings := _settings(env)):
            return subprocess.run(
                [sys.executable, "-m", "invoke", *arguments],
                cwd=cwd, env=env, input=stdin, timeout=timeout, capture_output=True, check=False,
            )  # fmt: skip
        self._started_with = settings
        with contextlib.ExitStack() as ends:
            pipes = [os.pipe() for _ in range(3)]
            theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
            ours = [
                ends.enter_context(os.fdopen(pipes[0][1], "wb", buffering=0)),
                ends.enter_context(os.fdopen(pipes[1][0], "rb", buffering=0)),
                ends.enter_context(os.fdopen(pipes[2][0], "rb", buffering=0)),
            ]
            connection = ends.enter_context(self._connect())
            request = json.dumps({"argv": [*arguments], "cwd": str(cwd), "env": dict(env)})
            try:
                _send(connection, request.encode(), theirs)
            finally:
                for end in theirs:
                    os.close(end)
            pid = int(connection.recv(100))
            deadline = time.monotonic() + timeout
            pool = ends.enter_context(ThreadPoolExecutor(3))
            pool.submit(_feed, ours[0], stdin)
            output = [pool.submit(stream.read) for stream in ours[1:]]
            try:
                found = [each.result(deadline - time.monotonic()) for each in output]
                connection.settimeout(max(0.1, deadline - time.monotonic()))
                status, max_rss_kib = map(int, connection.recv(100).split())
            except (TimeoutError, FutureTimeoutError):  # two classes until Python 3.11
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(arguments), timeout) from None
        completed = Completed(list(arguments), status, *found)
        completed.max_rss_kib = max_rss_kib
        return completed

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._socket is not None:
            self._socket.close()
            self._process.wait(timeout=30)

    def _connect(self) -> socket.socket:
        """Return the test's end of a new connection to the process."""
        with self._lock:
            if self._socket is None:
                self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", __name__, str(theirs.fileno())],
                        pass_fds=[theirs.fileno()],
                        stdin=subprocess.DEVNULL,
                    )
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                _send(self._socket, b"connection", [theirs.fileno()])
        return ours


def _settings(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that Python reads when it starts."""
    return {name: value for name, value in env.items() if name.startswith("PYTHON")}


def _feed(stream: IO[bytes], content: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), stream:
        stream.write(content)


def _send(connection: socket.socket, packet: bytes, descriptors: Sequence[int]) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _MAX_PACKET)
    socket.send_fds(connection, [packet], descriptors)


def _serve(main: socket.socket) -> None:
    """Fork one process for each connection; it runs the request of that connection."""
    _import_all()
    while True:
        _, descriptors, _, _ = socket.recv_fds(main, 100, 1)
        if not descriptors:
            return
        pid = os.fork()
        if pid == 0:
            main.close()
            _watch(socket.socket(fileno=descriptors[0]))
            return
        os.close(descriptors[0])
        _reap()


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _watch(connection: socket.socket) -> None:
    """Fork the process of one request, and tell its exit status."""
    packet, streams, _, _ = socket.recv_fds(connection, _MAX_PACKET, 3)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _run(json.loads(packet), streams)
    for stream in streams:
        os.close(stream)
    connection.send(str(pid).encode())
    with contextlib.suppress(OSError):  # the test has given up
        _, status, usage = os.wait4(pid, 0)
        connection.send(f"{os.waitstatus_to_exitcode(status)} {usage.ru_maxrss}".encode())
    os._exit(0)


def _run(request: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Become ``python -m invoke``: its exit is this process's."""
    os.setpgid(0, 0)  # a signal to its process group must not end the process that forks
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = ["inv", *request["argv"]]
    sys.path[0] = request["cwd"]
    for number, name in ((1, "stdout"), (2, "stderr")):
        errors = "backslashreplace" if name == "stderr" else "strict"
        raw = io.BufferedWriter(io.FileIO(number, "wb", closefd=False))
        text = io.TextIOWrapper(raw, "utf-8", errors, line_buffering=name == "stderr")
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "rb", closefd=False)), "utf-8")
    from invoke.main import program

    program.run()
    sys.exit(0)


def _import_all() -> None:
    """Import all that a usual task needs; what is missing here is imported by the task."""
    import ringtasks.client.ssh_client
    import ringtasks.deploy
    import ringtasks.fleet
    import ringtasks.jobs
    import ringtasks.ssh.master.log_in
    import ringtasks.tasks
    import ringtasks.training
    import ringtasks.transfer  # noqa: F401  (for the processes that are forked)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _serve(socket.socket(fileno=int(sys.argv[1])))
