"""A TCP connection to a name, over its first address that answers (RFC 8305); free ports."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import time
from collections.abc import Mapping
from itertools import chain, zip_longest
from typing import Any

from ringtasks.common.cancellation import Cancellation

from .race import Race

__all__ = ["connect", "finish", "listen", "listening_socket"]

_STREAM = socket.SOCK_STREAM
_AddressInfo = tuple[Any, ...]  # an entry of socket.getaddrinfo


#: Values of AddressFamily (ssh_config(5)).
_FAMILIES = {"any": socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}


def connect(
    host: str,
    port: int,
    deadline: float,
    cancellation: Cancellation | None,
    *,
    family: str = "any",
    source: str | None = None,
) -> socket.socket:
    """Return a connected socket; the name's addresses race, so a broken IPv6 costs a head start.

    :param deadline: a monotonic time. It does not limit the system's name look-up.
    :param cancellation: None: no other thread can end it.
    :param family: ``any``, ``inet`` or ``inet6``: the addresses to try.
    :param source: the local address to connect from; only addresses of its family are tried.
    :raises socket.gaierror: the name is unknown.
    :raises TimeoutError: the deadline passed.
    :raises OSError: every address failed, with the last error; or none has the family of
        ``source``.
    """
    # As bytes a name costs no load of the codec for international names.
    name = host.encode("ascii") if host.isascii() else host
    infos = socket.getaddrinfo(name, port, _FAMILIES.get(family, socket.AF_UNSPEC), _STREAM)
    sources = {} if source is None else _by_family(source)
    if sources:
        infos = [info for info in infos if info[0] in sources]
        if not infos:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} has no address of the family of {source}")
    with _AddressRace(_interleaved(infos), deadline, cancellation, sources) as race:
        return race.winner()


def finish(begun: int, deadline: float, cancellation: Cancellation) -> socket.socket:
    """Return the socket of a connection that is under way, once it is there; errors as `connect`.

    :param begun: its descriptor.
    """
    with _AddressRace([(begun,)], deadline, cancellation, {}) as race:
        return race.winner()


def listen(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets at every address of ``host``, one of this machine's names.

    :raises OSError: another process uses the port, or the port is reserved for root.
    """
    listeners: list[socket.socket] = []
    for family, *_, address in socket.getaddrinfo(host, port, type=_STREAM):
        try:
            listeners.append(listening_socket(family, address))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # no IPv6 here
                continue
            for opened in listeners:
                opened.close()
            raise OSError(error.errno, f"{host} port {port}: {error.strerror}") from error
    return listeners


def listening_socket(family: int, address: tuple[Any, ...]) -> socket.socket:
    """Return a socket that listens at one address; one of IPv6 takes no connections of IPv4.

    :raises OSError: another process uses the port, it is reserved for root, or there is no such
        address.
    """
    listener = socket.socket(family, _STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def _by_family(source: str) -> dict[int, Any]:
    """Return a local address to bind to, for each family that ``source`` has."""
    return {info[0]: info[4] for info in socket.getaddrinfo(source, 0, type=_STREAM)}


class _AddressRace:
    def __init__(
        self,
        infos: list[_AddressInfo],
        deadline: float,
        cancellation: Cancellation | None,
        sources: Mapping[int, Any],
    ) -> None:
        self._sources = sources
        self._race: Race[_AddressInfo] = Race(infos)
        self._deadline = deadline
        self._cancellation = cancellation
        self._selector = selectors.PollSelector()  # two sockets: epoll(7) takes six calls more
        self._last_error = OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
        self._wake: socket.socket | None = None

    def __enter__(self) -> _AddressRace:
        if self._cancellation is not None:
            # Closing a descriptor does not wake a thread that selects on it; a byte does.
            self._wake, woken = socket.socketpair()
            self._selector.register(woken, selectors.EVENT_READ)
            self._cancellation.add(self._interrupt)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._cancellation is not None:
            self._cancellation.clear()
        for key in list(self._selector.get_map().values()):
            self._drop(key.fileobj)
        self._selector.close()
        if self._wake is not None:
            self._wake.close()

    def winner(self) -> socket.socket:
        while not self._race.is_over:
            now = time.monotonic()
            start_at = self._race.next_start(now)
            if start_at is not None and start_at <= now:
                self._start(self._race.start(now))
                continue
            connected = self._wait(self._deadline if start_at is None else start_at)
            if connected is not None:
                return connected
        raise self._last_error

    def _start(self, info: _AddressInfo) -> None:
        if len(info) == 1:  # of `finish`
            self._selector.register(socket.socket(fileno=info[0]), selectors.EVENT_WRITE, info)
            return
        family, kind, protocol, _, address = info
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # a machine without IPv6
            self._lost(info, error)
            return
        sock.setblocking(False)
        if family in self._sources:
            try:
                sock.bind(self._sources[family])
            except OSError as error:
                sock.close()
                self._lost(info, error)
                return
        code = sock.connect_ex(address)
        if code in (0, errno.EINPROGRESS):
            self._selector.register(sock, selectors.EVENT_WRITE, info)
        else:
            sock.close()
            self._lost(info, OSError(code, os.strerror(code)))

    def _wait(self, until: float) -> socket.socket | None:
        timeout = min(until, self._deadline) - time.monotonic()
        for key, _ in self._selector.select(max(0.0, timeout)):
            sock: Any = key.fileobj
            if key.data is None:
                raise TimeoutError("cancelled")
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                self._selector.unregister(sock)
                return sock  # type: ignore[no-any-return]  # selectors keep file objects untyped
            self._drop(sock)
            self._lost(key.data, OSError(code, os.strerror(code)))
        if time.monotonic() >= self._deadline:
            raise TimeoutError("no answer")
        return None

    def _lost(self, info: _AddressInfo, error: OSError) -> None:
        self._race.failed(info)
        self._last_error = error

    def _drop(self, sock: Any) -> None:
        self._selector.unregister(sock)
        sock.close()

    def _interrupt(self) -> None:
        if self._wake is not None:
            with contextlib.suppress(OSError):
                self._wake.send(b"x")


def _interleaved(infos: list[Any]) -> list[_AddressInfo]:
    """Return IPv6 and IPv4 in turn, the system's first choice first (RFC 8305 section 4)."""
    first = infos[0][0]
    preferred = [info for info in infos if info[0] == first]
    others = [info for info in infos if info[0] != first]
    mixed = chain.from_iterable(zip_longest(preferred, others))
    return [info for info in mixed if info is not None]
