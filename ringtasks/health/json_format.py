"""The health file as JSON, without the types of `model`, which take longer to load.

Pure, except `count` and `claim`, by which `ringtasks.client.quick_connect` changes the file: that
program starts with each ``ssh``.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time

TYPE_CHECKING = False  # typing is slow to load, too
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

__all__ = [
    "CLAIM_TIMEOUT", "FAILURES_TO_OPEN", "IS_VALID", "DamagedError", "backoff", "claim", "count",
    "decode", "empty", "encode", "route_state",
]  # fmt: skip

VERSION = 1
FAILURES_TO_OPEN = 3  # of a host's circuit, in a row
#: Seconds until the claim to a half-open attempt expires, in case the claiming process has ended:
#: longer than the default ``connect_timeout`` (10 s), and no longer than the shortest back-off.
CLAIM_TIMEOUT = 30.0
BACKOFF_START = 30.0  # seconds; doubled by each further failure
BACKOFF_MAX = 300.0  # seconds
_LOCK_TRIES, _LOCK_DELAY = 100, 0.005  # a writer holds the lock for about a millisecond


class DamagedError(ValueError):
    """The file exists but does not have this format."""


def backoff(doublings: int) -> float:
    """Return the seconds from the last failure until half-open; 0.0 for a closed circuit.

    :param doublings: the failures since the one that opened the circuit.
    """
    if doublings < 0:
        return 0.0
    # Past four doublings it is BACKOFF_MAX, and 2.0 ** 1024 would overflow.
    return min(BACKOFF_START * 2.0 ** min(doublings, 4), BACKOFF_MAX)


def empty() -> dict[str, Any]:
    """Return a document without hosts."""
    return {"version": VERSION, "hosts": {}}


def decode(text: bytes) -> dict[str, Any]:
    """Return the document in a file's text; its entries are not validated yet.

    :raises DamagedError: the text is not JSON, has another version, or has no mapping of hosts.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("hosts"), dict):
        raise DamagedError("there is no mapping of hosts")
    version = document.get("version")
    if version != VERSION or isinstance(version, bool):
        raise DamagedError(f"version {version!r}, expected {VERSION}")
    return document


def encode(document: dict[str, Any]) -> bytes:
    """Return the file's text in UTF-8, with a line for each host and each of its routes.

    :raises DamagedError: a value that was read is nested too deeply to be written again.
    """
    try:
        text = _lines(document, "hosts", _host_lines)
    except RecursionError as error:  # Python 3.12 reads deeper nesting than it writes
        raise DamagedError("nested too deeply") from error
    # Undecodable bytes in a name or reason are lone surrogates here; Python's escape for them is
    # also JSON's.
    return text.encode("utf-8", "backslashreplace")


def count(
    path: str, host: str, route: str, failures: Sequence[tuple[str, str]], now: float
) -> bool:
    """Count a success of a host over a route in the health file; False: `HealthStore` is to do it.

    The result is the same as of `HealthStore.record`, and so is the lock.

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

    The result is the same as of `HealthStore.claim_probe`, but False if that is to decide.
    """

    def change(entry: dict[str, Any], routes: dict[str, Any]) -> dict[str, Any] | None:
        if route_state(routes[route], now) != "half-open":
            return None
        routes[route] = {**routes[route], "probing_since": now}
        return {**entry, "transports": routes}

    return _update(path, host, change)


def route_state(health: dict[str, Any], now: float) -> str:
    """Return ``closed``, ``open``, ``half-open``, or ``claimed``: half-open, and being tried."""
    failures = health.get("consecutive_failures", 0)
    if not failures:
        return "closed"
    if 0 <= now - health["last_failure"] < backoff(failures - 1):
        return "open"
    claimed_at = health.get("probing_since")
    is_claimed = claimed_at is not None and 0 <= now - claimed_at < CLAIM_TIMEOUT
    return "claimed" if is_claimed else "half-open"


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


# json's own indentation is done in Python, ten times slower than its C code, and one number per
# line is no easier to read.
_dumps = json.JSONEncoder(ensure_ascii=False).encode


def _host_lines(hosts: dict[str, Any]) -> str:
    entries = (f"  {_dumps(name)}: {_host_line(entry)}" for name, entry in hosts.items())
    return "{\n" + ",\n".join(entries) + "\n }" if hosts else "{}"


def _host_line(entry: Any) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get("transports"), dict):
        return _dumps(entry)
    return _lines(entry, "transports", _route_lines, margin="   ")


def _route_lines(routes: dict[str, Any]) -> str:
    entries = (f"    {_dumps(name)}: {_dumps(entry)}" for name, entry in routes.items())
    return "{\n" + ",\n".join(entries) + "\n   }" if routes else "{}"


def _lines(
    mapping: dict[str, Any], last: str, format_last: Callable[[Any], str], margin: str = " "
) -> str:
    """Return ``mapping`` on one line, with ``last`` at the end on lines of its own."""
    others = _dumps({name: value for name, value in mapping.items() if name != last})
    separator = "," if len(mapping) > 1 else ""
    return f"{others[:-1]}{separator}\n{margin}{_dumps(last)}: {format_last(mapping[last])}}}"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_time(value: object) -> bool:
    if value is None:
        return True
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    # A clock set to before 1970 gives negative times.  NaN and numbers too large for a float would
    # break the sums of times.
    return abs(value) < 1e12


#: The fields that are read, each with the check of its value.
IS_VALID: dict[str, Callable[[object], bool]] = {
    "last_success": _is_time,
    "last_failure": _is_time,
    "consecutive_failures": _is_count,
    "consecutive_successes": _is_count,
    "total_successes": _is_count,
    "total_failures": _is_count,
    "last_reason": lambda value: isinstance(value, str),
    "probing_since": _is_time,
}
