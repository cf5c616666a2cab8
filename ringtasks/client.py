"""`SSHClient`: commands on one host, answered by an SSHResult whatever happens there.

A client keeps one link open between calls and opens it anew when it was lost.  It is safe to use
from several threads.  Each call is recorded in the health file, once.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from .approach import Approach
from .capture import Capture
from .config import SSHConfig
from .errors import LimitError, OutcomeUnknownError, Reason, RouteError, UnreachableError
from .execution import Ending, Execution
from .faults import printable
from .health import Outcome, RouteOutcome, SSHHealth
from .health_store import HealthStore
from .link import STDOUT, Link, LinkLostError, Terminal
from .result import INTERRUPTED, TIMED_OUT, UNREACHABLE, SSHResult
from .script import Script

__all__ = ["SSHClient"]

#: A link that fails before the command can have started is replaced this many times.
_LINK_ATTEMPTS = 3

OnOutput = Callable[[int, bytes], None]


class _Call:
    """One `run`, with what the health file will be told of it."""

    def __init__(self, command: str, limit: float | None) -> None:
        self.command = command
        self.limit = limit
        self.started = time.monotonic()
        self.stdout, self.stderr = Capture(), Capture()
        self.routes: list[RouteOutcome] = []


class SSHClient:
    """Runs commands on the host that ``config`` describes.

    :param transport: use this route only (``tailscale``, ``direct`` or ``cloudflare``).
    :param on_open: told of each opening of a link: the routes that failed, and the one that works.
    """

    def __init__(
        self,
        config: SSHConfig,
        *,
        transport: str | None = None,
        on_open: Callable[[Outcome], None] | None = None,
    ) -> None:
        self.config = config
        self._on_open = on_open
        self._transport = transport
        self._store = HealthStore()
        self._link: Link | None = None
        self._lock = threading.RLock()

    @property
    def health(self) -> SSHHealth:
        """The stored health of the host: what every process has recorded."""
        return self._store.get(self.config.id)

    def run(
        self,
        command: str,
        timeout: float | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        *,
        stdin: BinaryIO | None = None,
        on_output: OnOutput | None = None,
        terminal: Terminal | None = None,
    ) -> SSHResult:
        """Run ``command`` and answer how it went; what happens on the far end raises nothing.

        :param timeout: seconds; None: the host's ``command_timeout``; 0: no limit.
        :param cwd: the folder; None: the host's ``work_dir``, else the remote home.
        :param env: set for the command alone, and seen in no process list.
        :param stdin: passed on as it comes; None: empty.
        :param on_output: gets 1 or 2 (stdout, stderr) and the bytes, as they come; then they are
            not kept in the result.
        :raises ValueError: an empty command, a NUL, a bad variable name, a negative timeout.
        :raises UsageError: the configuration cannot be used (a missing key file, an unset
            ``${VAR}``); nothing was sent or recorded.
        :raises KeyboardInterrupt: Ctrl-C; the remote processes were told to end. Its argument is
            the SSHResult.
        """
        call = _Call(command, _limit(timeout, self.config.command_timeout))
        script = Script(
            command,
            cwd=cwd if cwd is not None else self.config.work_dir,
            env=dict(env or {}),
            venv=self.config.venv_activate,
            run_id=os.urandom(8).hex(),
        )

        def keep(stream: int, chunk: bytes) -> None:
            (call.stdout if stream == STDOUT else call.stderr).add(chunk)

        def execution_over(link: Link) -> Execution:
            return Execution(
                link,
                script,
                on_output or keep,
                shell=self.config.shell,
                stdin=stdin,
                terminal=terminal,
            )

        return self._run(call, execution_over)

    def link(self) -> Link:
        """The open link, opened now if need be; recorded in the health file.

        :raises UnreachableError: no route works.
        """
        call = _Call("", None)
        try:
            link = self._open_link(call)
        except UnreachableError as error:
            self._unreachable(call, error)
            raise
        self._record(call, success=True)
        return link

    def is_alive(self) -> bool:
        """Whether a link is open and believed to be up; never waits."""
        link = self._link
        return link is not None and link.is_alive()

    def close_link(self) -> None:
        """Close the link, if one is open. The next call opens a new one."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def __enter__(self) -> SSHClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close_link()

    def _run(self, call: _Call, execution_over: Callable[[Link], Execution]) -> SSHResult:
        failures: list[RouteError] = []
        for _ in range(_LINK_ATTEMPTS):
            try:
                link = self._open_link(call)
            except UnreachableError as error:
                return self._unreachable(call, UnreachableError(error.host, error.failures))
            try:
                ending = execution_over(link).run(call.limit)
            except LinkLostError as error:  # nothing can have started: another link may serve
                failures.append(self._lost_before_start(call, link, error))
                continue
            return self._ended(call, link, ending)
        return self._unreachable(call, UnreachableError(self.config.id, tuple(failures)))

    def _open_link(self, call: _Call) -> Link:
        with self._lock:
            if self._link is None or not self._link.is_alive():
                self.close_link()
                self._link = self._new_link(call)
            return self._link

    def _new_link(self, call: _Call) -> Link:
        config = self.config
        if config.embedded:
            from .demo import serve

            config = serve(config)
        approach = Approach(config, self._transport)
        if not config.proxy_jump and not Path("~/.ssh/config").expanduser().exists():
            approach.begin()  # meanwhile, Paramiko is loaded: a quarter of a short command's time
        gc.disable()  # looking for garbage among what is just being loaded takes 5 ms
        from .connection import Connection
        from .inprocess import InProcessLink

        gc.enable()

        def report(outcome: Outcome) -> None:
            call.routes.extend(outcome.routes)
            if self._on_open is not None:
                self._on_open(outcome)

        connection = Connection(config, transport=self._transport, report=report, approach=approach)
        return InProcessLink(connection)

    def _lost_before_start(self, call: _Call, link: Link, error: LinkLostError) -> RouteError:
        call.routes.append(RouteOutcome(link.route, success=False, reason=str(Reason.LINK_LOST)))
        self._drop(link)
        # Told at once, so that the next attempt prefers another route.
        self._record(call, success=None)
        call.routes.clear()
        return RouteError(self.config.id, link.route, Reason.LINK_LOST, printable(str(error)))

    def _drop(self, link: Link) -> None:
        with self._lock:
            if self._link is link:
                self._link = None
        link.close()

    def _ended(self, call: _Call, link: Link, ending: Ending) -> SSHResult:
        route = link.route
        if ending.lost is not None:
            self._drop(link)
            self._record(call, success=False, lost_route=route, reason=str(Reason.LINK_LOST))
            unknown = OutcomeUnknownError(self.config.id, route, printable(ending.lost))
            return self._result(call, UNREACHABLE, route, error=str(unknown))
        if not call.routes:  # an old link was good for another command
            call.routes.append(RouteOutcome(route, success=True))
        self._record(call, success=True)
        if ending.interrupted:
            return self._result(call, INTERRUPTED, route, error=f"interrupted; {ending.stopped}")
        if ending.status is None:
            passed = LimitError(self.config.id, "the command's time limit", call.limit or 0)
            error = f"{passed}; {ending.stopped}"
            return self._result(call, TIMED_OUT, route, error=error, timed_out=True)
        return self._result(call, ending.status, route)

    def _unreachable(self, call: _Call, error: UnreachableError) -> SSHResult:
        self._record(call, success=False, reason=error.reason)
        return self._result(call, UNREACHABLE, None, error=str(error))

    def _record(
        self, call: _Call, *, success: bool | None, lost_route: str | None = None, reason: str = ""
    ) -> None:
        routes = [route for route in call.routes if route.route != lost_route]
        if lost_route is not None:
            routes.append(RouteOutcome(lost_route, success=False, reason=reason))
        outcome = Outcome(self.config.id, success=success, reason=reason, routes=tuple(routes))
        self._store.record([outcome])

    def _result(
        self,
        call: _Call,
        returncode: int,
        route: str | None,
        *,
        error: str | None = None,
        timed_out: bool = False,
    ) -> SSHResult:
        stdout, stderr = call.stdout.getvalue(), call.stderr.getvalue()
        return SSHResult(
            success=returncode == 0 and error is None,
            returncode=returncode,
            stdout=stdout.decode("utf-8", "replace"),
            stderr=stderr.decode("utf-8", "replace"),
            elapsed_ms=round((time.monotonic() - call.started) * 1000, 3),
            command=call.command,
            host=self.config.id,
            transport_used=route,
            timed_out=timed_out,
            error=error,
            stdout_bytes=stdout,
            stderr_bytes=stderr,
        )


def _limit(timeout: float | None, default: float) -> float | None:
    """The time limit in seconds, None for none.

    :raises ValueError: it is negative.
    :raises TypeError: it is not a number.
    """
    if timeout is None:
        timeout = default
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout: expected seconds, got {type(timeout).__name__}")
    if not timeout >= 0:
        raise ValueError(f"timeout: expected seconds, not below 0, got {timeout!r}")
    return timeout or None
