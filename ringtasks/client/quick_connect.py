"""The start of ``ringtasks connect``: dial the likely route before most of the code is loaded.

If there is a plan of the host (`route_plan`), its healthy routes are dialled in turn
(`quick_race`).  If one of them shows an SSH banner soon, ssh gets it (ProxyUseFdpass), or its bytes
are carried.  In all other cases `connect` goes on, and the connections that were begun are the
first of its race.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal would make enumerations of its constants
import gc
import os
import sys
import time

from ringtasks.common import rehearsal
from ringtasks.common.regular_file import read_regular
from ringtasks.health.counts import FRESH, is_claimed, state_at
from ringtasks.health.json_format import DamagedError, decode
from ringtasks.health.quick_update import claim, count
from ringtasks.ssh.descriptors import can_hand_over, hand_over

from . import route_plan
from .quick_race import REASONS, QuickRace

TYPE_CHECKING = False  # typing is slow to load
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

__all__ = ["main"]


def main() -> None:
    """Run the program; does not return."""
    # Ctrl-C reaches all processes of the terminal: end as other programs do, without a traceback.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    known = _plan(sys.argv[2:])
    race = QuickRace(_likely(known) if known else ())
    if race.begin() and known:
        found = race.winner()
        if found is not None:
            _use(known, race.failed, *found)
    gc.disable()  # all that is imported stays: a collection would find nothing
    from .connect import main as go_on

    gc.enable()
    go_on(race.begun)


def _plan(words: Sequence[str]) -> route_plan.Plan | None:
    """Return the plan for the arguments of an ordinary start."""
    flag, inventory, *rest = [*words, "", ""][: max(2, len(words))]
    is_usual = flag == "--inventory" and rest[:-1] in (["--"], ["--fdpass", "--"])
    if not is_usual or rehearsal.current() is not None:
        return None
    return route_plan.load(inventory, rest[-1])


def _likely(known: route_plan.Plan) -> list[tuple[str, str, int]]:
    """Return the first routes in the order of health, as long as they are plain ones.

    One process at a time tries a first route whose back-off is over.
    """
    found: list[tuple[str, str, int]] = []
    try:
        health = _health_of_routes(known)
        for route in known.routes:
            now = time.time()
            counts = {**FRESH, **health.get(route[0], {})}
            state = state_at(counts, now, 1)
            if state == "open" or (state == "half_open" and is_claimed(counts, now)):
                continue
            if not route[1] or (state == "half_open" and found):
                break
            if state == "half_open" and not claim(known.health_file, known.host, route[0], now):
                break
            found.append(route)
    except (OSError, DamagedError, TypeError, AttributeError, KeyError):
        return []
    return found


def _health_of_routes(known: route_plan.Plan) -> dict[str, Any]:
    try:
        document = decode(read_regular(known.health_file))
        entry = document["hosts"].get(known.host, {})
    except FileNotFoundError:
        return {}
    routes: dict[str, Any] = entry.get("transports", {})
    return routes


def _use(
    known: route_plan.Plan, failed: Sequence[tuple[str, int]], route: str, descriptor: int
) -> NoReturn:
    """Record the outcome; give the connection to ssh, or carry its bytes."""
    # Before ssh goes on: its end may be the next process's beginning.
    failures = [(lost, REASONS.get(error, "")) for lost, error in failed]
    is_simple = all(reason for _, reason in failures)
    if not is_simple or not count(known.health_file, known.host, route, failures, time.time()):
        _record(known.host, route, failed)
    if "--fdpass" in sys.argv and can_hand_over():
        try:
            hand_over(descriptor)
        except OSError:  # ssh has ended
            os._exit(255)
        os._exit(0)
    from socket import socket

    from ringtasks.ssh.carry import carry

    carry(socket(fileno=descriptor))
    os._exit(0)


def _record(host: str, route: str, failed: Sequence[tuple[str, int]]) -> None:
    """Record the outcome by the full code: the file is new, busy or damaged, or the error rare."""
    from ringtasks.health.model import HostOutcome, RouteOutcome
    from ringtasks.health.store import HealthStore
    from ringtasks.ssh.failure_table import classify

    routes = [
        RouteOutcome(
            lost,
            success=False,
            reason=REASONS.get(error) or str(classify(OSError(error, os.strerror(error))).reason),
        )
        for lost, error in failed
    ]
    routes.append(RouteOutcome(route, success=True))
    HealthStore().record([HostOutcome(host, success=True, routes=tuple(routes))])
