"""A run's files: what goes up before it starts, its checkpoints, and what is fetched in the end."""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Callable
from pathlib import Path

from .. import transfer
from ..client import SSHClient
from ..errors import UsageError
from ..script import path
from ..transfer import Options, TransferResult
from .settings import SyncUp

__all__ = ["CheckpointPuller", "fetch", "folder_of", "listing", "send", "send_folder"]

#: Times to pull a checkpoint that changes while it is being pulled.
_PULL_ATTEMPTS = 3
#: By content: rsync takes files of one size and second for equal, and a checkpoint may be both.
_MIRROR = Options(delete=True, checksum=True)


class TransferError(Exception):
    """A file could not be copied; the text says which and why."""


def folder_of(client: SSHClient, cwd: str | None) -> str:
    """The run's folder on a host: ``cwd``, else the host's ``work_dir``, else its home."""
    given = cwd or client.config.work_dir or "~"
    return given if given.startswith(("/", "~")) else f"~/{given}"


def send(client: SSHClient, items: tuple[SyncUp, ...], cwd: str) -> None:
    """Make the run's folder, and copy what is to go up into it.

    :raises UsageError: something is not there to be copied.
    :raises TransferError: it did not arrive.
    """
    _make_folder(client, cwd)
    for item in items:
        source = Path(item.source).expanduser()
        if not source.exists():
            raise UsageError(f"train: sync_up: {item.source}: no such file or folder here")
        send_folder(client, source, posixpath.normpath(posixpath.join(cwd, item.target)))


def send_folder(client: SSHClient, source: Path, target: str, *, is_mirror: bool = False) -> None:
    """Copy a file, or what is in a folder, into the folder ``target``.

    :param is_mirror: remove from ``target`` what the folder has not.
    :raises TransferError: it did not arrive.
    """
    if source.is_dir():
        _checked(transfer.sync(source, target, [client], _MIRROR if is_mirror else Options()))
    else:
        _checked(transfer.put(source, f"{target}/", [client]))


def fetch(client: SSHClient, remote: str, local: Path) -> None:
    """Copy a file or a folder of the host into the folder ``local``.

    :raises TransferError: it did not arrive.
    """
    local.mkdir(parents=True, exist_ok=True)
    _checked(transfer.get(remote, local, [client]))


def listing(client: SSHClient, folder: str) -> str | None:
    """A text that changes whenever a file in the folder does; None: there is no file."""
    result = client.run(_LISTING.format(folder=path(folder)), cwd="~")
    return result.stdout if result.success and result.stdout.strip() else None


# Which file it is, its size and time: of GNU and BusyBox, of macOS. Whole seconds would not do:
# checkpoints of one size may follow each other quickly.
_LISTING = """\
cd {folder} 2>/dev/null || exit 1
find . -type f -exec stat -c '%i %s %y %n' {{}} + 2>/dev/null | sort | grep . ||
  find . -type f -exec stat -f '%i %z %Fm %N' {{}} + | sort
"""


class CheckpointPuller:
    """Pulls a checkpoint folder at an interval, from `start` to `stop`.

    What is kept is never half of one checkpoint and half of another: it is pulled beside the one
    that is kept, and takes its place if the host's folder was the same before and after.

    :param keep: the folder here.
    :param tell: is told of what went wrong.
    """

    def __init__(
        self,
        client: SSHClient,
        remote: str,
        keep: Path,
        interval: float,
        tell: Callable[[str], None],
    ) -> None:
        self._client, self._remote, self._keep = client, remote, keep
        self._interval, self._tell = interval, tell
        self._ended = threading.Event()
        self._kept: str | None = None
        self._thread = threading.Thread(target=self._work, name="ringtasks-pull", daemon=True)

    def start(self) -> None:
        """Begin; the first pull comes after the first interval."""
        self._thread.start()

    def stop(self, *, last: bool) -> None:
        """End; ``last``: with one more pull, since the host can be reached."""
        self._ended.set()
        if last:
            self._thread.join()
            self.pull()

    def pull(self) -> bool:
        """Bring the checkpoint here now; whether what is kept is as it is on the host."""
        try:
            return self._pull()
        except (TransferError, OSError) as error:
            self._tell(f"the checkpoint was not pulled: {error}")
            return False

    def _work(self) -> None:
        while not self._ended.wait(self._interval):
            self.pull()

    def _pull(self) -> bool:
        for _ in range(_PULL_ATTEMPTS):
            before = listing(self._client, self._remote)
            if before is None:
                return False
            if before == self._kept:
                return True
            spare = self._keep.with_name(f".{self._keep.name}.spare")
            _checked(transfer.sync(self._remote, spare, [self._client], _MIRROR, pull=True))
            if listing(self._client, self._remote) == before:
                self._swap(spare)
                self._kept = before
                return True
        return False

    def _swap(self, spare: Path) -> None:
        """What was kept is the next spare: most of it need not be sent again."""
        old = self._keep.with_name(f".{self._keep.name}.old")
        if self._keep.exists():
            self._keep.replace(old)
        spare.replace(self._keep)
        if old.exists():
            old.replace(spare)


def _checked(result: TransferResult) -> None:
    """:raises TransferError: it failed for a host."""
    for failed in result.failed:
        raise TransferError(failed.error or f"{failed.host}: exit status {failed.returncode}")


def _make_folder(client: SSHClient, folder: str) -> None:
    result = client.run(f"mkdir -p {path(folder)}", cwd="~")
    if not result.success:
        why = result.error or result.stderr.strip() or f"exit status {result.returncode}"
        raise TransferError(f"{client.config.id}: {folder}: {why}")
