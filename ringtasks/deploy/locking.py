"""The lock of a deploy path: calls of the functions in ``locking.sh`` (pure).

``lock`` is a symbolic link to the holder's note: creating it is a single step that fails if a lock
exists (symlink(2), EEXIST), and it works on file systems without hard links.  The note,
``.locks/TOKEN``, gives the user, the revision and the time at which the lock expires.  The holder
renews it while it runs, and any deploy may remove an expired lock.  Times are the host's clock.

To remove a lock, a deploy first creates a folder named after the lock's token, then reads the lock
again.  If two deploys find the same lock expired, neither removes the new lock of the other.
"""

from __future__ import annotations

from typing import NamedTuple

from ringtasks.common.text import bounded, printable
from ringtasks.remote.answers import lines_by_name, or_none, unix_time
from ringtasks.remote.programs import call

__all__ = ["LockState", "acquire", "parse_held"]


class LockState(NamedTuple):
    """Lock of a deploy: its holder, and times in Unix seconds of the host's clock; 0: not known.

    ``token`` is unique to one deploy.
    """

    token: str
    who: str
    host: str
    revision: str
    link: str = ""
    since: int = 0
    until: int = 0
    now: int = 0

    @property
    def is_expired(self) -> bool:
        return self.until < self.now

    @property
    def as_loss(self) -> str:
        """The reason why a deploy has lost its lock, if this is the state now."""
        return f"the lock was taken over by {self}" if self.token else "the lock was removed"

    def __str__(self) -> str:
        who = f"{self.who or 'an unknown user'}{f' on {self.host}' if self.host else ''}"
        what = f", deploying {self.revision[:12]}" if self.revision else ""
        since = f" for {max(0, self.now - self.since)} s" if self.since else ""
        return f"{who}{what}{since}{f', {self.link}' if self.link else ''}"


#: The fields of the note in the lock.
_NOTE = ("token", "who", "host", "revision", "link")


def acquire(holder: LockState, seconds: float, dead: str = "", name: str = "") -> str:
    """Return a script that takes the lock, or prints the state if another deploy has it.

    An expired lock is replaced.

    :param seconds: time until the lock expires if it is not renewed.
    :param dead: a token whose deploy is known to have ended; its lock is replaced too.
    :param name: the host's name in the inventory.
    """
    lines = [f"{name}={printable(getattr(holder, name))}" for name in _NOTE]
    return call("acquire", holder.token, round(seconds), dead, printable(name), *lines)


def parse_held(output: str) -> LockState | None:
    """Return the lock that a script printed; None: it printed none."""
    given: dict[str, str] = {}
    for field in lines_by_name(output)["held"]:
        name, _, value = field.partition("=")
        given[name] = bounded(value)
    if not given:
        return None
    times = (int(or_none(unix_time, given.get(name)) or 0) for name in ("since", "until", "now"))
    token, who, host, revision, link = (given.get(name, "") for name in _NOTE)
    return LockState(token, who, host, revision, link, *times)
