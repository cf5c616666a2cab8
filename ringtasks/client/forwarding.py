"""Forward a host's port: a listener on 127.0.0.1 and ::1, and a tunnel for each connection to it.

The listener belongs to this process and stays open.  Each tunnel is opened over the link of that
moment, so a lost link breaks the connections over it and nothing else.  The link is watched and
reopened at once, so that the next connection does not wait for it.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable

from ringtasks.common.text import printable
from ringtasks.errors import UnreachableError, UsageError
from ringtasks.ssh.link import LinkLostError, Tunnel, TunnelRefusedError
from ringtasks.ssh.tcp import listening_socket
from ringtasks.ssh.tunnels import TunnelListener

from .ssh_client import SSHClient

__all__ = ["Forwarding"]

LOOPBACK = "127.0.0.1"

_WATCH_INTERVAL = 0.5  # seconds between checks of the link
_REOPEN_DELAYS = (1.0, 30.0)  # seconds between attempts to open it again: the first, the longest
_REFUSAL_INTERVAL = 10.0  # seconds between two reports of refused connections, at least
_FREE_PORT_ATTEMPTS = 20  # a port that is free on 127.0.0.1 may be in use on ::1
_OPEN_ATTEMPTS = 2  # the first may find that the link is lost

#: Called with a sentence about each change of the link and each connection that failed.
Tell = Callable[[str], None]


class Forwarding:
    """A forwarded port, open from its construction until `close`; usable with ``with``.

    :param port: the port on the host, or on a machine that the host reaches as ``to``.
    :param local_port: the port on this machine; None: the same number, or a free port if that
        number cannot be used.
    :param tell: called from any thread.
    :raises UnreachableError: no route works.
    :raises UsageError: ``local_port`` cannot be used.
    """

    def __init__(
        self,
        client: SSHClient,
        port: int,
        local_port: int | None = None,
        *,
        to: str = "localhost",
        tell: Tell = lambda _: None,
    ) -> None:
        self._client, self._to, self._port, self._tell = client, to, port, tell
        client.link()
        if local_port is None and client.config.embedded:
            local_port = 0  # its ports are this machine's: the same port would lead to itself
        sockets = _listen(port, local_port)
        self._socket = sockets[0]
        self._listener = TunnelListener(sockets, self._tunnel)
        self._ended = threading.Event()
        self._refused_at = float("-inf")
        self._lock = threading.Lock()

    @property
    def local_port(self) -> int:
        """The port of the listener, the same on 127.0.0.1 and ::1."""
        port: int = self._socket.getsockname()[1]
        return port

    def __enter__(self) -> Forwarding:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def serve(self) -> None:
        """Pass on connections and keep the link open, until `close` or Ctrl-C."""
        self._listener.serve()
        delay, longest = _REOPEN_DELAYS
        is_lost = False
        while not self._ended.wait(_WATCH_INTERVAL):
            if self._client.is_connected():
                continue
            if not is_lost:
                self._tell("the link was lost; opening it again")
            is_lost = True
            try:
                link = self._client.link()
            except UnreachableError as error:
                self._tell(f"no route works ({error.reason}); trying again in {delay:g} s")
                self._ended.wait(delay)
                delay = min(longest, delay * 2)
                continue
            is_lost, delay = False, _REOPEN_DELAYS[0]
            self._tell(f"the link is open again, over {link.route}")

    def close(self) -> None:
        """Stop listening and end every connection. Safe to repeat."""
        self._ended.set()
        self._listener.close()

    def _tunnel(self) -> Tunnel | None:
        """Return a new tunnel; None if it cannot be opened (``tell`` reports this)."""
        for _ in range(_OPEN_ATTEMPTS):
            try:
                return self._client.link().open_tunnel(self._to, self._port)
            except TunnelRefusedError as error:
                self._tell_refusal(error)
                return None
            except UnreachableError:
                return None  # `serve` reports it
            except LinkLostError as error:
                reason = printable(str(error))
        self._tell(f"a connection could not be forwarded: {reason}")
        return None

    def _tell_refusal(self, error: TunnelRefusedError) -> None:
        now = time.monotonic()
        with self._lock:
            is_due = now - self._refused_at > _REFUSAL_INTERVAL
            if is_due:
                self._refused_at = now
        if is_due:
            evidence = printable(str(error))
            # On the host itself only a missing listener makes a connection fail.
            is_local = self._to in ("localhost", LOOPBACK, "::1")
            if "refused" in evidence.lower() or (is_local and "connect failed" in evidence.lower()):
                self._tell(f"nothing is listening on port {self._port} of {self._to}: {evidence}")
            else:
                self._tell(f"port {self._port} of {self._to} cannot be reached: {evidence}")


def _listen(port: int, local_port: int | None) -> list[socket.socket]:
    """Return sockets that listen on one port of 127.0.0.1 and of ::1, if there is IPv6.

    ``localhost`` may mean either. If another program has the port of one of them, its clients and
    ours would mix, so both are free or neither is used.
    """
    wanted = port if local_port is None else local_port
    for _ in range(_FREE_PORT_ATTEMPTS):
        first: socket.socket | None = None
        try:
            first = listening_socket(socket.AF_INET, (LOOPBACK, wanted))
            return [first, *_bound_too(first.getsockname()[1])]
        except OSError as error:
            if first is not None:
                first.close()
            if local_port:
                told = f"{error.strerror}; without it, a free port is used"
                raise UsageError(f"--local-port {local_port}: {told}") from error
            wanted = 0
    raise UsageError("--local-port: no port is free on both 127.0.0.1 and ::1: name one")


def _bound_too(port: int) -> list[socket.socket]:
    """Return the socket on ::1; none on a machine without IPv6.

    :raises OSError: another program has the port.
    """
    try:
        return [listening_socket(socket.AF_INET6, ("::1", port))]
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise
        return []
