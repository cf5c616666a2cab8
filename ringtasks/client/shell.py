"""An interactive login shell over a link, in this machine's terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ringtasks.errors import OutcomeUnknownError
from ringtasks.exit_status import UNREACHABLE
from ringtasks.ssh.execution import pass_on
from ringtasks.ssh.link import KILLED_STATUS, Exited, Link, LinkLostError, NotStartedError, Session

from .refused_channel import NoChannelError
from .terminal import piped_stdin, raw_mode, requested_terminal, watch_size
from .typed_input import TypedInput

__all__ = ["interact"]


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
        keys = TypedInput(stdin, session.wake)
        pass_on(keys, session)  # type: ignore[arg-type]  # it is read by read1 alone
        return _show_until_exit(session, on_output, keys)


def _show_until_exit(
    session: Session, on_output: Callable[[bytes], None], keys: TypedInput | None = None
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
