"""The health file as JSON, without the types of `model`, which take longer to load.

Pure, except `count_success`, by which `ringtasks.client.quick_connect` records its outcome: that
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
    from collections.abc import Callable
    from typing import Any

__all__ = ["IS_VALID", "DamagedError", "backoff", "count_success", "decode", "empty", "encode"]

VERSION = 1
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


def count_success(path: str, host: str, route: str, now: float) -> bool:
    """Count a success of a host over a route in the health file; False: `HealthStore` is to do it.

    The result is the same as of `HealthStore.record`, and so is the lock.
    """
    folder, name = os.path.split(os.path.realpath(path))  # pathlib is slow to load
    try:
        lock = os.open(f"{folder}/.{name}.lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _is_locked(lock) and _count(
            f"{folder}/{name}", f"{folder}/.{name}.new", host, route, now
        )
    except (OSError, DamagedError, TypeError, AttributeError):
        return False
    finally:
        os.close(lock)


def _is_locked(lock: int) -> bool:
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_DELAY)
        else:
            return True
    return False


def _count(path: str, draft: str, host: str, route: str, now: float) -> bool:
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116  # opening a pipe would hang
        return False
    with open(path, "rb") as file:  # noqa: PTH123  # pathlib is slow to load
        document = decode(file.read())
    entry = document["hosts"].get(host, {})
    transports = entry.get("transports", {})
    entries = [entry, *transports.values()]
    if not all(
        check(own[field]) for own in entries for field, check in IS_VALID.items() if field in own
    ):
        return False
    routes = {**transports, route: with_success(transports.get(route, {}), now)}
    document["hosts"][host] = {**with_success(entry, now), "transports": routes}
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(encode(document))
    os.replace(draft, path)  # noqa: PTH105  # as above
    return True


def with_success(entry: dict[str, Any], now: float) -> dict[str, Any]:
    """Return an entry of a host or a route after a success; the other fields stay."""
    count = entry.get("total_successes", 0) + 1
    attempts = count + entry.get("total_failures", 0)
    fresh = {"last_success": None, "last_failure": None, "consecutive_failures": 0,
             "consecutive_successes": 0, "total_successes": 0, "total_failures": 0,
             "last_reason": "", "probing_since": None}  # fmt: skip
    return {
        **fresh,
        **entry,
        "last_success": now,
        "consecutive_failures": 0,
        "consecutive_successes": entry.get("consecutive_successes", 0) + 1,
        "total_successes": count,
        "probing_since": None,
        "is_healthy": True,
        "success_rate": round(count / attempts, 4),
        "circuit_state": "closed",
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
