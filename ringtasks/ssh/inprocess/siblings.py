"""End the one other command of a connection, whose process id is not known.

All sessions of a connection are children of one sshd process, each in a process group of its own
(session.c, do_exec_no_pty).  It is found in /proc; on other systems nothing is ended.
"""

from __future__ import annotations

import secrets

from ringtasks.remote.script import Script
from ringtasks.ssh.execution import Execution
from ringtasks.ssh.link import Link, LinkLostError

__all__ = ["end_only_sibling"]

_TIMEOUT = 8.0  # seconds

# $PPID is sshd, since the login shell is replaced by this one. The group gets TERM, after 2 s KILL.
_SCRIPT = """\
count=0
for folder in /proc/[0-9]*; do
  stat=$(cat "$folder/stat" 2>/dev/null) || continue
  # shellcheck disable=SC2086 # the fields after the name are words
  set -- ${stat##*) }
  [ "$2" = "$PPID" ] && [ "${folder#/proc/}" != $$ ] || continue
  count=$((count + 1)) group=${folder#/proc/}
done
[ $count = 1 ] || exit 1
kill -s TERM -- "-$group"
looks=0
while kill -s 0 -- "-$group" 2>/dev/null; do
  looks=$((looks + 1))
  [ $looks -lt 20 ] || kill -s KILL -- "-$group"
  [ $looks -lt 40 ] || exit 1
  sleep 0.1
done
"""


def end_only_sibling(link: Link) -> bool:
    """Return True if the one other command of this connection was ended, with its group."""
    script = Script(_SCRIPT, run_id=secrets.token_hex(8), is_own=True)
    try:
        return Execution(script, lambda *_: None).run(link, _TIMEOUT).status == 0
    except LinkLostError:
        return False
