"""An interactive login shell over a link, in this machine's terminal."""

from __future__ import annotations

import contextlib
import io
import queue
import threading
from collections.abc import Callable
from typing import BinaryIO

from ringtasks.errors import OutcomeUnknownError
from ringtasks.exit_status import UNREACHABLE
from ringtasks.ssh.execution import pass_on
from ringtasks.ssh.link import KILLED_STATUS, Exited, Link, LinkLostError, NotStartedError, Session

from .escapes import HELP, Escape, EscapeFilter
from .gateways import NoChannelError
from .terminal import piped_stdin, raw_mode, requested_terminal, watch_size

__all__ = ["interact"]

_KEYS_BYTES = 32 * 1024


def interact(
    link: Link,
    host: str,
    on_output: Callable[[bytes], None],
    command: str | None = None,
    *,
    has_terminal: bool = True,
) -> int:
    """Run the login shell until it ends, and return its exit status.

    ``~.`` at the beginning of a line ends the connection, with exit status 255; ``~?`` lists the
    escapes.

    :param on_output: called with the output as it arrives.
    :param command: run this instead (ssh_config(5), RemoteCommand).
    :param has_terminal: request a terminal from the host (ssh_config(5), RequestTTY).
    :raises NoChannelError: the host gives no shell, or no terminal.
    :raises OutcomeUnknownError: the link was lost.
    """
    terminal = requested_terminal() if has_terminal else None
    with raw_mode() if has_terminal else contextlib.nullcontext():
        try:
            with contextlib.closing(link.open_session(command, terminal)) as session:
                return _held(session, on_output)
        except NotStartedError as error:
            raise NoChannelError(host, error.request or "shell", str(error)) from error
        except LinkLostError as error:
            raise OutcomeUnknownError(host, link.route, str(error)) from error


def _held(session: Session, on_output: Callable[[bytes], None]) -> int:
    stdin = piped_stdin(even_terminal=True)
    with watch_size(session.resize):
        if stdin is None:
            session.send_eof()
            return _show_until_exit(session, on_output)
        keys = _Keys(stdin, session, on_output)
        pass_on(keys, session)  # type: ignore[arg-type]  # it is read by read1 alone
        return _show_until_exit(session, on_output, keys)


class _Keys(io.RawIOBase):
    """Typed input without its escape sequences.

    It is read in a thread of its own: ``~.`` works while the host takes no more input.
    """

    def __init__(
        self, stdin: BinaryIO, session: Session, on_output: Callable[[bytes], None]
    ) -> None:
        self.has_left = False
        """True once the escape to leave was typed."""
        self._stdin, self._session, self._on_output = stdin, session, on_output
        self._pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="ringtasks-keys", daemon=True).start()

    def read1(self, size: int = -1) -> bytes:
        """Return the next piece; empty at the end of the input."""
        return self._pieces.get()

    def _work(self) -> None:
        escapes = EscapeFilter()
        with contextlib.suppress(OSError, ValueError):
            while not self.has_left and (typed := self._stdin.read(_KEYS_BYTES)):
                sent, found = escapes.feed(typed)
                if sent:
                    self._pieces.put(sent)
                for escape in found:
                    self._obey(escape)
        if not self.has_left:
            self._pieces.put(b"")

    def _obey(self, escape: Escape) -> None:
        if escape is Escape.HELP:
            self._on_output(HELP)
            return
        self.has_left = True
        self._session.wake()


def _show_until_exit(
    session: Session, on_output: Callable[[bytes], None], keys: _Keys | None = None
) -> int:
    has_begun = False
    while True:
        happened = session.receive(None)
        if keys is not None and keys.has_left:
            return UNREACHABLE  # as ssh
        if isinstance(happened, Exited):
            if happened.status == KILLED_STATUS and not has_begun:
                raise NotStartedError("it closed the session at once", "shell")
            return happened.status
        has_begun = has_begun or happened is not None
        if happened is not None:
            on_output(happened.chunk)
