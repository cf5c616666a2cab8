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


def _log(host: str, text: str) -> None:
    import logging

    logging.getLogger("ringtasks").warning("%s: %s", host, text)


class _TextsOnce:
    """Texts about hosts, each of which is reported once per process."""

    def __init__(self) -> None:
        self.by_host: dict[str, dict[str, None]] = {}
        self._listener: Callable[[str, str], None] = _log

    def report(self, host: str, text: str) -> None:
        """Call the listener with a text that is new."""
        with _lock.lock:
            known = self.by_host.setdefault(host, {})
            is_new = text not in known
            known[text] = None
        if is_new:
            self._listener(host, text)

    def on_report(self, listener: Callable[[str, str], None] | None) -> None:
        """Call ``listener`` with the host and the text of each; None: the logger again."""
        self._listener = listener or _log


_alarms, _notices = _TextsOnce(), _TextsOnce()
#: Report a fault of a host, and give a notice about it.
sound, notify = _alarms.report, _notices.report
on_alarm, on_notice = _alarms.on_report, _notices.on_report


def of(host: str) -> tuple[str, ...]:
    """Return the alarms about ``host`` so far."""
    with _lock.lock:
        return tuple(_alarms.by_host.get(host, ()))


def texts() -> tuple[str, ...]:
    """Return all alarms so far."""
    with _lock.lock:
        return tuple(text for each in _alarms.by_host.values() for text in each)
