"""Dialling: from a list of Routes to the one that answers first.

Attempts are staggered (`race`, RFC 8305); the first that shows an SSH banner wins and the others
are closed.  A banner decides, not a mere connection: firewalls, proxies and failing boxes accept
and then send nothing.  Each attempt runs in a thread of its own, because name look-ups and proxy
dialogues block; the thread ends with its attempt, `RouteAttempt.cancel` ends it early.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import queue
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ringtasks.common.cancellation import Cancellation
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.pending_answers import awaiting
from ringtasks.common.rehearsal import current
from ringtasks.common.text import printable
from ringtasks.common.threads import start_thread
from ringtasks.errors import ADVICE, Reason, RouteError, UnreachableError, UsageError
from ringtasks.inventory.host_settings import SSHConfig

from . import tcp
from .race import HEAD_START, Race
from .routes import ProcessProxy, Route, RouteRefusedError, SocksProxy
from .stream import NotSSHError, Stream

if TYPE_CHECKING:
    from types import ModuleType

    from .proxies import ProxyProcess

__all__ = ["Begun", "Dialled", "FindWay", "Gateway", "KnownWay", "dial"]

#: Opens a socket-like channel to (host, port) through a jump host within a number of seconds, or
#: starts a proxy process that does.
Gateway = Callable[[str, int, float], Any]


class KnownWay(NamedTuple):
    """A host's address, and the gateway to it, by Fabric's settings and ``~/.ssh/config``."""

    config: SSHConfig
    gateway: Gateway | None = None
    close_gateway: Callable[[], None] = lambda: None


#: Returns the way to a host over any route, or over the named one.
FindWay = Callable[[SSHConfig, str | None], KnownWay]


class Dialled(NamedTuple):
    """The race's outcome: a stream with an SSH server at its other end.

    ``failures`` are the routes that failed before, in order; a route that had its head start and
    was overtaken is among them.
    """

    route: Route
    stream: Stream
    failures: tuple[RouteError, ...]


class Begun(NamedTuple):
    """A TCP connection to a route that was begun at a monotonic time; it may still be under way."""

    route: str
    descriptor: int
    began: float


def dial(
    host: str,
    routes: Sequence[Route],
    timeout: float,
    *,
    gateway: Gateway | None = None,
    begun: Sequence[Begun] = (),
) -> Dialled:
    """Return the first of ``routes`` that shows an SSH banner within ``timeout`` seconds.

    :param gateway: opens the direct route through a jump host.
    :param begun: connections to some of the routes, which run first in the race.
    :raises UnreachableError: none did; its ``failures`` have one RouteError for each route.
    :raises UsageError: none did, and one could not be tried because of the caller's own mistake.
    """
    if (rehearsal := _rehearsal()) is not None:
        rehearsal.announce()
    deadline = time.monotonic() + timeout
    finished: queue.SimpleQueue[RouteAttempt] = queue.SimpleQueue()
    attempts = [RouteAttempt(host, route, deadline, finished, gateway) for route in routes]
    _take_over(attempts, begun)
    with awaiting(host, lambda: _places(attempts), deadline):
        return _raced(attempts, finished, deadline)


def _raced(
    attempts: Sequence[RouteAttempt], finished: queue.SimpleQueue[RouteAttempt], deadline: float
) -> Dialled:
    """Return the first attempt with a banner; see `dial`."""
    race = Race(attempts, is_costly=lambda attempt: attempt.route.is_costly)
    _start_first(race, attempts)
    failures: list[RouteError] = []
    mistakes: list[UsageError] = []
    try:
        while not race.is_over:
            attempt = _next_finished(race, finished, deadline)
            if attempt is None:
                break
            if (stream := attempt.kept()) is not None:
                failures += _overtaken(race.running, attempt)
                return Dialled(attempt.route, stream, tuple(failures))
            race.failed(attempt)
            if isinstance(attempt.error, RouteError):
                failures.append(attempt.error)
            elif attempt.error is not None:
                mistakes.append(attempt.error)
        failures += [late.out_of_time() for late in race.running]
    finally:
        for attempt in race.running:
            attempt.cancel()
    if mistakes:
        raise mistakes[0]
    tried = [attempt.route.name for attempt in attempts]
    found = tuple(sorted(failures, key=lambda f: tried.index(f.route)))
    raise UnreachableError(attempts[0].host, found)


def _start_first(race: Race[RouteAttempt], attempts: Sequence[RouteAttempt]) -> None:
    """Start the attempts whose connections were begun already, or a single one."""
    if attempts[0].begun is not None:
        for began in [each.begun.began for each in attempts if each.begun is not None]:
            race.start(began).start()
    elif len(attempts) == 1 and attempts[0].is_bounded:
        race.start(time.monotonic()).run_alone()


class RouteAttempt:
    """An attempt over one route, in a thread of its own.

    Once it is in ``finished`` it has either a ``stream`` or an ``error``.
    """

    def __init__(
        self,
        host: str,
        route: Route,
        deadline: float,
        finished: queue.SimpleQueue[RouteAttempt],
        gateway: Gateway | None,
    ) -> None:
        self.host, self.route = host, route
        self.stream: Stream | None = None
        self.error: RouteError | UsageError | None = None
        self.begun: Begun | None = None
        self._deadline = deadline
        self._finished = finished
        self._gateway = gateway if route.name == "direct" else None
        self._cancellation = Cancellation()
        self._proxy: ProxyProcess | None = None
        self._is_connected = self._is_alone = False
        self._started_at = 0.0

    def start(self) -> None:
        """Call `run` in a thread; at once, if this machine allows no more threads."""
        self._started_at = self.begun.began if self.begun else time.monotonic()
        name = f"ringtasks-dial-{self.route.name}"
        try:
            start_thread(self.run, name=name)
        except UsageError:
            self.run()

    def run_alone(self) -> None:
        """Call `run` in this thread: the only attempt, which no other thread cancels."""
        self._is_alone = True
        self.run()

    def run(self) -> None:
        """Make the attempt; at its end it puts itself into ``finished``."""
        self._started_at = self._started_at or time.monotonic()
        stream: Stream | None = None
        try:
            stream = self._connect()
            self._cancellation.add(stream.close)
            stream.await_banner(self._deadline)
            self.stream = stream
        except Exception as error:  # noqa: BLE001  # a gateway may raise anything: it is handed on
            self.error = self._error_of(error)
        finally:
            if self.stream is None and stream is not None:
                stream.close()
        self._finished.put(self)

    @property
    def is_bounded(self) -> bool:
        """True if no part of it can last beyond the deadline: not even a name look-up."""
        is_plain = self._gateway is None and self.route.proxy is None
        return is_plain and _is_address(self.route.host)

    def kept(self) -> Stream | None:
        """Return the stream, which `cancel` no longer closes; None: the attempt has failed."""
        if self.stream is not None:
            self._cancellation.clear()
            if (rehearsal := _rehearsal()) is not None:
                rehearsal.watch(self.host, self.route.name, self.stream)
        return self.stream

    def cancel(self) -> None:
        """Close the open connection; the thread then ends by itself."""
        self._cancellation.cancel()

    @property
    def is_running(self) -> bool:
        """True if it was started, and has not ended yet."""
        return bool(self._started_at) and self.stream is None and self.error is None

    def age(self) -> float:
        """Return the seconds since `start`."""
        return time.monotonic() - self._started_at

    def out_of_time(self) -> RouteError:
        """Return the failure of an attempt that did not end by the deadline."""
        if self._is_connected:
            return self._failure(Reason.SILENT, "connected, but no SSH banner came")
        if self._proxy is not None:
            evidence = f"no SSH banner in {self.age():.1f} s from {self._proxy.words()}"
            return self._failure(Reason.TIMED_OUT, evidence, ADVICE[Reason.PROXY_FAILED])
        return self._failure(Reason.TIMED_OUT, f"no answer in {self.age():.1f} s")

    def overtaken(self, by: RouteAttempt) -> RouteError:
        """Return the failure of an attempt that lost in spite of its head start."""
        evidence = f"no answer in {self.age():.2f} s; {by.route.name} answered first"
        return self._failure(Reason.OVERTAKEN, evidence)

    def _connect(self) -> Stream:
        host, port, proxy = self.route.host, self.route.port, self.route.proxy
        opposed = self._oppose()
        if opposed is not None:
            self._is_connected = True
            return opposed
        if self._gateway is not None or proxy is not None:
            return self._connect_through(host, port, proxy)
        family, source = self.route.family, self.route.source
        if self.begun is not None:
            sock = tcp.finish(self.begun.descriptor, self._deadline, self._cancellation)
        else:
            ender = None if self._is_alone else self._cancellation
            sock = tcp.connect(host, port, self._deadline, ender, family=family, source=source)
        self._is_connected = True
        return Stream(sock)

    def _connect_through(
        self, host: str, port: int, proxy: ProcessProxy | SocksProxy | None
    ) -> Stream:
        """Connect through the gateway or the route's proxy; few hosts have one."""
        from .proxies import ProxyProcess, connect_socks

        remaining = max(0.001, self._deadline - time.monotonic())
        if self._gateway is not None:
            through = self._gateway(host, port, remaining)
        elif isinstance(proxy, ProcessProxy):
            through = ProxyProcess(proxy)
        elif proxy is not None:
            through = connect_socks(proxy, host, port, remaining)
        if not isinstance(through, ProxyProcess):
            return Stream(through)
        self._proxy = through
        return Stream(through.sock, on_close=through.close)

    def _oppose(self) -> Stream | None:
        rehearsal = _rehearsal()
        if rehearsal is None:
            return None
        opposed: Stream | None = rehearsal.oppose(
            self.host, self.route.name, self._deadline, self._cancellation
        )
        return opposed

    def _error_of(self, error: Exception) -> RouteError | UsageError:
        if isinstance(error, UsageError):
            return error
        if isinstance(error, TimeoutError) and self._gateway is None:
            return self.out_of_time()
        from .failure_table import classify  # with the table of failures, for failures alone

        if isinstance(error, RouteRefusedError):
            return self._failure(error.reason, error.evidence, error.advice)
        if self._proxy is not None:
            answer = str(error) if isinstance(error, NotSSHError) else ""
            return self._failure(Reason.PROXY_FAILED, self._proxy.evidence(answer))
        if self._gateway is not None:
            found = classify(error)
            known = (
                found if found.reason is Reason.JUMP_FAILED else (Reason.JUMP_FAILED, str(error))
            )
            failed = self._failure(*known)
            failed.__cause__ = error
            return failed
        return self._failure(*classify(error))

    def _failure(self, reason: Reason, evidence: str, advice: str = "") -> RouteError:
        rehearsal = _rehearsal()
        marked = rehearsal.mark(self.host, self.route.name) if rehearsal is not None else ""
        return RouteError(
            self.host,
            self.route.name,
            reason,
            printable(evidence) + marked,
            self.route.address,
            self.age(),
            advice,
        )


def _rehearsal() -> ModuleType | None:
    """Return `ringtasks.ssh.rehearsal` if a rehearsal is in force; most runs do not load it."""
    if current() is None:
        return None
    from . import rehearsal

    return rehearsal


def _take_over(attempts: list[RouteAttempt], begun: Sequence[Begun]) -> None:
    """Give the connections to their attempts, which come first then; close the others."""
    by_route = {attempt.route.name: attempt for attempt in attempts}
    for each in begun:
        attempt = by_route.get(each.route)
        if attempt is None:
            os.close(each.descriptor)
        else:
            attempt.begun = each
    attempts.sort(key=lambda attempt: attempt.begun is None)  # stable


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _next_finished(
    race: Race[RouteAttempt], finished: queue.SimpleQueue[RouteAttempt], deadline: float
) -> RouteAttempt | None:
    """Return the next ended attempt; starts those that are due meanwhile. None: out of time."""
    while True:
        now = time.monotonic()
        if now >= deadline:
            return None
        start_at = race.next_start(now)
        if start_at is not None and start_at <= now:
            race.start(now).start()
            continue
        wake_at = deadline if start_at is None else min(deadline, start_at)
        with contextlib.suppress(queue.Empty):
            return finished.get(timeout=wake_at - now)


def _places(attempts: Iterable[RouteAttempt]) -> str:
    running = (each for each in attempts if each.is_running)
    return ", ".join(f"{each.route.name} ({each.route.address})" for each in running)


def _overtaken(running: Iterable[RouteAttempt], winner: RouteAttempt) -> list[RouteError]:
    return [
        attempt.overtaken(winner)
        for attempt in running
        if attempt is not winner and attempt.age() >= HEAD_START
    ]
