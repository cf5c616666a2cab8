"""An interactive login shell over a link, in this machine's terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ringtasks.errors import OutcomeUnknownError
from ringtasks.ssh.execution import pump
from ringtasks.ssh.link import Exited, Link, LinkLostError, Session

from .terminal import local_terminal, piped_stdin, watch_size

__all__ = ["interact"]


def interact(link: Link, host: str, on_output: Callable[[bytes], None]) -> int:
    """Run the login shell until it ends, and return its exit status.

    :param on_output: called with the output as it arrives.
    :raises OutcomeUnknownError: the link was lost.
    """
    with local_terminal() as terminal:
        session = link.open_session(None, terminal)
        try:
            with watch_size(session.resize):
                _pass_on_stdin(session)
                return _show_until_exit(session, on_output)
        except LinkLostError as error:
            raise OutcomeUnknownError(host, link.route, str(error)) from error
        finally:
            session.close()


def _pass_on_stdin(session: Session) -> None:
    stdin = piped_stdin(even_terminal=True)
    if stdin is None:
        session.send_eof()
        return
    threading.Thread(
        target=pump, args=(stdin, session), name="ringtasks-stdin", daemon=True
    ).start()


def _show_until_exit(session: Session, on_output: Callable[[bytes], None]) -> int:
    while True:
        happened = session.receive(None)
        if isinstance(happened, Exited):
            return happened.status
        if happened is not None:
            on_output(happened.chunk)
