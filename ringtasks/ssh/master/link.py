"""A link over a control master that other processes may use too.

Everything that a session needs is in the master; this module adds a dialogue that shows the
master's end, a count of its users, and a queue for hosts that allow few sessions at once.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ringtasks.errors import ProtocolError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.link import LinkLostError, SessionRefusedError, Terminal, TunnelRefusedError

from . import usage
from .control import ANSWER_TIMEOUT, Control, DeniedError
from .records import Master
from .session import MuxSession
from .usage import MasterUse, SessionTurn

if TYPE_CHECKING:
    from .tunnel import MuxTunnel

__all__ = ["MuxLink"]

#: Seconds between two requests for a session on a full host, growing from the first to the second.
_ROOM_DELAYS = (0.005, 0.05)
#: Seconds for a busy master to answer if it answered a moment ago.
_PATIENCE = 4 * ANSWER_TIMEOUT
#: Seconds for the answer to a request for a session that is sent shortly before a time limit:
#: without the answer, it is not known whether the command runs.
_LEAST_ANSWER_TIMEOUT = 0.5
#: Seconds for which a master that has answered is taken to be responsive.
_TRUST_TIME = 1.0


class MuxLink:
    """A `ringtasks.ssh.link.Link`; usable from any thread.

    If the host refuses a session because there are too many (MaxSessions), `open_session` says
    so, and `await_session_end` waits for room: one caller on this machine asks again at a time, and
    newcomers are refused without asking while another caller waits.

    :param config: for its time limits.
    :param control: a dialogue with the master, which has answered; the link owns it from now on.
    """

    def __init__(self, config: SSHConfig, master: Master, control: Control) -> None:
        self.master = master
        self._timeout = config.connect_timeout
        self._silence_timeout = float(config.server_alive_interval) or None
        self._at_hand: Control | None = control
        """The dialogue that shows the master's end, and serves the next session."""
        self._well_until = time.monotonic() + _TRUST_TIME
        self._lock = threading.Lock()
        self._is_closed = False
        self._ended = threading.Condition()
        self._turn = SessionTurn(self.master.socket)
        self._may_ask = False
        self._refusals = 0
        self.login_is_silent: bool | None = None

    @property
    def route(self) -> str:
        return self.master.route

    def is_alive(self) -> bool:
        with self._lock:
            if self._is_closed:
                return False
            try:
                self._at_hand = self._at_hand or self._connected()
            except OSError:
                return False
            return self._at_hand.is_open()

    def open_session(
        self,
        command: str | None,
        terminal: Terminal | None = None,
        *,
        timeout: float | None = None,
    ) -> MuxSession:
        with self._opening(timeout) as (use, control):
            return MuxSession.open(use, control, command, terminal)

    def open_piped(
        self, command: str, stdin: int, stdout: int, *, timeout: float | None = None
    ) -> MuxSession:
        """See `ringtasks.ssh.link.PipingLink`."""
        with self._opening(timeout) as (use, control):
            return MuxSession.open(use, control, command, piped=(stdin, stdout))

    @contextlib.contextmanager
    def _opening(self, timeout: float | None) -> Iterator[tuple[MasterUse, Control]]:
        """Yield what the block needs to request a session, and count its refusals.

        :raises SessionRefusedError: other callers wait for a session.
        """
        if not self._may_ask and self._turn.is_taken():
            raise SessionRefusedError("others wait for a session already")
        self._may_ask = False
        if self._is_closed:
            raise LinkLostError("the link is closed")
        use = self._begin_use(timeout)
        try:
            with self._translated():
                control = self._dialogue()
            yield use, control
        except BaseException as error:
            if isinstance(error, SessionRefusedError):
                self._refusals += 1
            use.end()
            raise
        self._refusals = 0

    def _begin_use(self, timeout: float | None) -> MasterUse:
        """Mark the master as in use."""
        limit = self._timeout
        if timeout is not None:
            limit = min(limit, max(timeout, _LEAST_ANSWER_TIMEOUT))
        try:
            return MasterUse(self.master, limit, self._silence_timeout, self._session_ended)
        except OSError as error:
            reason = f"the control master's folder cannot be used: {error.strerror}"
            raise LinkLostError(reason) from error

    def await_session_end(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        if not usage.count(self.master.socket):
            self._may_ask = True
            return False
        if self._turn.take(timeout):
            try:
                shortest, longest = _ROOM_DELAYS
                delay = min(longest, shortest * 1.5 ** min(self._refusals, 20))
                with self._ended:
                    self._ended.wait(max(0.0, min(delay, deadline - time.monotonic())))
                self._may_ask = True
            finally:
                self._turn.release()
        return True

    def open_sftp(self, *, timeout: float | None = None) -> Any:
        from .sftp import open_sftp

        with self._opening(timeout) as (use, control):
            return open_sftp(use, control)

    def open_tunnel(self, host: str, port: int) -> MuxTunnel:
        if self._is_closed:
            raise LinkLostError("the link is closed")
        from .tunnel import MuxTunnel

        with self._translated():
            return MuxTunnel.open(self._connected(), host, port, self._timeout)

    def close(self) -> None:
        """Release the master, which continues for its other users."""
        with self._lock:
            self._is_closed = True
            self._turn.release()
            control, self._at_hand = self._at_hand, None
            if control is not None:
                control.close()

    def _dialogue(self) -> Control:
        """Return a dialogue with a responsive master: no request to it is left to wait."""
        with self._lock:
            control, self._at_hand = self._at_hand, None
            is_well = control is not None and time.monotonic() < self._well_until
            self._well_until = 0.0
        control = control or self._connected()
        try:
            if not is_well:
                control.alive(min(self._timeout, _PATIENCE))
            # A process that puts the master aside first removes the socket, then looks for marks.
            if not os.path.lexists(self.master.socket):
                raise LinkLostError("the control master is no longer used")
        except BaseException:
            control.close()
            raise
        return control

    def _connected(self) -> Control:
        return Control.connect(self.master.socket, min(self._timeout, _PATIENCE))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (LinkLostError, TunnelRefusedError):
            raise
        except (OSError, ProtocolError, DeniedError) as error:
            raise LinkLostError(str(error)) from error

    def _session_ended(self) -> None:
        with self._ended:
            self._ended.notify()
