"""How fast to send over a link that is lost again and again (pure).

What is under way when a link breaks is lost: as much as the host's sshd takes before its program
has written it (channels.h, CHAN_SES_WINDOW_DEFAULT: 2 MiB), each time.  At half the rate that was
seen, next to nothing waits there.  A link that holds is not slowed down.
"""

from __future__ import annotations

__all__ = ["Pace"]

#: Seconds between two losses within which a link counts as one that does not hold.
_SOON = 10.0
_SHARE = 0.5
_LEAST, _GUESS = 256 * 1024.0, 8 * 1024 * 1024.0  # bytes a second


class Pace:
    """What to do next, by how the attempts before went."""

    def __init__(self) -> None:
        self._seen: float | None = None
        self._is_limited = False

    @property
    def rate(self) -> float | None:
        """Bytes a second for the next attempt; None: as fast as it goes."""
        if not self._is_limited or self._seen is None:
            return None
        return max(_LEAST, self._seen * _SHARE)

    def lost(self, sent_bytes: int, seconds: float) -> None:
        """An attempt ended with the link: it had sent so much in so long, 0: nobody knows."""
        if not self._is_limited:
            self._seen = sent_bytes / max(seconds, 0.001) if sent_bytes else _GUESS
        self._is_limited = seconds < _SOON
