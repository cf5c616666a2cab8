"""The start of ``ringtasks connect``: dial the likely route before most of the code is loaded.

If there is a `plan` of the host, its first healthy route is dialled at once.  If that shows an SSH
banner soon and ssh takes descriptors (ProxyUseFdpass), that is all.  In all other cases `connect`
goes on, and the connection that was begun is the first of its race.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal would make enumerations of its constants
import _socket  # socket takes longer to load than the whole of this
import os
import select
import sys
import time

from ringtasks.common import rehearsal
from ringtasks.health.document import DamagedError, backoff, count_success, decode
from ringtasks.ssh.descriptors import can_hand_over, hand_over

from . import plan

TYPE_CHECKING = False  # typing is slow to load
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["main"]

#: Seconds for the banner. Then the rest of the code is loaded while it may still come: that is over
#: before the head start of a route is (`ringtasks.ssh.race`).
_SOON = 0.150


def main() -> None:
    """Run the program; does not return."""
    # Ctrl-C reaches all processes of the terminal: end as other programs do, without a traceback.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    begun = _begin(sys.argv[2:])
    if begun is not None and "--fdpass" in sys.argv and _hand_over(*begun):
        os._exit(0)
    from .connect import main as go_on

    go_on(begun and begun[1:])


def _begin(words: Sequence[str]) -> tuple[plan.Plan, str, int, float] | None:
    """Begin a connection; return its route, its descriptor and the monotonic time."""
    flag, inventory, *rest = [*words, "", ""][: max(2, len(words))]
    is_usual = flag == "--inventory" and rest[:-1] in (["--"], ["--fdpass", "--"])
    if not is_usual or rehearsal.current() is not None:
        return None
    known = plan.load(inventory, rest[-1])
    likely = known and _first_healthy(known)
    if known is None or not likely:
        return None
    route, address, port = likely
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    try:
        connection = _socket.socket(family, _socket.SOCK_STREAM)
        connection.setblocking(False)
        connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        connection.connect_ex((address, port))  # its error, if any, comes with the first bytes
    except OSError:
        return None
    return known, route, connection.detach(), time.monotonic()


def _first_healthy(known: plan.Plan) -> tuple[str, str, int] | None:
    """Return the first route in the order of health, if it is a plain one; None: ask `HostAttempt`.

    A route whose back-off is over is left to it: one process at a time may try that one.
    """
    try:
        with open(known.health_file, "rb") as file:  # noqa: PTH123  # pathlib is slow to load
            entry = decode(file.read())["hosts"].get(known.host, {})
        health = entry.get("transports", {})
        for route in known.routes:
            state = _state(health.get(route[0], {}))
            if state != "open":
                return route if state == "closed" and route[1] else None
    except FileNotFoundError:
        return known.routes[0] if known.routes[0][1] else None
    except (OSError, DamagedError, TypeError, AttributeError, IndexError):
        pass
    return None


def _state(health: dict[str, Any]) -> str:
    """Return the state of a route's circuit, as `health.model.ROUTE_CIRCUIT` does."""
    failures = health.get("consecutive_failures", 0)
    if not failures:
        return "closed"
    return (
        "open" if 0 <= time.time() - health["last_failure"] < backoff(failures - 1) else "half-open"
    )


def _hand_over(known: plan.Plan, route: str, descriptor: int, began: float) -> bool:
    """Give the connection to ssh if it shows a banner soon, and record that."""
    if not can_hand_over() or not _shows_banner(descriptor, began + _SOON):
        return False
    # Before ssh goes on: its end may be the next process's beginning.
    if not count_success(known.health_file, known.host, route, time.time()):
        _record(known.host, route)
    try:
        hand_over(descriptor)
    except OSError:  # ssh has ended
        os._exit(255)
    return True


def _shows_banner(descriptor: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        return False
    connection = _socket.socket(fileno=descriptor)
    try:
        return connection.recv(4, _socket.MSG_PEEK) == b"SSH-"
    except OSError:
        return False
    finally:
        connection.detach()


def _record(host: str, route: str) -> None:
    """Record the success with all care: the file is new, busy or damaged."""
    from ringtasks.health.model import HostOutcome, RouteOutcome
    from ringtasks.health.store import HealthStore

    HealthStore().record([HostOutcome(host, success=True, routes=(RouteOutcome(route, True),))])
