"""Files to and from many hosts: put, get, sync.

::

    from ringtasks import transfer

    result = transfer.sync("app", "~/app", "@gpu", Options(delete=True, gitignore=True))
    for host in result.failed:
        print(host.host, host.error)

If both sides have rsync, it copies the files, over the client's link; an interrupted transfer
resumes automatically, or with the next call.

- ``one_host``: the transfer to or from one host; ``workers``: many hosts; ``options``, ``results``
- ``host_transfer``: the attempts of one host, the retry after a lost link, the progress
- ``file_copy``, ``remote_part``: one file, which grows beside its final name; ``full_disk``
- ``rsync``, ``rsync_pull``, ``staging``, ``rsync_session``: rsync over the link; ``patterns``:
  its filters
- ``tree_copy``, ``sftp_tree``: folders without rsync
- ``relay``, ``allowed_key``: from host to host
"""

from __future__ import annotations

import contextlib
import glob
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ringtasks.common.local_user import expanded_home
from ringtasks.common.program_name import as_typed
from ringtasks.common.special_files import is_descriptor, special_kind
from ringtasks.errors import UsageError
from ringtasks.remote.paths import checked, name_of

from . import one_host
from .options import Options
from .results import HostTransfer, OnProgress, TransferProgress, TransferResult
from .rsync import Rsync, RsyncResult, Rules
from .workers import Hosts, OnEnded, clients_of, transfer

__all__ = [
    "HostTransfer",
    "Options",
    "Rsync",
    "RsyncResult",
    "Rules",
    "TransferProgress",
    "TransferResult",
    "get",
    "matched",
    "put",
    "sync",
]


def put(
    source: str | Path | Sequence[str | Path],
    target: str,
    hosts: Hosts,
    options: Options = Options(),  # noqa: B008  # frozen
    *,
    on_progress: OnProgress | None = None,
    on_ended: OnEnded | None = None,
) -> TransferResult:
    """Copy files and folders to each host: into ``target`` if that is a folder.

    A file has its final name only when it is whole; a single file only after its SHA-256 was
    verified.  Modes and times are kept.  A symbolic link is kept if its target is copied too; else
    the target is copied in its place.

    :param source: a path, a pattern (``runs/*.pt``), or several.  ``.``, ``..`` and ``folder/.``
        stand for the content of a folder.  A pipe of the caller (``/dev/stdin``, ``/dev/fd/63``) is
        read to its end first; other pipes, devices and sockets are refused.
    :param target: relative to the host's ``work_dir``, else the remote home; ``~`` is the home.
        With ``/`` at its end it is a folder, made if need be.
    :param hosts: a selector of the inventory, or names, configs or clients.
    :param on_progress: receives a host's progress now and then, from any thread.
    :param on_ended: receives each host's result when it is done, from this thread.
    :raises UsageError: ``source`` or ``hosts`` matches nothing; nothing was sent.
    :raises KeyboardInterrupt: Ctrl-C; the running transfers were ended.
    """
    found = matched(source)
    ignored = _ignored(found[0], options) if len(found) == 1 and found[0].is_dir() else ()
    with _regular_files(found) as found, clients_of(hosts) as clients:
        if options.relay and (len(found) > 1 or not found[0].is_file()):
            raise UsageError("relay: is for one file; make an archive of a folder")
        if options.relay:
            from .relay import relayed

            work = relayed(found[0], checked(target))
        else:
            work = one_host.put(
                found, checked(target), ignored, only_content=_means_content(source)
            )
        result = transfer(clients, work, options, on_progress, on_ended)
    return replace(result, ignored=ignored)


def get(
    source: str,
    target: str | Path,
    hosts: Hosts,
    options: Options = Options(),  # noqa: B008  # frozen
    *,
    on_progress: OnProgress | None = None,
    on_ended: OnEnded | None = None,
) -> TransferResult:
    """Copy the files that match ``source``, a path or a pattern, on each host to this machine.

    With several hosts each has a folder of its name in ``target``.  No name from a host can lead
    out of ``target``.  The rest is as for `put`.
    """
    with clients_of(hosts) as clients:
        work = one_host.get(checked(source), _local_text(target), by_host=len(clients) > 1)
        return transfer(clients, work, options, on_progress, on_ended)


def sync(
    source: str | Path,
    target: str | Path,
    hosts: Hosts,
    options: Options = Options(),  # noqa: B008  # frozen
    *,
    pull: bool = False,
    on_progress: OnProgress | None = None,
    on_ended: OnEnded | None = None,
) -> TransferResult:
    """Make the folder ``target`` on each host hold the content of the local ``source``.

    Only files that differ by size or time are sent, and of those the parts that differ.  Symbolic
    links are kept as they are.

    :param pull: the other way: ``source`` is on the host, ``target`` is local, with a folder for
        each host if there are several. A link that leads out of ``target`` is left out.
    """
    if pull and options.gitignore:
        raise UsageError("gitignore: is for what is sent; the host may have no git")
    if pull and options.hard_links:
        raise UsageError("hard_links: is for what is sent")
    here = _local(target if pull else source)
    if not pull and not here.is_dir():
        told = "no such folder"
        if os.path.lexists(here):
            told = f"is not a folder; for files use '{as_typed('put')}'"
        raise UsageError(f"{source}: {told}")
    ignored = () if pull else _ignored(here, options)
    with clients_of(hosts) as clients:
        if pull:
            work = one_host.pull(checked(str(source)), here, by_host=len(clients) > 1)
        else:
            work = one_host.push(here, checked(str(target)), ignored)
        result = transfer(clients, work, options, on_progress, on_ended)
    return replace(result, ignored=ignored)


def matched(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the local files and folders that match ``source``, each with a name of its own.

    :raises UsageError: nothing has that name, or two of them have the same name.
    """
    given = [source] if isinstance(source, str | Path) else list(source)
    if not given:
        raise UsageError("expected a file or a folder, got none")
    found = [path for item in given for path in _expanded(str(item))]
    found = [path if name_of(str(path)) else path.resolve() for path in found]
    if len({path.name for path in found}) < len(found):
        raise UsageError("two of the files have the same name; copy them one by one")
    return found


def _expanded(item: str) -> list[Path]:
    """Return the matching paths; if a path has exactly that name, it alone."""
    path = _local(item)
    if path.exists():
        return [path]
    found = sorted(glob.glob(str(path)))  # noqa: PTH207  # an absolute pattern, too
    if not found:
        raise UsageError(f"{item}: no such file")
    return [Path(name) for name in found]


@contextlib.contextmanager
def _regular_files(sources: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield the sources, with a temporary file in the place of each pipe of the caller.

    Such a pipe (``put <(command) x``) ends when its writer does.  A FIFO of the file system has no
    end as long as nothing writes to it, and a device may have none at all: they are refused.

    :raises UsageError: a source is neither a regular file nor a folder, or cannot be read.
    """
    with contextlib.ExitStack() as stack:
        yield [_regular_file(path, stack) for path in sources]


def _regular_file(path: Path, stack: contextlib.ExitStack) -> Path:
    try:
        kind = special_kind(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if kind is None:
        return path
    if not (kind == "a pipe" and is_descriptor(path)):
        raise UsageError(f"{path}: is not a regular file but {kind}; copy a file or a folder")
    import shutil
    import tempfile

    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ringtasks-pipe-"))
    copy = Path(folder, path.name)
    try:
        with path.open("rb") as reading, copy.open("wb") as writing:
            shutil.copyfileobj(reading, writing)
    except OSError as error:
        raise UsageError(f"{path}, kept in {folder}: {error.strerror}") from error
    return copy


def _ignored(folder: Path, options: Options) -> tuple[str, ...]:
    if not options.gitignore:
        return ()
    from .git import ignored_paths

    return ignored_paths(folder)


def _means_content(source: str | Path | Sequence[str | Path]) -> bool:
    """Return True if one folder is given that has no name of its own, as ``.``: its content."""
    if not isinstance(source, str | Path):
        return False
    return posixpath.basename(str(source).rstrip("/")) in (".", "..")


def _local(path: str | Path) -> Path:
    """Return a path on this machine with ``~`` expanded.

    :raises UsageError: it is empty, as an unset variable is, or holds a NUL.
    """
    text = str(path)
    if not text or "\0" in text:
        raise UsageError(f"expected a path on this machine, got {text!r}")
    return expanded_home(text)


def _local_text(path: str | Path) -> str:
    """Return `_local` as text that keeps a ``/`` at its end."""
    return f"{_local(path)}{'/' if str(path).endswith('/') else ''}"
