"""A failed start, kept for the waiting processes: each of them would fail the same way in turn."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from ringtasks.errors import (
    AuthenticationError,
    HostKeyError,
    Reason,
    RouteError,
    UnreachableError,
)

__all__ = ["note", "share"]

_SUFFIX = ".fail"  # shorter than the suffix of a start (`records`)
_CLASSES = {cls.__name__: cls for cls in (RouteError, HostKeyError, AuthenticationError)}


def note(name: Path, failures: Sequence[RouteError]) -> None:
    """Keep the reason why each route failed; the caller holds the connection's lock."""
    routes = [{**vars(error), "class": type(error).__name__} for error in failures]
    with contextlib.suppress(OSError):  # the waiting processes then try by themselves
        descriptor = os.open(f"{name}{_SUFFIX}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"at": time.time(), "routes": routes}, file)


def share(host: str, name: Path, since: float) -> None:
    """Raise the failure noted after ``since`` (Unix seconds); the caller holds the lock.

    :raises UnreachableError: the start that the caller has waited for has failed.
    """
    try:
        noted = json.loads(Path(f"{name}{_SUFFIX}").read_bytes())
        failures = tuple(_route_error(fields) for fields in noted["routes"])
        is_new = noted["at"] >= since
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return
    if is_new:
        raise UnreachableError(host, failures)


def _route_error(fields: dict[str, object]) -> RouteError:
    kind = _CLASSES[str(fields.pop("class"))]
    return kind(**fields | {"reason": Reason(fields["reason"])})  # type: ignore[arg-type]  # as noted
