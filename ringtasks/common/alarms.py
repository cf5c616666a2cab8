"""Alarms and notices: texts that must be reported although the work goes on.

An alarm is a fault: a host shows another key on one of its routes, and is reached over the next
one.  A notice is for the person who waits: a server asks for an approval of the log-in.  The
library reports both to its logger, ``ringtasks``; the tasks report them in their own way.
"""

from __future__ import annotations

from collections.abc import Callable

from .fork import RenewedLock

__all__ = ["notify", "of", "on_alarm", "on_notice", "sound", "texts"]

_lock = RenewedLock()
_sounded: dict[str, dict[str, None]] = {}
_notified: set[tuple[str, str]] = set()


def sound(host: str, text: str) -> None:
    """Report a fault of ``host``; each text once per process."""
    with _lock.lock:
        known = _sounded.setdefault(host, {})
        is_new = text not in known
        known[text] = None
    if is_new:
        _listener(host, text)


def notify(host: str, text: str) -> None:
    """Give a notice about ``host``; each text once per process."""
    with _lock.lock:
        is_new = (host, text) not in _notified
        _notified.add((host, text))
    if is_new:
        _notice_listener(host, text)


def of(host: str) -> tuple[str, ...]:
    """Return the alarms about ``host`` so far."""
    with _lock.lock:
        return tuple(_sounded.get(host, ()))


def texts() -> tuple[str, ...]:
    """Return all alarms so far."""
    with _lock.lock:
        return tuple(text for each in _sounded.values() for text in each)


def on_alarm(listener: Callable[[str, str], None] | None) -> None:
    """Call ``listener`` with the host and the text of each alarm; None: the logger again."""
    global _listener  # a process has one listener
    _listener = listener or _log


def on_notice(listener: Callable[[str, str], None] | None) -> None:
    """Call ``listener`` with the host and the text of each notice; None: the logger again."""
    global _notice_listener  # as above
    _notice_listener = listener or _log


def _log(host: str, text: str) -> None:
    import logging

    logging.getLogger("ringtasks").warning("%s: %s", host, text)


_listener = _log
_notice_listener = _log
