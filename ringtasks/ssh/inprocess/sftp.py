"""SFTP over a channel of a connection in process.  Loaded for transfers alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import paramiko

from ringtasks.ssh.sftp_client import SFTPClient
from ringtasks.ssh.sftp_start import started

__all__ = ["sftp_over"]


def sftp_over(channel: Any, timeout: float, on_close: Callable[[], None]) -> paramiko.SFTPClient:
    """Return the client of a channel whose subsystem was accepted.

    :param on_close: called once, when the client is closed.
    :raises NoSFTPError: no SFTP server answers.
    """
    client: _InProcessSFTPClient = started(channel, timeout, _InProcessSFTPClient)
    client.on_close = on_close
    return client


class _InProcessSFTPClient(SFTPClient):
    """Paramiko's client; calls ``on_close`` once."""

    on_close: Callable[[], None] | None = None

    def close(self) -> None:
        super().close()
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close()
