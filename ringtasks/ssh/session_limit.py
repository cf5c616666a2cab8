"""Open a session: wait until the host has room for another (sshd_config(5), ``MaxSessions``).

A refusal is not a lost link: its open sessions go on, and one that ends makes room.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

from ringtasks.common.pending_answers import awaiting

from .link import Link, SessionRefusedError

__all__ = ["awaiting_over", "remaining", "when_there_is_room"]

_INTERVAL = 0.2  # seconds between checks whether the wait is over
#: Seconds to repeat the request if no session is open: one may have just ended, and a busy host
#: takes its time to notice.
_LONELY_TIMEOUT = 2.0
_LONELY_DELAY = 0.05  # seconds; each request takes a round trip

Opened = TypeVar("Opened")


def awaiting_over(link: Link, host: str | None) -> contextlib.AbstractContextManager[None]:
    """Await, within the block, an answer of ``host`` over its open link."""
    if host is None:
        return contextlib.nullcontext()
    return awaiting(host, lambda: f"the open connection ({link.route})")


def when_there_is_room(
    link: Link,
    open_: Callable[..., Opened],
    *,
    deadline: float | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
    host: str | None = None,
) -> Opened:
    """Return the result of ``open_``; calls it again when a session of the link may have ended.

    :param open_: takes the seconds that are left as ``timeout``.
    :param deadline: by `time.monotonic`; None: no limit.
    :param host: its name, for the notice that it does not answer; None: no notice is given.
    :raises SessionRefusedError: the deadline passed, the wait was cancelled, or no session of the
        link has been open for a while, so that waiting is of no use.
    """
    lonely_until: float | None = None

    def is_over() -> bool:
        return is_cancelled() or (deadline is not None and time.monotonic() > deadline)

    while True:
        try:
            with awaiting_over(link, host):
                return open_(timeout=remaining(deadline))
        except SessionRefusedError:
            now = time.monotonic()
            if is_over():
                raise
            if link.await_session_end(_INTERVAL):
                lonely_until = None
            else:
                lonely_until = lonely_until or now + _LONELY_TIMEOUT
                if now >= lonely_until:
                    raise
                time.sleep(_LONELY_DELAY)
            if is_over():  # a request that is not answered in time has an unknown outcome
                raise


def remaining(deadline: float | None) -> float | None:
    """Return the seconds until a time by `time.monotonic`, at least 0; None: there is no limit."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())
