"""Servers that misbehave on purpose, and wires that can be cut.  All on loopback, all bounded."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Any

__all__ = [
    "Answering",
    "Blackhole",
    "Chatty",
    "ClosingBeforeBanner",
    "Refusing",
    "Resetting",
    "Silent",
    "Socks5",
    "Wire",
]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


class _Server:
    """Listens on a loopback port and hands each connection to `serve` in a thread."""

    backlog = 128

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((address, 0))
        self.address, self.port = self._listener.getsockname()
        self.begin()

    def begin(self) -> None:
        self._listener.listen(self.backlog)
        threading.Thread(target=self._accept, daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        """Handle a connection; by default, do nothing."""

    def close(self) -> None:
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):  # wakes the thread that waits for it
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._sockets.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self.serve(connection)


class Refusing(_Server):
    """A port that is taken, and on which no process listens."""

    def begin(self) -> None:
        pass


class Blackhole(_Server):
    """A port whose SYNs are dropped: its queue of connections is full."""

    def begin(self) -> None:
        self._listener.listen(0)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((self.address, self.port))
            self._sockets.append(filler)


class Silent(_Server):
    """Accepts, and says nothing."""


class Resetting(_Server):
    """Accepts, and resets."""

    def serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        connection.close()


class ClosingBeforeBanner(_Server):
    """Accepts, and closes, as an sshd over its MaxStartups does."""

    def serve(self, connection: socket.socket) -> None:
        connection.close()


class Chatty(_Server):
    """Speaks, but not SSH."""

    def serve(self, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        connection.close()


class Answering(_Server):
    """Says one thing, and closes.

    :param patience: seconds until it closes.
    """

    def __init__(self, text: bytes, patience: float = 0.0) -> None:
        self._text, self._patience = text, patience
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        connection.sendall(self._text)
        connection.settimeout(self._patience)
        with contextlib.suppress(OSError):
            while self._patience and connection.recv(4096):
                pass
        connection.close()


class Wire(_Server):
    """Passes everything on to a real server, until it is told otherwise.

    :param delay: seconds that each piece travels, one way.
    """

    def __init__(self, address: str, port: int, *, delay: float = 0.0) -> None:
        self._target = (address, port)
        self._delay = delay
        self._thawed = threading.Event()
        self._thawed.set()
        self._is_blocked = False
        self.bytes_from_client = 0
        self._cut_after: int | None = None
        self._freeze_after: int | None = None
        self._drop_after: int | None = None
        self._forgotten: set[socket.socket] = set()
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        if self._is_blocked:
            connection.close()
            return
        there = socket.create_connection(self._target, timeout=5)
        there.settimeout(None)
        self._sockets.append(there)
        for sock in (connection, there):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._pass_on, args=(there, connection, False), daemon=True).start()
        self._pass_on(connection, there, True)

    def cut(self) -> None:
        """Reset every connection there is; new ones pass."""
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def block(self, *, now: bool = True) -> None:
        """From now on, close new connections at once, or pass them again."""
        self._is_blocked = now

    def drop_after(self, byte_count: int) -> None:
        """When so many more bytes have come from the client, forget all connections; new ones pass.

        Nothing is passed on or closed: a router has lost its table of them.
        """
        self._drop_after = self.bytes_from_client + byte_count

    def cut_after(self, byte_count: int) -> None:
        """Cut when so many more bytes have come from the client; those are passed on."""
        self._cut_after = self.bytes_from_client + byte_count

    def freeze_after(self, byte_count: int) -> None:
        """Freeze when so many more bytes have come from the client."""
        self._freeze_after = self.bytes_from_client + byte_count

    def freeze(self) -> None:
        """Pass nothing on any more, and close nothing: the peer has vanished."""
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                self._thawed.wait()
                if source in self._forgotten:
                    continue
                if self._delay:
                    time.sleep(self._delay)
                sink.sendall(piece)
                if is_from_client:
                    self.bytes_from_client += len(piece)
                    if (
                        self._freeze_after is not None
                        and self._freeze_after <= self.bytes_from_client
                    ):
                        self._freeze_after = None
                        self.freeze()
                    if self._drop_after is not None and self._drop_after <= self.bytes_from_client:
                        self._drop_after = None
                        self._forgotten.update(self._sockets)
                    if self._cut_after is not None and self.bytes_from_client >= self._cut_after:
                        self._cut_after = None
                        self.cut()
            sink.shutdown(socket.SHUT_WR)


class Socks5(_Server):
    """A SOCKS5 proxy (RFC 1928): no authentication, CONNECT to IPv4 addresses and names."""

    def serve(self, connection: socket.socket) -> None:
        connection.recv(2 + 255)
        connection.sendall(b"\x05\x00")
        header = connection.recv(4)
        if header[3] == 1:
            host = socket.inet_ntoa(connection.recv(4))
        else:
            host = connection.recv(connection.recv(1)[0]).decode()
        port = int.from_bytes(connection.recv(2), "big")
        there = socket.create_connection((host, port), timeout=5)
        there.settimeout(None)
        self._sockets.append(there)
        connection.sendall(b"\x05\x00\x00\x01\0\0\0\0\0\0")
        threading.Thread(target=_copy, args=(there, connection), daemon=True).start()
        _copy(connection, there)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
