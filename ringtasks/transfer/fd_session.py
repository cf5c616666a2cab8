"""A program on the host with descriptors of this machine as its stdin and stdout.

Where the link can (`PipingLink`), whoever holds the connection reads and writes them, and none of
the bytes passes through this process; else threads of ours carry them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator

from ringtasks.ssh.link import (
    STDERR,
    Exited,
    Link,
    LinkLostError,
    PipingLink,
    Session,
    SessionRefusedError,
)

__all__ = ["Conduit"]

_ROOM_INTERVAL = 0.2  # seconds between looks at whether the host opens another session
_CHUNK_BYTES = 256 * 1024


class Conduit:
    """One such program, over one link.

    :param on_stderr: gets what it writes there, from the thread that runs it.
    """

    def __init__(self, link: Link, on_stderr: Callable[[bytes], None]) -> None:
        self._link, self._on_stderr = link, on_stderr
        self._session: Session | None = None
        self._is_cancelled = False

    @property
    def has_begun(self) -> bool:
        """Whether the program may have been started."""
        return self._session is not None

    def run(self, command: str, stdin: int, stdout: int) -> int | None:
        """Its exit status, None when it was cancelled. The descriptors are closed.

        :raises LinkLostError: the link failed; where nothing has begun, another one may serve.
        """
        link = self._link
        if isinstance(link, PipingLink):
            with _closed(stdin, stdout):
                session = self._opened(functools.partial(link.open_piped, command, stdin, stdout))
            with contextlib.closing(session):
                return self._await_end(session, None)
        with _closed(stdin, stdout):
            for descriptor in (stdin, stdout):  # rsync had made its own non-blocking
                os.set_blocking(descriptor, True)
            session = self._opened(functools.partial(link.open_session, command))
            sending = threading.Thread(target=_send, args=(os.dup(stdin), session), daemon=True)
            sending.start()
            with contextlib.closing(session):
                return self._await_end(session, stdout)

    def cancel(self) -> None:
        """Let `run` return, from another thread."""
        self._is_cancelled = True
        session = self._session
        if session is not None:
            session.wake()

    def _opened(self, open_session: Callable[[], Session]) -> Session:
        """A session, as soon as the host has room for one."""
        while True:
            try:
                self._session = open_session()
                return self._session
            except SessionRefusedError:
                if self._is_cancelled or not self._link.await_session_end(_ROOM_INTERVAL):
                    raise

    def _await_end(self, session: Session, stdout: int | None) -> int | None:
        while True:
            happened = session.receive(None)
            if isinstance(happened, Exited):
                return happened.status
            if self._is_cancelled:
                return None
            if happened is None:
                continue
            if happened.stream == STDERR:
                self._on_stderr(happened.chunk)
            elif stdout is not None:
                try:
                    _write(stdout, happened.chunk)
                except BrokenPipeError:  # whoever read it has ended
                    return None


def _send(stdin: int, session: Session) -> None:
    """All that there is to read, to the host."""
    with contextlib.suppress(LinkLostError, OSError), _closed(stdin):
        while chunk := os.read(stdin, _CHUNK_BYTES):
            session.send(chunk)
        session.send_eof()


def _write(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@contextlib.contextmanager
def _closed(*descriptors: int) -> Iterator[None]:
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
