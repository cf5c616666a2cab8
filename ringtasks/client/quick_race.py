"""A race of TCP connections to addresses for `quick_connect`, which has no time for `dialing`.

The rules are those of `ringtasks.ssh.race`: the next route begins when all running ones have
failed, or when the latest has had its head start.  Only the simple cases are decided here: a banner
wins, and a failed connection is left behind.  In all others no byte has been read, and `dialing`
goes on with the connections that were begun.
"""

from __future__ import annotations

import _socket  # socket takes longer to load than the whole of this
import errno
import select
import time

TYPE_CHECKING = False  # typing is slow to load
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["HEAD_START", "REASONS", "QuickRace"]

HEAD_START = 0.250  # as `ringtasks.ssh.race.HEAD_START`, whose module takes long to load
#: Error number of a failed connection, 0 of one that was overtaken -> value of `errors.Reason`.
REASONS = {0: "overtaken", errno.ECONNREFUSED: "refused"}
#: Seconds for the banner of the last route. Then the rest of the code is loaded while it may still
#: come, for the routes that are not simple.
_SOON = 0.150


class QuickRace:
    """A race of routes: name, address and port, the likeliest first."""

    def __init__(self, routes: Iterable[tuple[str, str, int]]) -> None:
        self.begun: list[tuple[str, int, float]] = []
        """The connections in their order: route, descriptor, and monotonic time (`Begun`)."""
        self.failed: list[tuple[str, int]] = []
        """The routes that failed or were overtaken: the error number of each, 0 if overtaken."""
        self._waiting = list(routes)
        self._running: dict[int, str] = {}
        self._poll = select.poll()

    def begin(self) -> bool:
        """Begin the next connection that can be begun; False: there is none."""
        while self._waiting:
            route, address, port = self._waiting.pop(0)
            family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
            try:
                connection = _socket.socket(family, _socket.SOCK_STREAM)
            except OSError as error:  # a machine without IPv6
                self.failed.append((route, error.errno or errno.EAFNOSUPPORT))
                continue
            connection.setblocking(False)
            connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            code = connection.connect_ex((address, port))
            if code not in (0, errno.EINPROGRESS):
                connection.close()
                self.failed.append((route, code))
                continue
            self._run(route, connection.detach())
            return True
        return False

    def winner(self) -> tuple[str, int] | None:
        """Return the route that shows a banner, and its descriptor; None: leave it to `dialing`."""
        while self._running or self.begin():
            events = self._poll.poll(max(0.0, self._due() - time.monotonic()) * 1000)
            for descriptor, event in events:
                if event & (select.POLLERR | select.POLLHUP):
                    self._poll.unregister(descriptor)
                    del self._running[descriptor]
                elif _shows_banner(descriptor):
                    self._settle(descriptor)
                    return self._running[descriptor], descriptor
                else:
                    return None
            if not events and not self.begin():
                return None
        return None

    def _run(self, route: str, descriptor: int) -> None:
        self.begun.append((route, descriptor, time.monotonic()))
        self._running[descriptor] = route
        self._poll.register(descriptor, select.POLLIN)

    def _due(self) -> float:
        return self.begun[-1][2] + (HEAD_START if self._waiting else _SOON)

    def _settle(self, winner: int) -> None:
        """Add what the other connections have come to."""
        now = time.monotonic()
        for route, descriptor, began in self.begun:
            if descriptor not in self._running:
                self.failed.append((route, _error_of(descriptor)))
            elif descriptor != winner and now - began >= HEAD_START:
                self.failed.append((route, 0))


def _shows_banner(descriptor: int) -> bool:
    connection = _socket.socket(fileno=descriptor)
    try:
        return connection.recv(4, _socket.MSG_PEEK) == b"SSH-"
    except OSError:
        return False
    finally:
        connection.detach()


def _error_of(descriptor: int) -> int:
    connection = _socket.socket(fileno=descriptor)
    try:
        return connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
    finally:
        connection.detach()
