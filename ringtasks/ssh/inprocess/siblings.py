"""End the one other command of a connection, whose process id is not known.

All sessions of a connection are children of one sshd process, each in a process group of its own
(session.c, do_exec_no_pty).  It is found in /proc; on other systems nothing is ended.
"""

from __future__ import annotations

import secrets

from ringtasks.remote.programs import Program
from ringtasks.remote.script import Script
from ringtasks.ssh.execution import Execution
from ringtasks.ssh.link import Link, LinkLostError

__all__ = ["end_only_sibling"]

_TIMEOUT = 8.0  # seconds

_PROGRAM = Program(__file__, "end_sibling.sh")


def end_only_sibling(link: Link) -> bool:
    """Return True if the one other command of this connection was ended, with its group."""
    script = Script(_PROGRAM.text, run_id=secrets.token_hex(8), is_own=True)
    try:
        return Execution(script, lambda *_: None).run(link, _TIMEOUT).status == 0
    except LinkLostError:
        return False
