"""A port of a host, here: a listener on 127.0.0.1, and a tunnel for each connection to it.

The listener is our own and stays; a tunnel is opened over whatever link there is just then, so a
lost link breaks the connections over it and nothing else.  The link is watched, and opened again at
once, so that the next connection need not wait for it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

from ringtasks.common.text import printable
from ringtasks.errors import UnreachableError, UsageError
from ringtasks.ssh.link import LinkLostError, Tunnel, TunnelRefusedError

from .ssh_client import SSHClient

__all__ = ["Forwarding"]

LOOPBACK = "127.0.0.1"

_CHUNK_BYTES = 64 * 1024
_WATCH_INTERVAL = 0.5  # seconds between looks at the link
_REOPEN_DELAYS = (1.0, 30.0)  # seconds between attempts to open it again: the first, the longest
_REFUSAL_INTERVAL = 10.0  # seconds between telling that nobody listens there
_OPEN_ATTEMPTS = 2  # the first may find that the link is gone

#: Is told, in a sentence, what became of the link and of connections.
Tell = Callable[[str], None]


class Forwarding:
    """Listens from when it is made until `close`; usable with ``with``.

    :param port: the port on the host, or on a machine that the host reaches as ``to``.
    :param local_port: here; None: the same number, or a free one where that cannot be had.
    :param tell: called from any thread.
    :raises UnreachableError: no route works.
    :raises UsageError: ``local_port`` is taken.
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
            local_port = 0  # its ports are this machine's: the same one would lead to itself
        self._listener = _listen(port, local_port)
        self._ended = threading.Event()
        self._refused_at = float("-inf")
        self._lock = threading.Lock()
        self._open: set[socket.socket | Tunnel] = set()

    @property
    def local_port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Forwarding:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def serve(self) -> None:
        """Until `close`, or Ctrl-C: pass on connections, and keep the link open."""
        threading.Thread(target=self._accept, name="ringtasks-forward", daemon=True).start()
        delay, longest = _REOPEN_DELAYS
        is_lost = False
        while not self._ended.wait(_WATCH_INTERVAL):
            if self._client.is_alive():
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
        """Listen no more, and end every connection. Safe to repeat."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for end in tuple(self._open):
                end.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                if self._ended.wait(_WATCH_INTERVAL):  # else: no descriptor is free, say
                    return
                continue
            threading.Thread(
                target=self._pass_on, args=(connection,), name="ringtasks-tunnel", daemon=True
            ).start()

    def _pass_on(self, connection: socket.socket) -> None:
        with contextlib.closing(connection):
            tunnel = self._tunnel()
            if tunnel is None:
                return
            with contextlib.closing(tunnel), self._registered(connection, tunnel):
                back = threading.Thread(
                    target=_copy, args=(tunnel, connection), name="ringtasks-tunnel", daemon=True
                )
                back.start()
                _copy(connection, tunnel)
                back.join()

    def _tunnel(self) -> Tunnel | None:
        """None where there is none to be had, which was told."""
        for _ in range(_OPEN_ATTEMPTS):
            try:
                return self._client.link().open_tunnel(self._to, self._port)
            except TunnelRefusedError as error:
                self._tell_refusal(error)
                return None
            except UnreachableError:
                return None  # `serve` says so
            except LinkLostError as error:
                reason = printable(str(error))
        self._tell(f"a connection could not be passed on: {reason}")
        return None

    def _tell_refusal(self, error: TunnelRefusedError) -> None:
        now = time.monotonic()
        with self._lock:
            is_due, self._refused_at = now - self._refused_at > _REFUSAL_INTERVAL, now
        if is_due:
            self._tell(
                f"port {self._port} of {self._to} there takes no connection: "
                f"{printable(str(error))}; is the program up?"
            )

    @contextlib.contextmanager
    def _registered(self, *ends: socket.socket | Tunnel) -> Iterator[None]:
        with self._lock:
            self._open.update(ends)
        try:
            yield
        finally:
            with self._lock:
                self._open.difference_update(ends)


def _listen(port: int, local_port: int | None) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port if local_port is None else local_port))
        listener.listen()
    except OSError as error:
        listener.close()
        if local_port is None:
            return _listen(port, 0)
        raise UsageError(f"--local-port {local_port}: {error.strerror}") from error
    return listener


def _copy(source: socket.socket | Tunnel, sink: socket.socket | Tunnel) -> None:
    """All that comes, and the end of it.

    Where the other side takes no more, both are ended: nothing that is still to come could arrive.
    """
    try:
        while chunk := source.recv(_CHUNK_BYTES):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.close()
