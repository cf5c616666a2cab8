"""Listening sockets of this machine, and a tunnel through a link for each connection to them."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence

from ringtasks.common.threads import start_thread
from ringtasks.errors import UsageError

from .link import Link, LinkLostError, Tunnel, TunnelRefusedError

__all__ = ["TunnelListener", "copy_both_ways", "open_tunnel"]

_log = logging.getLogger("ringtasks")

_CHUNK_BYTES = 64 * 1024
_RETRY_DELAY = 0.5  # seconds before accepting again after a failure, such as no free descriptor


class TunnelListener:
    """Forwards the connections to listening sockets, from `serve` until `close`.

    :param listeners: the sockets, which are closed with it.
    :param open_tunnel: called for each connection, in a thread of its own. None: no tunnel is
        possible, and the connection is closed.
    """

    def __init__(
        self, listeners: Sequence[socket.socket], open_tunnel: Callable[[], Tunnel | None]
    ) -> None:
        self._listeners, self._open_tunnel = tuple(listeners), open_tunnel
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket | Tunnel] = set()

    def serve(self) -> None:
        """Accept connections, in threads of its own."""
        for listener in self._listeners:
            start_thread(self._accept, listener, name="ringtasks-forward")

    def close(self) -> None:
        """Stop listening, and end every connection. Safe to repeat."""
        self._ended.set()
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in accept
            listener.close()
        with self._lock:
            for end in tuple(self._open):
                end.close()

    def _accept(self, listener: socket.socket) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                if self._ended.wait(_RETRY_DELAY):
                    return
                continue
            try:
                start_thread(self._pass_on, connection, name="ringtasks-tunnel")
            except UsageError as error:  # no thread can be started; later ones may be
                connection.close()
                _log.warning("a connection could not be forwarded: %s", error)

    def _pass_on(self, connection: socket.socket) -> None:
        with contextlib.closing(connection):
            tunnel = self._open_tunnel()
            if tunnel is None:
                return
            with contextlib.closing(tunnel), self._registered(connection, tunnel):
                copy_both_ways(tunnel, connection)

    @contextlib.contextmanager
    def _registered(self, *ends: socket.socket | Tunnel) -> Iterator[None]:
        with self._lock:
            self._open.update(ends)
        try:
            if self._ended.is_set():  # `close` ran before they were registered
                for end in ends:
                    end.close()
            yield
        finally:
            with self._lock:
                self._open.difference_update(ends)


def open_tunnel(link: Link, host: str, port: int) -> Tunnel | None:
    """Open a tunnel for `TunnelListener`; a failure is logged, as ssh does with its forwardings."""
    try:
        return link.open_tunnel(host, port)
    except (TunnelRefusedError, LinkLostError) as error:
        _log.warning("a connection to %s port %s could not be forwarded: %s", host, port, error)
        return None


def copy_both_ways(tunnel: Tunnel, connection: socket.socket) -> None:
    """Copy all bytes of both sides, until both have ended."""
    try:
        back = start_thread(_copy, tunnel, connection, name="ringtasks-tunnel")
    except UsageError as error:
        _log.warning("a connection could not be forwarded: %s", error)
        return
    _copy(connection, tunnel)
    back.join()


def _copy(source: socket.socket | Tunnel, sink: socket.socket | Tunnel) -> None:
    """Copy all bytes, and the end of the stream.

    If the other side takes no more, both are ended: later bytes could not arrive.
    """
    try:
        while chunk := source.recv(_CHUNK_BYTES):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.close()
