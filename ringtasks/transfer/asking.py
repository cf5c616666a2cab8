"""A transfer's requests to a host: run in the root folder, and without the host's venv."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from ringtasks.client.dialogue import Ask
from ringtasks.client.result import SSHResult
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.cancellation import Cancellation

__all__ = ["ask"]


def ask(
    client: SSHClient,
    script: str,
    timeout: float | None = None,
    *,
    stop: Cancellation | None = None,
    stdin: BinaryIO | None = None,
    on_output: Callable[[int, bytes], None] | None = None,
) -> SSHResult:
    """Return the answer to ``script``, which holds absolute paths only.

    :param stop: ends it; for a script that may take long.
    """
    return client.ask(
        Ask(script, timeout, "/", stdin=stdin, on_output=on_output, cancellation=stop)
    )
