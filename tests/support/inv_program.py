"""Run ``inv`` or ``ringtasks`` in a process forked from one that has imported its modules.

Starting Python and importing Invoke costs more than most tasks; here it is paid once for each
worker of the test run. The forked process is like a new one otherwise: its own arguments,
environment, folder and streams, and what it does at its exit. A test of the start itself, of the
process's arguments or of what it imports runs ``python -m invoke`` instead.

As a program (``python -m tests.support.inv_program FD``) it is the process that forks. A request
is a packet of JSON with the descriptors of the three streams; the answers are the process id, and
then the exit status.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import IO, Any

__all__ = ["PROGRAMS", "Completed", "Forked", "InvProgram"]

_ROOT = Path(__file__).parents[2]
_MAX_PACKET = 200_000  # the environment of a test
#: The programs, and how each is started without a fork.
PROGRAMS = {
    "inv": [sys.executable, "-m", "invoke"],
    "ringtasks": [str(Path(sys.executable).with_name("ringtasks"))],
}
#: The exit status of a forked process, once it has one.
_STATUS: list[int] = []
#: Modules that few tasks import, and those that are programs.
_LEFT_OUT = ("ringtasks.testing", "ringtasks.output.plots")
#: Modules of libraries that functions import.
_IMPORTED_LATE = (
    "ClusterShell.NodeSet",
    "encodings.idna",
    "invoke.main",
    "fabric",
    "numpy",
    "paramiko",
    "rich.progress",
    "rich.table",
    "ringtasks.output.plots.selection",
    "yaml",
)


class Completed(subprocess.CompletedProcess[Any]):
    """The result of a forked process, with its largest memory in KiB."""

    max_rss_kib = 0


class Forked:
    """A forked process, as `subprocess.Popen` has it."""

    def __init__(self, arguments: Sequence[str], pid: int, connection: socket.socket) -> None:
        self.args = list(arguments)
        self.pid = pid
        self.stdin: IO[Any] | None = None
        self.stdout: IO[Any] | None = None
        self.stderr: IO[Any] | None = None
        self.returncode: int | None = None
        self.max_rss_kib = 0
        self._connection = connection

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()
        self.wait()

    def _close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def poll(self) -> int | None:
        """Return its exit status, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status when it has ended."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                answer = self._connection.recv(100)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self.returncode, self.max_rss_kib = map(int, answer.split())
            self._connection.close()
        return self.returncode

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        """Send the input; return all output, when the process has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout

        def left() -> float | None:
            return None if deadline is None else max(0.1, deadline - time.monotonic())

        with ThreadPoolExecutor(3) as pool:
            if _is_open(self.stdin):
                pool.submit(_feed, self.stdin, input)
            streams = [each if _is_open(each) else None for each in (self.stdout, self.stderr)]
            output = [None if each is None else pool.submit(each.read) for each in streams]
            try:
                told, errors = (None if each is None else each.result(left()) for each in output)
                self.wait(left())
            except (subprocess.TimeoutExpired, TimeoutError, FutureTimeoutError):
                self.kill()
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        self._close()
        return told, errors

    def send_signal(self, number: int) -> None:
        """Send a signal to it, if it has not ended."""
        with contextlib.suppress(ProcessLookupError):  # it ended, and its end is not yet told
            if self.poll() is None:
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class InvProgram:
    """The process that forks; for one thread at a time to start, any to use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._settings = {**_settings(os.environ), "PYTHONPATH": str(_ROOT)}

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
        completed = self.call(["inv", *arguments], cwd=cwd, env=env, input=stdin, timeout=timeout)
        completed.args = list(arguments)
        return completed

    def call(
        self, argv: Sequence[str], *, input: Any = None, timeout: float = 60, **options: Any
    ) -> Completed:
        """Run ``inv …`` or ``ringtasks …``; the options are those of `start`."""
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        pipes = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with self.start(argv, **{**pipes, **options}) as process:
            output = process.communicate(input, timeout)
        assert process.returncode is not None
        completed = Completed(list(argv), process.returncode, *output)
        completed.max_rss_kib = getattr(process, "max_rss_kib", 0)
        return completed

    def start(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        text: bool = False,
    ) -> Forked | subprocess.Popen[Any]:
        """Start ``inv …`` or ``ringtasks …``, as `subprocess.Popen` would."""
        env = dict(os.environ if env is None else env)
        cwd = cwd or Path.cwd()
        if _settings(env) != self._settings:
            return subprocess.Popen(
                [*PROGRAMS[argv[0]], *argv[1:]],
                cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr, text=text,
            )  # fmt: skip
        asked = (stdin, stdout, stderr)
        ends = [_ends(each, number) for number, each in enumerate(asked)]
        connection = self._connect()
        request = json.dumps({"argv": [*argv], "cwd": str(cwd), "env": env})
        try:
            _send(connection, request.encode(), [theirs for theirs, _ in ends])
        finally:
            for each, (theirs, _) in zip(asked, ends, strict=True):
                if each in (subprocess.PIPE, subprocess.DEVNULL):
                    os.close(theirs)
        process = Forked(argv, int(connection.recv(100)), connection)
        names = ("stdin", "stdout", "stderr")
        for name, (_, ours) in zip(names, ends, strict=True):
            mode = "w" if name == "stdin" else "r"
            if ours is not None:
                setattr(process, name, os.fdopen(ours, mode if text else f"{mode}b"))
        return process

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
                        env={**os.environ, **self._settings},
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


def _ends(asked: Any, number: int) -> tuple[int, int | None]:
    """Return the process's end and ours of a stream, as it is asked for."""
    if asked == subprocess.PIPE:
        reader, writer = os.pipe()
        return (reader, writer) if number == 0 else (writer, reader)
    if asked == subprocess.DEVNULL:
        return os.open(os.devnull, os.O_RDWR), None
    if asked is None:
        return number, None
    return asked if isinstance(asked, int) else asked.fileno(), None


def _is_open(stream: IO[Any] | None) -> bool:
    return stream is not None and not stream.closed


def _feed(stream: IO[Any], content: Any) -> None:
    with contextlib.suppress(BrokenPipeError), stream:
        if content:
            stream.write(content)


def _send(connection: socket.socket, packet: bytes, descriptors: Sequence[int]) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _MAX_PACKET)
    socket.send_fds(connection, [packet], descriptors)


def _serve(main: socket.socket) -> None:
    """Fork one process for each connection; it runs the request of that connection."""
    _import_all()
    ended, waker = os.pipe()
    for end in (ended, waker):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # the byte in the pipe is enough
    signal.set_wakeup_fd(waker)
    connections: dict[int, socket.socket] = {}
    while True:
        readable, _, _ = select.select([main, ended], [], [])
        if ended in readable:
            os.read(ended, 1000)
            _tell_ends(connections)
        if main in readable:
            _, descriptors, _, _ = socket.recv_fds(main, 100, 1)
            if not descriptors:
                return
            connection = socket.socket(fileno=descriptors[0])
            pid = _fork(connection, [main, *connections.values()])
            connections[pid] = connection


def _fork(connection: socket.socket, others: list[socket.socket]) -> int:
    """Fork the process of one request; return its id."""
    packet, streams, _, _ = socket.recv_fds(connection, _MAX_PACKET, 3)
    pid = os.fork()
    if pid == 0:
        for each in (connection, *others):
            each.detach()  # or its end would close a descriptor that has its number by then
        _run(json.loads(packet), streams)
    for stream in streams:
        os.close(stream)
    connection.send(str(pid).encode())
    return pid


def _tell_ends(connections: dict[int, socket.socket]) -> None:
    """Tell the exit status of each process that has ended."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.wait4(-1, os.WNOHANG))[0]:
            pid, status, usage = found
            with contextlib.suppress(OSError), connections.pop(pid) as connection:
                code = os.waitstatus_to_exitcode(status)
                connection.send(f"{code} {usage.ru_maxrss}".encode())


def _run(request: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Become the program: its exit is this process's."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, 0)  # a signal to its process group must not end the process that forks
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    os.closerange(3, 1024)  # also those of other requests
    os.environ.clear()
    os.environ.update(request["env"])
    tempfile.tempdir = None  # an imported module may have asked for it
    os.chdir(request["cwd"])
    sys.argv = request["argv"]
    sys.path[0] = request["cwd"]
    is_console_script = sys.argv[0] == "ringtasks"
    if is_console_script:
        sys.argv[0] = PROGRAMS["ringtasks"][0]
        sys.path[0] = str(Path(sys.executable).parent)
    for number, name in ((1, "stdout"), (2, "stderr")):
        errors = "backslashreplace" if name == "stderr" else "strict"
        raw = io.BufferedWriter(io.FileIO(number, "wb", closefd=False))
        is_line_buffered = name == "stderr" or os.isatty(number)
        text = io.TextIOWrapper(raw, "utf-8", errors, line_buffering=is_line_buffered)
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "rb", closefd=False)), "utf-8")
    from invoke.main import program

    from ringtasks.common import console_script, interruption
    from ringtasks.tasks import streams

    interruption.begin()  # as the import of the tasks does in their own process
    streams.prepare()
    try:
        console_script.main() if is_console_script else program.run()
        _STATUS.append(0)
    except SystemExit as end:
        if isinstance(end.code, int):
            _STATUS.append(end.code)
        raise
    sys.exit(0)


def _leave() -> None:
    """End a forked process after its threads and all that it has at its exit.

    Python would take each module apart, which costs more than most tasks.
    """
    if not _STATUS:
        return
    with contextlib.suppress(OSError):  # if the output is closed, Python tells it
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_STATUS[0] & 0xFF)  # as the system takes a status


def _import_all() -> None:
    """Import all that a task may need, so that no forked process has to."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a process with threads is not to fork
    import ringtasks

    for module in pkgutil.walk_packages(ringtasks.__path__, "ringtasks."):
        if not module.name.startswith(_LEFT_OUT):
            importlib.import_module(module.name)
    for name in _IMPORTED_LATE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # no collection in a forked process looks at these objects, and copies their pages


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    atexit.register(_leave)  # before all others: it is called after them
    _serve(socket.socket(fileno=int(sys.argv[1])))
