"""The time limit of one log-in, which a server's banner prolongs.

A server may ask for something outside of the log-in: Tailscale's sends a banner with the address of
a page, and waits until the log-in is approved there (RFC 4252 section 5.4).  The person has to see
the banner while the log-in waits, and needs more time than a connection does.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

from ringtasks.common.alarms import notify
from ringtasks.common.pending_answers import awaiting
from ringtasks.common.text import bounded
from ringtasks.inventory.host_settings import SSHConfig

from .prompts import ANSWER_TIMEOUT, can_ask, is_reading_secret
from .routes import Route

__all__ = ["Patience"]

#: Seconds that a log-in may take after a banner without showing it: most banners are legal notices,
#: and the log-in goes on at once.
_QUIET = 0.5
_MAX_CHARACTERS = 600


class Patience:
    """The deadline of one log-in, and the banner that it waits behind.

    :param timeout: seconds from now, without a banner.
    """

    def __init__(self, config: SSHConfig, timeout: float) -> None:
        self._config = config
        self._started = time.monotonic()
        self.may_ask = can_ask(config)
        self._deadline = self._started + max(timeout, ANSWER_TIMEOUT if self.may_ask else 0.0)
        self._banner = ""
        self._shown_from: float | None = None
        self._is_shown = False

    def awaiting(self, route: Route, *, has_banner: bool) -> AbstractContextManager[None]:
        """Wait for the log-in within the block: if the host stays silent, a notice says so.

        :param has_banner: the server has shown its SSH banner.
        """
        place = f"{route.name} ({route.address})" + " after its SSH banner" * has_banner
        return awaiting(self._config.id, lambda: place, self._deadline, self._is_person_busy)

    def _is_person_busy(self) -> bool:
        return self._is_shown or (self.may_ask and is_reading_secret())

    @property
    def is_prolonged(self) -> bool:
        """True if the server has sent a banner."""
        return bool(self._banner)

    @property
    def banner(self) -> str:
        """The banner, made printable and bounded."""
        return bounded(self._banner, _MAX_CHARACTERS)

    def remaining(self) -> float:
        """Return the seconds left; never quite 0, which some callees take for "no limit"."""
        return max(0.05, self._deadline - time.monotonic())

    def is_over(self) -> bool:
        """Return True if the deadline has passed."""
        return time.monotonic() >= self._deadline

    def until_look(self) -> float:
        """Return the seconds until `show` or `is_over` has to be asked, if no banner comes."""
        if self._shown_from is None or self._is_shown:
            return self.remaining()
        return max(0.0, min(self.remaining(), self._shown_from - time.monotonic()))

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._started

    def hear(self, banner: str) -> None:
        """Note a banner; the first one gives the log-in ``connect_timeout`` from now on."""
        if not banner.strip():
            return
        now = time.monotonic()
        if not self._banner:
            self._deadline = max(self._deadline, now + self._config.connect_timeout)
        self._banner, self._is_shown, self._shown_from = banner, False, now + _QUIET

    def show(self) -> None:
        """Show the banner if the log-in still waits behind it; see `until_look`."""
        if self._is_shown or self._shown_from is None or time.monotonic() < self._shown_from:
            return
        self._is_shown = True
        seconds = max(1, round(self.remaining()))
        wait = f"waiting up to {seconds} s for the log-in"
        notify(self._config.id, f"the host says: {self.banner}; {wait}")
