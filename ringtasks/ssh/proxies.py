"""Byte streams that are not plain TCP: a proxy program's stdin and stdout, or SOCKS5."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence

from ringtasks.common.processor import anywhere
from ringtasks.common.text import bounded
from ringtasks.common.threads import start_thread
from ringtasks.errors import AnswerError, Reason
from ringtasks.remote.answers import json_fields
from ringtasks.remote.programs import Program

from .routes import PROGRAMS, ProcessProxy, RouteRefusedError, SocksProxy

__all__ = [
    "ProxyProcess",
    "connect_socks",
    "error_of_cloudflared",
    "in_users_shell",
]

_INSTALL = {program.name: program.if_missing for program in PROGRAMS}
_NO_SHELL = "set the variable SHELL to a shell of this machine: it runs each ProxyCommand"
_TAIL_BYTES = 64 * 1024
_LAST_LINES = 3  # the last one alone is often a summary
_READER_TIMEOUT = 0.5  # seconds for the last bytes; a grandchild may hold the pipe open
_LAST_WORDS_TIMEOUT = 2.0  # seconds for a program to end after it closed the connection
_TIED = Program(__file__, "proxy_program.sh")


class ProxyProcess:
    """A running proxy program and our end (``sock``) of its stdin and stdout.

    It has a process group of its own, and `close` ends the whole group: cloudflared outlives ssh
    while it is still connecting.

    :raises RouteRefusedError: the program is not installed or does not start.
    """

    def __init__(self, proxy: ProcessProxy) -> None:
        import shutil  # takes long, and most routes need no program

        program = proxy.argv[0]
        found = shutil.which(program)
        if found is None:
            if proxy.argv[1:2] == ("-c",):  # see `in_users_shell`
                raise RouteRefusedError(Reason.PROXY_MISSING, f"no shell {program}", _NO_SHELL)
            raise RouteRefusedError(
                Reason.PROXY_MISSING, f"{program} is not on PATH", _INSTALL.get(program, "")
            )
        self._program = _name_of(proxy.argv)
        argv, environment = (
            (found, *proxy.argv[1:], *proxy.log_flags),
            proxy.environment(os.environ),
        )
        self.sock, theirs = socket.socketpair()
        try:
            with theirs, anywhere():
                self._process = _started(argv, theirs, environment)
        except OSError as error:
            self.sock.close()
            raise RouteRefusedError(Reason.PROXY_FAILED, f"{program}: {error.strerror}") from error
        self._said = b""
        try:
            self._reader = start_thread(self._read_stderr, name="ringtasks-proxy-stderr")
        except BaseException:
            self.close()
            raise

    def evidence(self, answer: str = "") -> str:
        """Return the last output of a program that closed the connection; waits briefly for it.

        :param answer: a line that came from its stdout in place of a banner.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WORDS_TIMEOUT)
        self._reader.join(_READER_TIMEOUT)
        if answer:
            return f"{self.words()}; it wrote to stdout: {answer}"
        if _last_words(self._said):
            return self.words()
        status = self._process.poll()
        return f"{self._program} ended without output (status {status})"

    def words(self) -> str:
        """Return the program's name and its last output so far."""
        said = _last_words(self._said)
        return f"{self._program}: {said}" if said else self._program

    def close(self) -> None:
        """End the program's process group at once: it has no state to save. Safe to repeat."""
        self.sock.close()
        if self._process.poll() is None:  # else it was reaped, and its id may have been reused
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _read_stderr(self) -> None:
        """Read stderr until it ends, so that the program never waits for room; keep its tail."""
        pipe = self._process.stderr
        assert pipe is not None  # noqa: S101  # for the type checker
        with pipe:
            while chunk := os.read(pipe.fileno(), _TAIL_BYTES):
                self._said = (self._said + chunk)[-_TAIL_BYTES:]


def _started(
    argv: Sequence[str], stdin_and_stdout: socket.socket, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ("/bin/sh", "-c", _TIED.text, "sh", *argv),
        stdin=_lifeline(),
        stdout=stdin_and_stdout.fileno(),
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )


def in_users_shell(command: str) -> tuple[str, ...]:
    """Return the arguments that run a ProxyCommand as ssh does (``ssh_proxy_connect``)."""
    return os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}"


def connect_socks(proxy: SocksProxy, host: str, port: int, timeout: float) -> socket.socket:
    """Connect to ``host:port`` through a SOCKS5 proxy.

    :raises RouteRefusedError: the proxy cannot be reached, or refuses.
    """
    from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError
    from python_socks.sync import Proxy

    at = f"socks5://{proxy.host}:{proxy.port}"
    try:
        connected: socket.socket = Proxy.from_url(at).connect(host, port, timeout=timeout)
    except (ProxyConnectionError, ProxyError, ProxyTimeoutError, OSError) as error:
        raise RouteRefusedError(
            Reason.PROXY_FAILED, f"{at}: {error}", "check RINGTASKS_TAILSCALE_PROXY"
        ) from error
    return connected


@functools.cache
def _lifeline() -> int:
    """Return the end of a pipe that is readable once this process, its only writer, has ended."""
    ours, _ = os.pipe()
    return ours


def _name_of(argv: Sequence[str]) -> str:
    """Return the program's name: of a shell's command, the first word, unless it may be a value."""
    words = argv[2].removeprefix("exec ").split() if argv[1:2] == ("-c",) else []
    return words[0] if words and "=" not in words[0] else argv[0]


def _last_words(stderr: bytes) -> str:
    """Return the reason in a proxy's stderr: that of cloudflared, else the last lines."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines()]
    plain = [line for line in lines if line and not line.startswith("{")]
    return error_of_cloudflared(lines) or bounded(" / ".join(plain[-_LAST_LINES:]))


def error_of_cloudflared(lines: Sequence[str]) -> str | None:
    """Return the last error that cloudflared has logged as JSON; None: there is none."""
    for line in reversed(lines):
        with contextlib.suppress(AnswerError):
            return json_fields(line).text("error")
    return None
