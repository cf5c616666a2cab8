"""Listings of folders over SFTP."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringtasks import SSHClient, SSHConfig
from ringtasks.ssh.link import NoSFTPError
from ringtasks.ssh.sftp_client import started


def is_open(folder: Path) -> bool:
    """Whether a process of this machine has the folder open."""
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # it has ended
            if descriptor.readlink() == folder:
                return True
    return False


@pytest.mark.skipif(os.geteuid() != 0, reason="sftp-server hides its descriptors")
@pytest.mark.parametrize("use_master", [True, False])
def test_listing_that_is_stopped_leaves_no_folder_open(
    config: SSHConfig, tmp_path: Path, use_master: bool
) -> None:
    (tmp_path / "file").touch()
    with (
        SSHClient(replace(config, use_control_master=use_master)) as client,
        client.link().open_sftp() as sftp,
    ):
        listing = sftp.listdir_iter(str(tmp_path))
        next(listing)
        assert is_open(tmp_path)

        listing.close()

        sftp.normalize(".")  # answered after the folder was closed
        assert not is_open(tmp_path)


def test_time_limit_for_an_sftp_server_passes_while_its_connection_ends(
    config: SSHConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(_: Any) -> None:
        [timer] = (each for each in threading.enumerate() if each.name == "ringtasks-sftp-limit")
        timer.join()
        raise NoSFTPError(b"", "")

    raised: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    with SSHClient(replace(config, use_control_master=False)) as client:
        link: Any = client.link()
        channel: Any = link.connection.transport.open_session()
        # Closed as the first step of the channel's end, before Paramiko's thread can see it.
        channel._pipe = link.connection.transport.packetizer
        with pytest.raises(NoSFTPError, match="no answer in time"):
            started(channel, time.monotonic() + 0.1, wait)

    assert raised == []
