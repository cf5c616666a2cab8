"""An interactive login shell over a link, in this machine's terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ringtasks.errors import OutcomeUnknownError
from ringtasks.ssh.execution import pass_on
from ringtasks.ssh.link import KILLED_STATUS, Exited, Link, LinkLostError, NotStartedError, Session

from .gateways import NoChannelError
from .terminal import piped_stdin, raw_mode, requested_terminal, watch_size

__all__ = ["interact"]


def interact(link: Link, host: str, on_output: Callable[[bytes], None]) -> int:
    """Run the login shell until it ends, and return its exit status.

    :param on_output: called with the output as it arrives.
    :raises NoChannelError: the host gives no shell, or no terminal.
    :raises OutcomeUnknownError: the link was lost.
    """
    with raw_mode():
        try:
            with contextlib.closing(link.open_session(None, requested_terminal())) as session:
                return _held(session, on_output)
        except NotStartedError as error:
            raise NoChannelError(host, error.request or "shell", str(error)) from error
        except LinkLostError as error:
            raise OutcomeUnknownError(host, link.route, str(error)) from error


def _held(session: Session, on_output: Callable[[bytes], None]) -> int:
    with watch_size(session.resize):
        _pass_on_stdin(session)
        return _show_until_exit(session, on_output)


def _pass_on_stdin(session: Session) -> None:
    stdin = piped_stdin(even_terminal=True)
    if stdin is None:
        session.send_eof()
        return
    pass_on(stdin, session)


def _show_until_exit(session: Session, on_output: Callable[[bytes], None]) -> int:
    has_begun = False
    while True:
        happened = session.receive(None)
        if isinstance(happened, Exited):
            if happened.status == KILLED_STATUS and not has_begun:
                raise NotStartedError("it closed the session at once", "shell")
            return happened.status
        has_begun = has_begun or happened is not None
        if happened is not None:
            on_output(happened.chunk)
