"""The lock of a deploy path, as text for the host's shell (pure).

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
from ringtasks.remote.answers import or_none, unix_time
from ringtasks.remote.script import quote

__all__ = [
    "FUNCTIONS",
    "LockHolder",
    "LockState",
    "acquire",
    "holding",
    "parse_held",
    "release",
    "unlock",
]

FUNCTIONS = r"""
now() { date +%s; }
holder() { there=$(readlink lock 2>/dev/null) && echo "${there#.locks/}"; }
told() { sed -n "s/^$2=//p" ".locks/$1" 2>/dev/null; }
expired() { until=$(told "$1" until); [ "${until:-0}" -lt "$(now)" ]; }
note() { # until when
  sed "s/^until=.*/until=$1/" ".locks/$token" > ".locks/$token.new" &&
    mv -f ".locks/$token.new" ".locks/$token"
}
drop() { # the lock of this token
  # Left by a host that went down inside; who is inside now is so for milliseconds.
  [ -z "$(find ".locks/$1.end" -prune -mmin +1 2>/dev/null)" ] || rmdir ".locks/$1.end"
  mkdir ".locks/$1.end" 2>/dev/null || return 0
  [ "$(holder)" != "$1" ] || rm -f lock
  rm -f ".locks/$1"
  rmdir ".locks/$1.end"
}
held() { # prints whose lock it is
  echo "held token=$(holder)"
  sed 's/^/held /' ".locks/$(holder)" 2>/dev/null
  echo "held now=$(now)"
}
"""


class LockHolder(NamedTuple):
    """Description of a lock's holder; ``token`` is unique to one deploy."""

    token: str
    who: str
    host: str
    revision: str
    link: str = ""


class LockState(NamedTuple):
    """Lock of a deploy. Times are Unix seconds of the host's clock; 0: not known."""

    token: str
    who: str
    host: str
    revision: str
    link: str
    since: int
    until: int
    now: int

    @property
    def is_expired(self) -> bool:
        return self.until < self.now

    def __str__(self) -> str:
        who = f"{self.who or 'an unknown user'}{f' on {self.host}' if self.host else ''}"
        what = f", deploying {self.revision[:12]}" if self.revision else ""
        since = f" for {max(0, self.now - self.since)} s" if self.since else ""
        return f"{who}{what}{since}{f', {self.link}' if self.link else ''}"


def acquire(note: LockHolder, seconds: float, dead: str = "") -> str:
    """Return a script that takes the lock, or prints its holder if another deploy has it.

    An expired lock is replaced.

    :param seconds: time until the lock expires if it is not renewed.
    :param dead: a token whose deploy is known to have ended; its lock is replaced too.
    """
    lines = [f"{name}={printable(value)}" for name, value in note._asdict().items()]
    return f"""
token={note.token}
mkdir -p .locks || exit 1
there=$(holder)
if [ "$there" != "$token" ]; then
  [ -n "$there" ] && {{ expired "$there" || [ "$there" = {quote(dead)} ]; }} && drop "$there"
  printf '%s\\n' {" ".join(map(quote, lines))} "since=$(now)" \\
    "until=$(($(now) + {round(seconds)}))" > ".locks/$token" || exit 1
  ln -s ".locks/$token" lock 2>/dev/null
fi
if [ "$(holder)" != "$token" ]; then
  rm -f ".locks/$token"
  [ -L lock ] || echo "lock: is in the way, and no lock of ringtasks" >&2
  [ -L lock ] && held
  exit 1
fi
"""


def holding(token: str, seconds: float) -> str:
    """Return the beginning of a script that makes changes.

    It renews the lock; if the lock is lost, it prints the holder and ends the script.
    """
    return f"""
token={token}
if [ "$(holder)" != "$token" ]; then held; exit 1; fi
note $(($(now) + {round(seconds)})) || exit 1
"""


def release(token: str) -> str:
    """Return a script that releases the lock, if it is still this deploy's."""
    return f"drop {token}\n"


def unlock() -> str:
    """Return a script that removes the lock of any deploy and prints its holder."""
    return """
[ -L lock ] || exit 0
held
drop "$(holder)"
[ ! -L lock ] || { echo "lock: another deploy is removing it" >&2; exit 1; }
"""


def parse_held(output: str) -> LockState | None:
    """Return the lock that a script printed; None: it printed none."""
    given: dict[str, str] = {}
    for line in output.splitlines():
        if line.startswith("held "):
            name, _, value = line[len("held ") :].partition("=")
            given[name] = bounded(value)
    if not given:
        return None
    token, who, host, revision, link = (given.get(name, "") for name in LockHolder._fields)
    since, until, now = (
        int(or_none(unix_time, given.get(name)) or 0) for name in ("since", "until", "now")
    )
    return LockState(token, who, host, revision, link, since, until, now)
