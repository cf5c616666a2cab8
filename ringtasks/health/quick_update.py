"""Change the health file without the types of `model`: for the program that starts with each ssh.

The results are the same as those of `ringtasks.health.store.HealthStore`, and so is the lock.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time

from .backoff import FAILURES_TO_OPEN, route_state
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
            routes[lost] = with_failure(routes.get(lost, {}), now, reason)
        routes[route] = with_success(routes.get(route, {}), now)
        return {**with_success(entry, now), "transports": routes}

    return _update(path, host, change)


def claim(path: str, host: str, route: str, now: float) -> bool:
    """Return True if the caller alone may try a route whose back-off is over.

    False also if `HealthStore.claim_probe` is to decide.
    """

    def change(entry: dict[str, Any], routes: dict[str, Any]) -> dict[str, Any] | None:
        if route_state(routes[route], now) != "half-open":
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
        document = _read(f"{folder}/{name}") if _is_locked(lock) else None
        if document is None:
            return False
        entry = document["hosts"].get(host, {})
        routes = dict(entry.get("transports", {}))
        if not _is_valid([entry, *routes.values()]):
            return False
        changed = change(entry, routes)
        if changed is None:
            return False
        document["hosts"][host] = changed
        _replace(f"{folder}/{name}", f"{folder}/.{name}.new", document)
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


def _read(path: str) -> dict[str, Any] | None:
    """Return the document of a file, an empty one if there is none; None: it is no regular file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116  # opening a pipe would hang
            return None
        with open(path, "rb") as file:  # noqa: PTH123  # pathlib is slow to load
            return decode(file.read())
    except FileNotFoundError:
        return empty()


def _replace(path: str, draft: str, document: dict[str, Any]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(encode(document))
    os.replace(draft, path)  # noqa: PTH105  # as above


_FRESH = {"last_success": None, "last_failure": None, "consecutive_failures": 0,
          "consecutive_successes": 0, "total_successes": 0, "total_failures": 0,
          "last_reason": "", "probing_since": None}  # fmt: skip


def with_success(entry: dict[str, Any], now: float) -> dict[str, Any]:
    """Return an entry of a host or a route after a success; the other fields stay."""
    successes = entry.get("consecutive_successes", 0) + 1
    changes = {
        "last_success": now,
        "consecutive_failures": 0,
        "consecutive_successes": successes,
        "total_successes": entry.get("total_successes", 0) + 1,
    }
    return _with_computed({**_FRESH, **entry, **changes})


def with_failure(entry: dict[str, Any], now: float, reason: str) -> dict[str, Any]:
    """Return an entry of a route after a failure; the other fields stay."""
    changes = {
        "last_failure": now,
        "consecutive_failures": entry.get("consecutive_failures", 0) + 1,
        "consecutive_successes": 0,
        "total_failures": entry.get("total_failures", 0) + 1,
        "last_reason": reason,
    }
    return _with_computed({**_FRESH, **entry, **changes})


def _with_computed(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry that has just changed, with the fields for people (`entries`)."""
    attempts = entry["total_successes"] + entry["total_failures"]
    is_healthy = entry["consecutive_failures"] < FAILURES_TO_OPEN
    return {
        **entry,
        "probing_since": None,
        "is_healthy": is_healthy,
        "success_rate": round(entry["total_successes"] / attempts, 4),
        "circuit_state": "closed" if is_healthy else "open",
    }
