"""Routes that fail on purpose, so that a team sees a bad day before it comes.

``tailscale=down,direct=slow:2s,direct=cut:3s``: each entry is a route and its failure.  A route is
a kind of route, ``*``, or ``HOST.KIND`` with a name or a glob; for its host, an entry with a host
replaces those without one.  `dialing` asks here before it connects a route, so every task, log-in
and program that connects is covered; nothing is sent over a route that is down, black-holed, silent
or has the wrong key.
"""

from __future__ import annotations

import fnmatch
import functools
import math
import socket
import time
from collections.abc import Callable, Iterable

from ringtasks.common import alarms, rehearsal
from ringtasks.common.cancellation import Cancellation
from ringtasks.common.durations import duration
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.text import near_names
from ringtasks.common.threads import start_timer
from ringtasks.errors import Reason, UsageError

from .host_keys import IMPOSTOR
from .routes import ROUTE_NAMES, RouteRefusedError
from .stream import Stream

__all__ = [
    "announce", "check", "check_hosts", "cuts", "mark", "mark_of_loss", "oppose",
    "planned", "summary", "watch",
]  # fmt: skip

_MOST_SECONDS = 86400.0
#: Failures after which no other one can follow on the same route.
_FINAL = ("down", "blackhole", "silent", "wrong-key")
_TIMED = ("slow", "cut")
_EXPECTED = (
    "expected ROUTE=FAILURE, joined by commas; "
    f"ROUTE: {', '.join(ROUTE_NAMES)}, * for all, or HOST.ROUTE; "
    f"FAILURE: {', '.join(_FINAL)}, slow:TIME (to connect), cut:TIME (after it has connected), "
    "such as slow:2s"
)


class _RehearsedFault(NamedTuple):
    """One entry; ``host`` None: of every host."""

    host: str | None
    route: str
    failure: str
    seconds: float = 0.0

    @property
    def text(self) -> str:
        return f"{self.failure}:{self.seconds:g}s" if self.failure in _TIMED else self.failure


def check() -> None:
    """Check the words of the rehearsal in force, if there is one.

    :raises UsageError: a word has no meaning; the message lists those that have one.
    """
    _faults()


def announce() -> None:
    """Log the rehearsal in force, for programs of users; the tasks have reported it themselves."""
    rehearsal.announce(_log)


def oppose(host: str, route: str, deadline: float, cancellation: Cancellation) -> Stream | None:
    """Let a route fail, or be slow, before it is connected.

    :returns: a connection without an answer, for a silent host; None: connect the route.
    :raises RouteRefusedError: the route fails at once.
    :raises TimeoutError: no answer by the (monotonic) deadline, or cancelled.
    """
    for fault in _faults_of(host, route):
        if fault.failure == "cut":
            continue
        _note(host, route, "delayed" if fault.failure == "slow" else "failed")
        if fault.failure in ("slow", "blackhole"):
            ready_at = time.monotonic() + fault.seconds if fault.seconds else math.inf
            if cancellation.wait(max(0.0, min(deadline, ready_at) - time.monotonic())):
                raise TimeoutError("cancelled")
            if ready_at > deadline:
                _note(host, route, "failed")
                raise TimeoutError("no answer")
        elif fault.failure == "silent":
            return _silence()
        elif fault.failure == "down":
            raise RouteRefusedError(Reason.REFUSED, "Connection refused")
        else:
            evidence = "host key changed: got a key of the rehearsal, expected the pinned key"
            raise RouteRefusedError(Reason.HOST_KEY, f"{evidence}: {IMPOSTOR}")
    return None


def watch(host: str, route: str, stream: Stream) -> None:
    """Begin the time of a connection that is to be cut."""
    for fault in _faults_of(host, route):
        if fault.failure == "cut":
            _note(host, route, "not cut")
            cut = functools.partial(_cut, host, route, fault.seconds, stream.breaker())
            start_timer(fault.seconds, cut, name="ringtasks-rehearsal")


def cuts(host: str, route: str) -> bool:
    """Return whether connections over the route are to be cut."""
    return any(fault.failure == "cut" for fault in _faults_of(host, route))


def planned(host: str, route: str) -> str:
    """Return the failures that the rehearsal has for a route, in words; empty: none."""
    return ", ".join(fault.text for fault in _faults_of(host, route))


def mark(host: str, route: str) -> str:
    """Return the text that marks a failed attempt of a route, empty if nothing is rehearsed."""
    told = [fault.text for fault in _faults_of(host, route) if fault.failure != "cut"]
    return f" (REHEARSAL: {', '.join(told)})" if told else ""


def mark_of_loss(host: str, route: str) -> str:
    """Return the text that marks a lost connection, empty if it was not cut on purpose."""
    return " (REHEARSAL: cut)" if (host, route, rehearsal.token()) in _cut_off else ""


def summary(*, is_over: bool = True) -> str:
    """Return the routes on which the rehearsal in force has used a failure, in words, if any.

    :param is_over: False: connections that are to be cut are still in use.
    """
    begun = rehearsal.token()
    found = [
        (_strongest(shown), f"{host} {route} ({planned(host, route)})")
        for (host, route, token), effects in list(_noted.items())
        if token == begun and (shown := effects if is_over else effects - {"not cut"})
    ]
    told = {
        "failed on purpose": [text for effect, text in found if effect == "failed"],
        "delayed on purpose": [text for effect, text in found if effect == "delayed"],
        "ended before it was to be cut": [text for effect, text in found if effect == "not cut"],
    }
    parts = [f"{what}: {', '.join(routes)}" for what, routes in told.items() if routes]
    return "; ".join(parts)


def check_hosts(known: Iterable[str]) -> None:
    """Check the hosts that the rehearsal in force names.

    :param known: the names of all hosts.
    :raises UsageError: an entry is about none of them; the message lists near names.
    """
    found = rehearsal.current()
    names = list(dict.fromkeys(known))
    for fault in () if found is None else _parsed(found.words, found.origin):
        if fault.host is None or any(_matches(name, fault.host) for name in names):
            continue
        near = near_names(fault.host, names)
        advice = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"{found and found.origin}: no host is called {fault.host!r}{advice}")


#: The effects of the failures that were used, by host, route and rehearsal, in order.
_noted: dict[tuple[str, str, str], set[str]] = {}


def _log(notice: str) -> None:
    import logging  # takes longer to load than the rest of a short program

    logging.getLogger("ringtasks").warning("%s", notice)


def _note(host: str, route: str, effect: str) -> None:
    _noted.setdefault((host, route, rehearsal.token()), set()).add(effect)


def _strongest(effects: set[str]) -> str:
    """Return the effect to tell: a later connection may end before it is cut, too."""
    return min(effects, key=("failed", "not cut", "delayed").index)


def _faults() -> tuple[_RehearsedFault, ...]:
    found = rehearsal.current()
    return () if found is None else _parsed(found.words, found.origin)


def _faults_of(host: str, route: str) -> list[_RehearsedFault]:
    faults = [fault for fault in _faults() if fault.route in ("*", route)]
    own = [f for f in faults if f.host is not None and _matches(host, f.host)]
    return own or [fault for fault in faults if fault.host is None]


def _matches(host: str, pattern: str) -> bool:
    return host == pattern or fnmatch.fnmatchcase(host, pattern)


@functools.lru_cache(maxsize=8)
def _parsed(words: str, origin: str) -> tuple[_RehearsedFault, ...]:
    """Return the entries, those that take time first.

    :raises UsageError: an entry has no meaning, or two of a route exclude each other.
    """
    if not words:
        raise UsageError(f"{origin}: {_EXPECTED}")
    faults = [_entry(word.strip(), origin) for word in words.split(",")]
    for fault in faults:
        alike = [f.failure for f in faults if (f.host, f.route) == (fault.host, fault.route)]
        ends = [failure for failure in alike if failure in _FINAL]
        if len(set(alike)) < len(alike) or len(ends) > 1 or (ends and "cut" in alike):
            raise UsageError(
                f"{origin}: {fault.route}: {' and '.join(alike)}: give one of them, or slow and one"
            )
    return tuple(sorted(faults, key=lambda fault: fault.failure != "slow"))


def _entry(word: str, origin: str) -> _RehearsedFault:
    place, equals, failure = word.partition("=")
    host, dot, route = place.strip().rpartition(".")
    name, colon, time_text = failure.strip().partition(":")
    name = "-".join(name.replace("_", " ").replace("-", " ").split())
    is_known = route in ("*", *ROUTE_NAMES) and name in (*_FINAL, *_TIMED)
    if not equals or not is_known or bool(dot) != bool(host) or bool(colon) != (name in _TIMED):
        raise UsageError(f"{origin}: {word!r}: {_EXPECTED}")
    seconds = duration(f"{origin}: {word!r}", time_text) if colon else 0.0
    if seconds > _MOST_SECONDS:
        raise UsageError(f"{origin}: {word!r}: expected at most 24h")
    return _RehearsedFault(host or None, route, name, seconds)


def _silence() -> Stream:
    """Return a connection to a peer that accepts bytes and sends none."""
    ours, theirs = socket.socketpair()
    return Stream(ours, on_close=theirs.close)


def _cut(host: str, route: str, seconds: float, break_off: Callable[[], None]) -> None:
    alarms.notify(host, f"REHEARSAL: the connection over {route} is cut after {seconds:g} s")
    _cut_off.add((host, route, rehearsal.token()))
    _note(host, route, "failed")
    break_off()


#: Host, route and rehearsal of each connection that was cut.
_cut_off: set[tuple[str, str, str]] = set()
