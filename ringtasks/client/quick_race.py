"""A race of TCP connections for `quick_connect`, which has no time for `dialing`.

The rules are those of `ringtasks.ssh.race`: the next route begins when all running ones have
failed, or when the latest has had its head start.  Two simple cases are decided here: a banner
wins, and a failed connection is dropped.  In every other case no byte has been read yet, and
`dialing` continues with the open connections.
"""

from __future__ import annotations

import _socket  # the module socket takes longer to load than this whole race
import _thread  # as socket
import errno
import os
import select
import time

TYPE_CHECKING = False  # typing is slow to load
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["HEAD_START", "REASONS", "QuickRace"]

HEAD_START = 0.250  # as `ringtasks.ssh.race.HEAD_START`, whose module takes long to load
#: Error number of a failed connection, 0 of one that was overtaken -> value of `errors.Reason`.
REASONS = {0: "overtaken", errno.ECONNREFUSED: "refused"}
#: Seconds to wait for the banner of the last route. After that, the code for the other cases is
#: loaded; the banner may come meanwhile.
_SOON = 0.150
#: The longest banner.  RFC 4253, section 4.2
_BANNER_BYTES = 255


class QuickRace:
    """A race of routes: name, address or host name, and port, the likeliest first."""

    def __init__(self, routes: Iterable[tuple[str, str, int]]) -> None:
        self.begun: list[tuple[str, int, float]] = []
        """The connections in their order: route, descriptor, and monotonic time (`Begun`)."""
        self.failed: list[tuple[str, int]] = []
        """The error number of each route that failed; 0 for one that another route overtook."""
        self._waiting = list(routes)
        self._running: dict[int, str] = {}
        self._look_ups: dict[int, _LookUp] = {}
        self._latest = 0.0
        self._poll = select.poll()

    def begin(self) -> bool:
        """Begin the next route whose dialling can be started; False: there is none."""
        while self._waiting:
            route, host, port = self._waiting.pop(0)
            self._latest = time.monotonic()
            if ":" in host or host.replace(".", "").isdigit():
                if self._connect(route, host, port):
                    return True
            else:
                look_up = _LookUp(route, host, port)
                self._look_ups[look_up.reading] = look_up
                self._poll.register(look_up.reading, select.POLLIN)
                return True
        return False

    def winner(self) -> tuple[str, int] | None:
        """Return the route that shows a banner, and its descriptor; None: leave it to `dialing`."""
        while self._running or self._look_ups or self.begin():
            events = self._poll.poll(max(0.0, self._due() - time.monotonic()) * 1000)
            for descriptor, event in events:
                if descriptor in self._look_ups:
                    if not self._follow(self._look_ups.pop(descriptor)):
                        return None
                elif event & (select.POLLERR | select.POLLHUP):
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

    def _follow(self, look_up: _LookUp) -> bool:
        """Connect to the address of a name; False: it does not have exactly one."""
        self._poll.unregister(look_up.reading)
        os.close(look_up.reading)
        addresses = {info[4][0] for info in look_up.found}
        if len(addresses) != 1:
            return False
        self._connect(look_up.route, addresses.pop(), look_up.port, look_up.began)
        return True

    def _connect(self, route: str, address: str, port: int, began: float | None = None) -> bool:
        """Begin a connection; False: it has failed at once."""
        family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
        try:
            connection = _socket.socket(family, _socket.SOCK_STREAM)
        except OSError as error:  # a machine without IPv6
            self.failed.append((route, error.errno or errno.EAFNOSUPPORT))
            return False
        connection.setblocking(False)
        connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        try:
            code = connection.connect_ex((address, port))
        except OSError:  # not an address
            code = errno.EADDRNOTAVAIL
        if code not in (0, errno.EINPROGRESS):
            connection.close()
            self.failed.append((route, code))
            return False
        descriptor = connection.detach()
        self.begun.append((route, descriptor, began or self._latest))
        self._running[descriptor] = route
        self._poll.register(descriptor, select.POLLIN)
        return True

    def _due(self) -> float:
        return self._latest + (HEAD_START if self._waiting else _SOON)

    def _settle(self, winner: int) -> None:
        """Record the outcomes of the other connections, and close them."""
        now = time.monotonic()
        for route, descriptor, began in self.begun:
            if descriptor not in self._running:
                self.failed.append((route, _error_of(descriptor)))
            elif descriptor != winner and now - began >= HEAD_START:
                self.failed.append((route, 0))
            if descriptor != winner:
                os.close(descriptor)


class _LookUp:
    """A look-up of a name in a thread of its own; a byte on a pipe tells its end."""

    def __init__(self, route: str, host: str, port: int) -> None:
        self.route, self.port, self.began = route, port, time.monotonic()
        self.found: list[tuple[Any, ...]]
        self.reading, self._writing = os.pipe()
        self._host = host.encode()  # as text it would load the codec for IDNA
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            self.found = _socket.getaddrinfo(self._host, self.port, 0, _socket.SOCK_STREAM)
        except OSError:
            self.found = []  # `dialing` has the words for it
        os.write(self._writing, b"\0")


def _shows_banner(descriptor: int) -> bool:
    connection = _socket.socket(fileno=descriptor)
    try:
        seen = connection.recv(_BANNER_BYTES, _socket.MSG_PEEK)
        return seen[:4] == b"SSH-" and b"\n" in seen
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
