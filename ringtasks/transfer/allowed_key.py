"""A key that a host accepts for one purpose, only while a session of ours is open.

The host removes it however the session ends, and reports the removal; if the host itself goes down
meanwhile, the key expires.  The user's ``authorized_keys`` is only ever replaced whole
(``allow_key.sh``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ringtasks.client.ask import Ask
from ringtasks.client.held_program import HeldProgram
from ringtasks.common.text import printable
from ringtasks.remote.programs import Program

from .host_transfer import HostCopy, HostTransferError

__all__ = ["allowed"]

_READY_TIMEOUT = 20.0  # seconds for the host to allow the key, and to remove it
#: Seconds in which the key can be used to log in. A session that has begun by then may last longer.
_KEY_LIFETIME = 300
_MAX_ANSWER_BYTES = 4096  # more than the host has to print
_PROGRAM = Program(__file__, "allow_key.sh")


@contextlib.contextmanager
def allowed(
    host_copy: HostCopy, public: str, command: str, name: str, limit: float
) -> Iterator[str]:
    """Allow the holder of the key to run ``command`` on the host; yield the user's name there.

    :param public: ``ssh-ed25519 AAAA…``
    :param name: the comment on the key's line.
    :param limit: seconds until the key is removed in any case.
    :raises HostTransferError: the host does not allow it, or does not confirm its removal.
    """
    script = _script(public, command, name)
    session = HeldProgram(
        host_copy.client, Ask(script, limit + _READY_TIMEOUT, "/"), _MAX_ANSWER_BYTES
    )
    is_removed = False
    try:
        yield _user(session)
    finally:
        session.end(_READY_TIMEOUT)
        is_removed = session.stdout.endswith(b"removed\n")
        # A script that ended by itself has removed the key, or has not allowed it.
        is_over = session.result is not None and not session.result.is_unknown
        if not is_removed and (session.stdout.startswith(b"ready ") or not is_over):
            host_copy.notes.append(
                f"the key of this transfer may still be in ~/.ssh/authorized_keys of "
                f"{host_copy.host}; it expires {_KEY_LIFETIME} s after its creation: "
                f"{_why(session)}"
            )
    if not is_removed:
        raise HostTransferError("the removal of the key was not confirmed")


def _user(session: HeldProgram) -> str:
    """Return the user's name on the host, once the key is allowed.

    :raises HostTransferError: it was not allowed.
    """
    session.wait_for(lambda printed: b"\n" in printed, _READY_TIMEOUT)
    answer = session.stdout.decode("utf-8", "replace").split()
    if len(answer) != 2 or answer[0] != "ready":
        raise HostTransferError(f"the key was not allowed: {_why(session)}")
    return answer[1]


def _why(session: HeldProgram) -> str:
    said = session.stderr or session.stdout
    if said.strip():
        return printable(said.decode("utf-8", "replace").strip())
    if session.result is None:
        return f"no answer in {_READY_TIMEOUT:g} s"
    return session.result.error or f"exit status {session.result.returncode}"


def _script(public: str, command: str, name: str) -> str:
    command = command.replace('"', '\\"')
    entry = f'restrict,command="{command}" {public} {name}'
    return _PROGRAM.render(entry=entry, blob=public.split()[1], seconds=_KEY_LIFETIME)
