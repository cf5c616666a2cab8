"""Listings of folders over SFTP."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig


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
