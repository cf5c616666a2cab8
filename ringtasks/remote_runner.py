"""Fabric's remote runner, with an environment that arrives whole and unseen.

Fabric puts ``export NAME=value &&`` in front of the command: unquoted, and in the host's process
list.  Here the values travel on stdin, as everywhere in ringtasks (`script`).
"""

from __future__ import annotations

from collections.abc import Callable

import fabric.runners

from .errors import OutcomeUnknownError
from .script import READY_MARK, Script, exec_line, parse_hello

__all__ = ["Remote"]


class Remote(fabric.runners.Remote):  # type: ignore[misc]  # Fabric is untyped
    """Runs a command on a Connection's host."""

    def start(
        self, command: str, shell: str, env: dict[str, str], timeout: float | None = None
    ) -> None:
        if not env:
            super().start(command, shell, env, timeout)
            return
        script = Script(command, env=env)
        bootstrap = exec_line(self.context.ssh.shell, pty=self.using_pty)
        super().start(bootstrap, shell, {}, timeout)
        if self.using_pty:
            self._skip_until(lambda received: READY_MARK in received)
        self.channel.sendall(script.payload())
        self._skip_until(lambda received: parse_hello(received, script.run_id) is not None)

    def returncode(self) -> int:
        """:raises OutcomeUnknownError: the link was lost, whether it went on or not."""
        status: int = super().returncode()
        if status == -1:
            raise OutcomeUnknownError(self.context.ssh.id, self.context.transport_used or "")
        return status

    def _skip_until(self, is_enough: Callable[[bytes], bool]) -> None:
        """Read on until ``is_enough``, and not a byte further: the rest is the command's."""
        self.channel.settimeout(self.context.ssh.connect_timeout)
        received = b""
        while not is_enough(received):
            byte: bytes = self.channel.recv(1)
            if not byte:
                break  # the shell did not start; its exit status and stderr say why
            received += byte
        self.channel.settimeout(None)
