"""Alarms: faults that must be reported although the work goes on.

If a host shows another key on one of its routes, it is reached over the next one.  The library
reports that to its logger, ``ringtasks``; the tasks report it in their own way (`on_alarm`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["of", "on_alarm", "sound"]

_lock = threading.Lock()
_sounded: dict[str, dict[str, None]] = {}


def sound(host: str, text: str) -> None:
    """Report a fault of ``host``; each text once per process."""
    with _lock:
        known = _sounded.setdefault(host, {})
        is_new = text not in known
        known[text] = None
    if is_new:
        _listener(host, text)


def of(host: str) -> tuple[str, ...]:
    """Return the alarms about ``host`` so far."""
    with _lock:
        return tuple(_sounded.get(host, ()))


def on_alarm(listener: Callable[[str, str], None] | None) -> None:
    """Call ``listener`` with the host and the text of each alarm; None: the logger again."""
    global _listener  # a process has one listener
    _listener = listener or _log


def _log(host: str, text: str) -> None:
    import logging

    logging.getLogger("ringtasks").warning("%s: %s", host, text)


_listener = _log
