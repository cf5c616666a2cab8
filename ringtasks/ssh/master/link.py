"""A link over a control master that other processes may use too.

Everything that a session needs is in the master; this module adds a dialogue that shows the
master's end, a count of its users, and a queue for hosts that allow few sessions at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ringtasks.errors import ProtocolError
from ringtasks.inventory.config import SSHConfig
from ringtasks.ssh.link import LinkLostError, SessionRefusedError, Terminal, TunnelRefusedError

from . import usage
from .control import Control, DeniedError
from .lookup import ANSWER_TIMEOUT, Attached, answers, attach
from .records import Master
from .session import MuxSession
from .usage import SessionTurn, UsageMark
from .wire import Forward

if TYPE_CHECKING:
    from .tunnel import MuxTunnel

__all__ = ["MuxLink"]

#: Seconds between two requests for a session on a full host, growing from the first to the second.
_ROOM_DELAYS = (0.005, 0.05)
#: Seconds to repeat the request if no session is known to be open: one may have just ended, and a
#: busy host takes its time to notice.
_LONELY_TIMEOUT = 2.0
_LONELY_DELAY = 0.05
#: Seconds for a busy master to answer if it answered a moment ago.
_PATIENCE = 4 * ANSWER_TIMEOUT
#: Seconds for which a master that has answered is taken to be responsive.
_TRUST_TIME = 1.0


class MuxLink:
    """A `ringtasks.ssh.link.Link`; usable from any thread.

    If the host refuses a session because there are too many (MaxSessions), `open_session` says
    so, and `await_session_end` waits for room: one caller on this machine asks again at a time, and
    newcomers are refused without asking while another caller waits.

    :param config: for its time limits.
    :param attached: the master, and a dialogue with it that the link owns from now on.
    """

    def __init__(self, config: SSHConfig, attached: Attached) -> None:
        self.master: Master = attached.master
        self._timeout = config.connect_timeout
        self._silence_timeout = float(config.server_alive_interval) or None
        self._at_hand: Control | None = attached.control
        """The dialogue that shows the master's end, and serves the next session."""
        self._well_until = time.monotonic() + _TRUST_TIME
        self._lock = threading.Lock()
        self._is_closed = False
        self._ended = threading.Condition()
        self._sessions = 0
        self._turn = SessionTurn(self.master.socket)
        self._may_ask = False
        self._refusals = 0
        self._lonely_since: float | None = None
        self.login_is_silent: bool | None = None

    @classmethod
    def find(cls, config: SSHConfig, transport: str | None = None) -> MuxLink | None:
        """Return a link over the responsive master for this connection, or None.

        :raises StateFileError: the folder of the sockets cannot be used.
        """
        attached = attach(config, transport)
        return None if attached is None else cls(config, attached)

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

    def open_session(self, command: str | None, terminal: Terminal | None = None) -> MuxSession:
        return self._open(command, terminal, None)

    def open_piped(self, command: str, stdin: int, stdout: int) -> MuxSession:
        """See `ringtasks.ssh.link.PipingLink`."""
        return self._open(command, None, (stdin, stdout))

    def _open(
        self, command: str | None, terminal: Terminal | None, piped: tuple[int, int] | None
    ) -> MuxSession:
        mark, control = self._begin_turn()
        with self._counted():
            return MuxSession.open(
                control,
                command,
                terminal,
                self._timeout,
                is_master_alive=self._is_master_alive,
                resized=self._resized,
                on_close=lambda: self._session_ended(mark),
                silence_timeout=self._silence_timeout,
                piped=piped,
            )

    def _begin_turn(self) -> tuple[UsageMark, Control]:
        """Call `_begin`, unless other callers wait for a session.

        :raises SessionRefusedError: other callers wait.
        """
        if not self._may_ask and self._turn.is_somebody_elses():
            raise SessionRefusedError("others wait for a session already")
        self._may_ask = False
        return self._begin()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Count the session that the block requests, and its refusals."""
        with self._ended:
            self._sessions += 1
        try:
            yield
        except SessionRefusedError:
            self._refusals += 1
            raise
        self._refusals, self._lonely_since = 0, None

    def await_session_end(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        if not usage.count(self.master.socket):
            self._lonely_since = since = self._lonely_since or time.monotonic()
            time.sleep(min(timeout, _LONELY_DELAY))
            self._may_ask = True
            return time.monotonic() - since < _LONELY_TIMEOUT
        self._lonely_since = None
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

    def open_sftp(self) -> Any:
        from .sftp import open_sftp

        mark, control = self._begin_turn()
        with self._counted():
            return open_sftp(
                control,
                self._timeout,
                is_master_alive=self._is_master_alive,
                on_close=lambda: self._session_ended(mark),
                silence_timeout=self._silence_timeout,
            )

    def open_tunnel(self, host: str, port: int) -> MuxTunnel:
        if self._is_closed:
            raise LinkLostError("the link is closed")
        from .tunnel import MuxTunnel

        with self._translated():
            return MuxTunnel.open(self._connected(), host, port, self._timeout)

    @contextlib.contextmanager
    def forward(self, forward: Forward) -> Iterator[int]:
        """Forward a port of this machine to one that the host can reach; yields the local port.

        When the forward ends, connections that are already open stay.

        :param forward: a ``listen_port`` of 0 takes a free one.
        :raises LinkLostError: the master is gone, or it cannot listen on the port.
        """
        with self._translated(), contextlib.closing(self._connected()) as control:
            opened = _listen(control, forward, self._timeout)
        try:
            yield opened.listen_port
        finally:
            with (
                contextlib.suppress(LinkLostError),
                self._translated(),
                contextlib.closing(self._connected()) as control,
            ):
                control.close_forward(opened, self._timeout)

    def close(self) -> None:
        """Let go of the master, which goes on for its other users."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._turn.release()
            control, self._at_hand = self._at_hand, None
            if control is not None:
                control.close()

    def _begin(self) -> tuple[UsageMark, Control]:
        """Mark the master as in use, then return the mark and a dialogue for one session."""
        if self._is_closed:
            raise LinkLostError("the link is closed")
        try:
            mark = UsageMark(self.master.socket)
        except OSError as error:
            reason = f"the control master's folder cannot be used: {error.strerror}"
            raise LinkLostError(reason) from error
        try:
            with self._translated():
                return mark, self._conversation()
        except BaseException:
            mark.release()
            raise

    def _conversation(self) -> Control:
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
                raise LinkLostError("the control master was put aside")
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

    def _is_master_alive(self) -> bool:
        return answers(self.master)

    def _resized(self) -> None:
        # clientloop.c, window_change_handler: the master looks at the sizes of all its terminals.
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.master.pid, signal.SIGWINCH)

    def _session_ended(self, mark: UsageMark) -> None:
        mark.release()
        with self._ended:
            self._sessions -= 1
            self._ended.notify()


def _listen(control: Control, forward: Forward, timeout: float) -> Forward:
    """Open a forward; choose its free port here, since a master does not report its choice."""
    if forward.listen_port:
        control.open_forward(forward, timeout)
        return forward
    for attempt in range(_PORT_ATTEMPTS):
        chosen = forward._replace(listen_port=_free_port(forward.listen_host))
        try:
            control.open_forward(chosen, timeout)
        except DeniedError:
            if attempt == _PORT_ATTEMPTS - 1:
                raise
        else:
            return chosen
    raise AssertionError("the last attempt returns or raises")


#: Attempts, since another process may take a free port before the master does.
_PORT_ATTEMPTS = 5


def _free_port(host: str) -> int:
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probing:
        probing.bind((host or "127.0.0.1", 0))
        port: int = probing.getsockname()[1]
        return port
