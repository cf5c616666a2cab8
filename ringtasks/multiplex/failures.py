"""A failed start, kept for those who waited for it: they would fail the same way, one by one."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from ..errors import AuthenticationError, HostKeyError, Reason, RouteError

__all__ = ["note", "share"]

_SUFFIX = ".failed"
_CLASSES = {cls.__name__: cls for cls in (RouteError, HostKeyError, AuthenticationError)}


def note(name: Path, error: RouteError) -> None:
    """Keep why a start has failed; the caller holds the connection's lock."""
    fields = {**vars(error), "class": type(error).__name__, "at": time.time()}
    with contextlib.suppress(OSError):  # the others will find out for themselves
        descriptor = os.open(f"{name}{_SUFFIX}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(fields, file)


def share(name: Path, since: float) -> None:
    """Raise what was noted after ``since`` (Unix seconds); the caller holds the lock.

    :raises RouteError: the start that one has waited for has failed.
    """
    try:
        fields = json.loads(Path(f"{name}{_SUFFIX}").read_bytes())
        at, kind = fields.pop("at"), _CLASSES[fields.pop("class")]
        error = kind(**fields | {"reason": Reason(fields["reason"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return
    if at >= since:
        raise error
