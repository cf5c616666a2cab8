"""A run's files: the upload before it starts, and the download at its end."""

from __future__ import annotations

import posixpath
from pathlib import Path

from ringtasks import transfer
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.local_user import expanded_home
from ringtasks.errors import UsageError
from ringtasks.remote.script import path
from ringtasks.transfer import Options, TransferResult

from .settings import SyncUp

__all__ = [
    "FileCopyError",
    "checked",
    "folder_of",
    "make_folder",
    "run_folder",
    "send",
    "send_folder",
]

#: Compare by content: rsync takes files of one size and second for equal, and checkpoints may be.
MIRROR = Options(delete=True, checksum=True)


class FileCopyError(Exception):
    """A file could not be copied; the text names the file and the reason."""


def folder_of(client: SSHClient, cwd: str | None) -> str:
    """Return a host's folder for runs: ``cwd``, else the host's ``work_dir``, else its home."""
    given = cwd or client.config.work_dir or "~"
    return given if given.startswith(("/", "~")) else f"~/{given}"


def run_folder(client: SSHClient, cwd: str | None, run_id: str) -> str:
    """Return the run's folder on a host: ``cwd``, else ``runs/RUN`` in the folder for runs."""
    own = folder_of(client, cwd)
    return own if cwd else posixpath.join(own, "runs", run_id)


def send(client: SSHClient, items: tuple[SyncUp, ...], cwd: str) -> None:
    """Copy the items into the run's folder.

    :raises UsageError: an item does not exist here.
    :raises FileCopyError: it could not be copied.
    """
    for item in items:
        source = expanded_home(item.source)
        if not source.exists():
            raise UsageError(f"train: sync_up: {item.source}: no such file or folder here")
        send_folder(client, source, posixpath.normpath(posixpath.join(cwd, item.target)))


def send_folder(client: SSHClient, source: Path, target: str, *, is_mirror: bool = False) -> None:
    """Copy a file, or the content of a folder, into the folder ``target``.

    :param is_mirror: remove from ``target`` the files that are not in the folder.
    :raises FileCopyError: it could not be copied.
    """
    if source.is_dir():
        checked(transfer.sync(source, target, [client], MIRROR if is_mirror else Options()))
    else:
        checked(transfer.put(source, f"{target}/", [client]))


def checked(result: TransferResult) -> None:
    """Check that the transfer succeeded for all hosts.

    :raises FileCopyError: it failed for a host.
    """
    for failed in result.failed:
        raise FileCopyError(failed.error or f"{failed.host}: exit status {failed.returncode}")


def make_folder(client: SSHClient, folder: str) -> None:
    """Make a folder on the host, with its parents.

    :raises FileCopyError: it does not exist afterwards.
    """
    result = client.run(f"mkdir -p {path(folder)}", cwd="~")
    if not result.success:
        why = result.error or result.stderr.strip() or f"exit status {result.returncode}"
        raise FileCopyError(f"{client.config.id}: {folder}: {why}")
