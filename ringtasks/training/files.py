"""A run's files: the upload before it starts, and the download at its end."""

from __future__ import annotations

import math
import posixpath
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from ringtasks import transfer
from ringtasks.client.ask import Ask
from ringtasks.client.result import SSHResult, why_failed
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.local_user import expanded_home
from ringtasks.common.text import counted, first_names, size
from ringtasks.errors import UsageError
from ringtasks.exit_status import UNREACHABLE
from ringtasks.remote.script import quoted_path
from ringtasks.transfer import Options, TransferResult
from ringtasks.transfer.patterns import literal

from .settings import SyncUp

__all__ = [
    "FileCopyError",
    "SentFiles",
    "TimeLimit",
    "check_answer",
    "checked",
    "folder_of",
    "folder_options",
    "make_folder",
    "mirror",
    "run_folder",
    "send",
]

#: Compare by content: rsync takes files of one size and second for equal, and checkpoints may be.
MIRROR = Options(delete=True, checksum=True)


class FileCopyError(Exception):
    """A file could not be copied; the text names the file and the reason.

    :param is_unreachable: the host was not reached, or the link was lost.
    """

    def __init__(self, text: str, *, is_unreachable: bool = False) -> None:
        super().__init__(text)
        self.is_unreachable = is_unreachable


class TimeLimit:
    """The time that a run's last transfers have together; it begins when this is made.

    :param seconds: the setting ``fetch_timeout``.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """The seconds that are left, at least 0."""
        return max(0.0, self._ends_at - time.monotonic())

    def options(self, options: Options) -> Options:
        """Return the options with the time that is left as their limit.

        :raises FileCopyError: none is left.
        """
        if not self.left:
            raise FileCopyError(f"the fetch_timeout of {self._seconds:g} s has passed")
        return replace(options, timeout=math.ceil(self.left * 10) / 10)


@dataclass
class SentFiles:
    """The files that were copied to a host, and the paths that were not.

    ``ignored``: those that git ignores; ``records``: the local folder of runs.
    """

    files: int = 0
    size_bytes: int = 0
    ignored: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"sent {counted(self.files, 'file')}, {size(self.size_bytes)}"
        if self.ignored:
            text += f"; not sent, as git ignores them: {first_names(self.ignored)}"
        if self.records:
            text += f"; not sent: {', '.join(self.records)}, the records of runs"
        return text


def folder_of(client: SSHClient, cwd: str | None) -> str:
    """Return a host's folder for runs: ``cwd``, else the host's ``work_dir``, else its home."""
    given = cwd or client.config.work_dir or "~"
    return given if given.startswith(("/", "~")) else f"~/{given}"


def run_folder(client: SSHClient, cwd: str | None, run_id: str) -> str:
    """Return the run's folder on a host: ``cwd``, else ``runs/RUN`` in the folder for runs."""
    own = folder_of(client, cwd)
    return own if cwd else posixpath.join(own, "runs", run_id)


def send(client: SSHClient, items: tuple[SyncUp, ...], cwd: str, runs: str) -> SentFiles:
    """Copy the items, files or the content of folders, into the run's folder.

    An item is sent even if git ignores it: it was named.  In a folder that git does not ignore, the
    files that it ignores stay here, and so do ``.git`` and ``runs``, the local folder of runs.

    :raises UsageError: an item does not exist here, or git is needed and missing.
    :raises FileCopyError: it could not be copied.
    """
    sent = SentFiles()
    for item in items:
        source = expanded_home(item.source)
        if not source.exists():
            raise UsageError(f"train: sync_up: {item.source}: no such file or folder here")
        target = posixpath.normpath(posixpath.join(cwd, item.target))
        if source.is_dir():
            records = _inside(source, Path(runs))
            result = transfer.sync(source, target, [client], folder_options(source, runs))
            if records and f"{records}/" not in result.ignored:
                sent.records.append(f"{posixpath.join(item.source, records)}/")
        else:
            result = transfer.put(source, f"{target}/", [client])
        checked(result)
        sent.files += sum(host.files for host in result)
        sent.size_bytes += sum(host.bytes for host in result)
        sent.ignored += [
            posixpath.join(item.source, name)
            for name in result.ignored
            if posixpath.basename(name) != ".git"
        ]
    return sent


def _inside(folder: Path, other: Path) -> str:
    """Return the path of the other folder relative to the folder; empty: it is not inside."""
    top, own = folder.resolve(), other.resolve()
    return own.relative_to(top).as_posix() if top in own.parents else ""


def folder_options(folder: Path, runs: str) -> Options:
    """Return the options to send a folder; without git, its ignore files are an error."""
    left_out = _inside(folder, Path(runs))
    own = (f"/{literal(left_out)}/",) if left_out else ()
    above = [folder.resolve(), *folder.resolve().parents]
    if shutil.which("git") or any((each / ".gitignore").exists() for each in above):
        return Options(gitignore=True, exclude=own)
    return Options(exclude=(".git", *own))


def mirror(client: SSHClient, source: Path, target: str) -> None:
    """Make the folder ``target`` hold the content of a folder, and nothing else.

    :raises FileCopyError: it could not be copied.
    """
    checked(transfer.sync(source, target, [client], MIRROR))


def checked(result: TransferResult) -> None:
    """Check that the transfer succeeded for all hosts.

    :raises FileCopyError: it failed for a host.
    """
    for failed in result.failed:
        text = failed.error or f"{failed.host}: exit status {failed.returncode}"
        raise FileCopyError(text, is_unreachable=failed.returncode == UNREACHABLE)


def make_folder(client: SSHClient, folder: str) -> None:
    """Make a folder on the host, with its parents.

    :raises FileCopyError: it does not exist afterwards.
    """
    check_answer(
        client.ask(Ask(f"mkdir -p {quoted_path(folder)}")), f"{client.config.id}: {folder}"
    )


def check_answer(result: SSHResult, told: str) -> None:
    """Check that a script has succeeded.

    :param told: the beginning of the error.
    :raises FileCopyError: it has not.
    """
    if (why := why_failed(result)) is not None:
        raise FileCopyError(f"{told}: {why}", is_unreachable=result.error is not None)
