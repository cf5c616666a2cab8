"""The sending rate over a link that is lost repeatedly (pure).

When a link breaks, the bytes in flight are lost: each time as much as the host's sshd accepts
before its program has written it (channels.h, CHAN_SES_WINDOW_DEFAULT: 2 MiB).  At half the
measured rate, almost no bytes wait there.  A stable link is not slowed down.
"""

from __future__ import annotations

__all__ = ["Pace"]

#: Seconds between two losses within which a link counts as unstable.
_SOON = 10.0
_SHARE = 0.5
_LEAST, _GUESS = 256 * 1024.0, 8 * 1024 * 1024.0  # bytes a second


class Pace:
    """The rate of the next attempt, from the results of the earlier ones."""

    def __init__(self) -> None:
        self._seen: float | None = None
        self._is_limited = False

    @property
    def rate(self) -> float | None:
        """Bytes a second for the next attempt; None: unlimited."""
        if not self._is_limited or self._seen is None:
            return None
        return max(_LEAST, self._seen * _SHARE)

    def lost(self, sent_bytes: int, seconds: float) -> None:
        """Note that an attempt ended with the link, after so many bytes and seconds; 0: unknown."""
        if not self._is_limited:
            self._seen = sent_bytes / max(seconds, 0.001) if sent_bytes else _GUESS
        self._is_limited = seconds < _SOON
