"""Change the health file without the types of `model`: for the program that starts with each ssh.

The results are the same as those of `ringtasks.health.store.HealthStore`, and so is the lock.
"""

from __future__ import annotations

import fcntl
import os
import time

from ringtasks.common.atomic_file import replace_file
from ringtasks.common.regular_file import read_regular

from .counts import FRESH, after_failure, after_success, computed, is_claimed, state_at
from .json_format import IS_VALID, DamagedError, decode, empty, encode

TYPE_CHECKING = False  # typing is slow to load, too
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

__all__ = ["claim", "count"]

_LOCK_TRIES, _LOCK_DELAY = 100, 0.005  # a writer holds the lock for about a millisecond


def count(
    path: str, host: str, route: str, failures: Sequence[tuple[str, str]], now: float
) -> bool:
    """Count a success of a host over a route, as `HealthStore.record`; False: that is to do it.

    :param failures: the routes that failed before, each with the reason.
    """

    def change(entry: dict[str, Any], routes: dict[str, Any]) -> dict[str, Any]:
        for lost, reason in failures:
            routes[lost] = _counted(routes.get(lost, {}), now, reason)
        routes[route] = _counted(routes.get(route, {}), now)
        return {**_counted(entry, now), "transports": routes}

    return _update(path, host, change)


def claim(path: str, host: str, route: str, now: float) -> bool:
    """Return True if the caller alone may try a route whose back-off is over.

    False also if `HealthStore.claim_probe` is to decide.
    """

    def change(entry: dict[str, Any], routes: dict[str, Any]) -> dict[str, Any] | None:
        counts = {**FRESH, **routes[route]}
        if state_at(counts, now, 1) != "half_open" or is_claimed(counts, now):
            return None
        routes[route] = {**routes[route], "probing_since": now}
        return {**entry, "transports": routes}

    return _update(path, host, change)


def _update(
    path: str,
    host: str,
    change: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any] | None],
) -> bool:
    """Replace a host's entry under the lock; False: not done, or the file has something unusual.

    :param change: gets the entry and its routes; None: no change.
    """
    folder, name = os.path.split(os.path.realpath(path))  # pathlib is slow to load
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(f"{folder}/.{name}.lock", flags, 0o600)
    except OSError:
        return False
    try:
        if not _is_locked(lock):
            return False
        document = _read(f"{folder}/{name}")
        entry = document["hosts"].get(host, {})
        routes = dict(entry.get("transports", {}))
        if not _is_valid([entry, *routes.values()]):
            return False
        changed = change(entry, routes)
        if changed is None:
            return False
        document["hosts"][host] = changed
        text = encode(document)
        replace_file(f"{folder}/{name}", text, draft=f"{folder}/.{name}.new")
        return True
    except (OSError, DamagedError, TypeError, AttributeError, KeyError):
        return False
    finally:
        os.close(lock)


def _is_valid(entries: list[dict[str, Any]]) -> bool:
    return all(
        check(entry[field])
        for entry in entries
        for field, check in IS_VALID.items()
        if field in entry
    )


def _is_locked(lock: int) -> bool:
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_DELAY)
        else:
            return True
    return False


def _read(path: str) -> dict[str, Any]:
    try:
        return decode(read_regular(path))
    except FileNotFoundError:
        return empty()


def _counted(entry: dict[str, Any], now: float, failure: str | None = None) -> dict[str, Any]:
    """Return an entry of a host or a route after an outcome; its other fields stay.

    :param failure: the reason of a failure; None: it was a success.
    """
    counts = {**FRESH, **entry}
    changed = after_success(counts, now) if failure is None else after_failure(counts, now, failure)
    return {**counts, **changed, **computed({**counts, **changed}, now)}
