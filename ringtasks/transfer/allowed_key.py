"""A key that a host accepts for one purpose, only while a session of ours is open.

The host removes it however the session ends, and reports the removal; if the host itself goes down
meanwhile, the key expires.  The user's ``authorized_keys`` is only ever replaced whole
(``allow_key.sh``).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from ringtasks.client.result import SSHResult
from ringtasks.common.fork import not_for_children
from ringtasks.common.text import printable
from ringtasks.remote.programs import Program
from ringtasks.ssh.link import STDOUT

from .asking import ask
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
    session = _KeySession(host_copy, _script(public, command, name), limit)
    is_removed = False
    try:
        yield session.user()
    finally:
        is_removed = session.end()
    if not is_removed:
        raise HostTransferError("the removal of the key was not confirmed")


class _KeySession:
    """The session in which the key is allowed."""

    def __init__(self, host_copy: HostCopy, script: str, limit: float) -> None:
        self._host_copy = host_copy
        self._stdout = self._stderr = b""
        self._result: SSHResult | None = None
        self._has_answered = threading.Event()
        reader, self._writer = os.pipe()
        not_for_children(self)
        self._thread = threading.Thread(
            target=self._hold, args=(script, limit, reader), name="ringtasks-key", daemon=True
        )
        self._thread.start()

    def descriptors(self) -> list[int]:
        """Return the end of the pipe that keeps the key allowed."""
        return [self._writer]

    def user(self) -> str:
        """The user's name on the host, once the key is allowed."""
        self._has_answered.wait(_READY_TIMEOUT)
        answer = self._stdout.decode("utf-8", "replace").split()
        if len(answer) != 2 or answer[0] != "ready":
            raise HostTransferError(f"the key was not allowed: {self._why()}")
        return answer[1]

    def end(self) -> bool:
        """Let the host remove the key; return whether that is confirmed, and note it if not."""
        writer, self._writer = self._writer, -1
        os.close(writer)  # the host sees the end of its stdin
        self._thread.join(_READY_TIMEOUT)
        is_removed = self._stdout.endswith(b"removed\n")
        # A script that ended by itself has removed the key, or has not allowed it.
        is_over = self._result is not None and not self._result.is_unknown
        if not is_removed and (self._stdout.startswith(b"ready ") or not is_over):
            host = self._host_copy.client.config.id
            self._host_copy.notes.append(
                f"the key of this transfer may still be in ~/.ssh/authorized_keys of {host}; "
                f"it expires {_KEY_LIFETIME} s after its creation: {self._why()}"
            )
        return is_removed

    def _hold(self, script: str, limit: float, reader: int) -> None:
        try:
            with os.fdopen(reader, "rb", buffering=0) as stdin:
                self._result = ask(
                    self._host_copy.client,
                    script,
                    limit + _READY_TIMEOUT,
                    stdin=stdin,
                    on_output=self._on_output,
                )
        finally:
            self._has_answered.set()

    def _on_output(self, stream: int, chunk: bytes) -> None:
        # Bounded: the host may send any amount.
        if stream != STDOUT:
            self._stderr = (self._stderr + chunk)[:_MAX_ANSWER_BYTES]
            return
        self._stdout = (self._stdout + chunk)[:_MAX_ANSWER_BYTES]
        if b"\n" in self._stdout:
            self._has_answered.set()

    def _why(self) -> str:
        said = self._stderr or self._stdout
        if said.strip():
            return printable(said.decode("utf-8", "replace").strip())
        if self._result is None:
            return f"no answer in {_READY_TIMEOUT:g} s"
        return self._result.error or f"exit status {self._result.returncode}"


def _script(public: str, command: str, name: str) -> str:
    command = command.replace('"', '\\"')
    entry = f'restrict,command="{command}" {public} {name}'
    return _PROGRAM.render(entry=entry, blob=public.split()[1], seconds=_KEY_LIFETIME)
