"""Files to and from many hosts: put, get, sync.

::

    from ringtasks import transfer

    result = transfer.sync("app", "~/app", "@gpu", Options(delete=True, gitignore=True))
    for host in result.failed:
        print(host.host, host.error)

rsync does the work where both ends have it, over the client's link; what is broken off goes on from
where it was, also with the next call.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from ringtasks.errors import UsageError

from . import one_host
from .git import ignored_paths
from .options import Options
from .results import HostTransfer, OnProgress, Progress, TransferResult
from .rsync import Moved, Rsync, Rules
from .workers import Hosts, OnEnded, clients_of, transfer

__all__ = [
    "HostTransfer",
    "Moved",
    "Options",
    "Progress",
    "Rsync",
    "Rules",
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
    """Copy files and folders to each host: into ``target`` where that is a folder.

    Each file has its final name only when it is whole; a single one only once its SHA-256 was found
    right.  Modes and times are kept.  A symbolic link stays one where it leads to something that
    is copied too; else what it leads to is copied.

    :param source: a path, a pattern (``runs/*.pt``), or several.
    :param target: relative to the host's ``work_dir``, else the remote home; ``~`` is the home.
        With ``/`` at its end it is a folder, made if need be.
    :param hosts: a selector of the inventory, or names, configs or clients.
    :param on_progress: is told now and then how far a host is, from any thread.
    :param on_ended: is told of each host as it is done, from this thread.
    :raises UsageError: nothing matches ``source`` or ``hosts``; nothing was sent.
    :raises KeyboardInterrupt: Ctrl-C; what was under way was ended.
    """
    found = matched(source)
    ignored = _ignored(found[0], options) if len(found) == 1 and found[0].is_dir() else ()
    if options.relay and (len(found) > 1 or not found[0].is_file()):
        raise UsageError("relay: is for one file; pack a folder first")
    with clients_of(hosts) as clients:
        if options.relay:
            from .relay import relayed

            work = relayed(found[0], _text(target))
        else:
            work = one_host.put(found, _text(target), ignored)
        return transfer(clients, work, options, on_progress, on_ended)


def get(
    source: str,
    target: str | Path,
    hosts: Hosts,
    options: Options = Options(),  # noqa: B008  # frozen
    *,
    on_progress: OnProgress | None = None,
    on_ended: OnEnded | None = None,
) -> TransferResult:
    """Copy what ``source``, a path or a pattern, means on each host to this machine.

    With several hosts each has a folder of its name in ``target``.  Nothing that a host names can
    lead out of ``target``.  The rest is as for `put`.
    """
    with clients_of(hosts) as clients:
        work = one_host.get(_text(source), str(target), by_host=len(clients) > 1)
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
    """Make the folder ``target`` on each host hold what the folder ``source`` holds here.

    Only what differs by size or time is sent, and of that the parts that differ.  Symbolic links
    are kept as they are.

    :param pull: the other way: ``source`` is on the host, ``target`` here, with a folder for each
        host where there are several. A link that leads out of ``target`` is left out.
    """
    if pull and options.gitignore:
        raise UsageError("gitignore: is for what is sent; the host may have no git")
    if not pull and not Path(source).is_dir():
        raise UsageError(f"{source}: is no folder; for files there is put")
    ignored = () if pull else _ignored(Path(source), options)
    with clients_of(hosts) as clients:
        if pull:
            by_host = len(clients) > 1
            work = one_host.pull(_text(str(source)), Path(target), by_host=by_host)
        else:
            work = one_host.push(Path(source), _text(str(target)), ignored)
        return transfer(clients, work, options, on_progress, on_ended)


def matched(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files and folders here that ``source`` means.

    :raises UsageError: there is nothing of that name, or two have the same.
    """
    given = [source] if isinstance(source, str | Path) else list(source)
    found = [path for item in given for path in _expanded(str(item))]
    names = [path.resolve().name for path in found]
    if len(set(names)) < len(names):
        raise UsageError("two of the files have the same name; send them one by one")
    return found


def _expanded(item: str) -> list[Path]:
    """A file of just that name comes before what it matches as a pattern."""
    path = Path(item).expanduser()
    if path.exists():
        return [path]
    found = sorted(glob.glob(str(path)))  # noqa: PTH207  # an absolute pattern, too
    if not found:
        raise UsageError(f"{item}: no such file")
    return [Path(name) for name in found]


def _ignored(folder: Path, options: Options) -> tuple[str, ...]:
    return ignored_paths(folder) if options.gitignore else ()


def _text(path: str) -> str:
    """:raises UsageError: it is no path."""
    if not path or "\0" in path:
        raise UsageError(f"expected a path on the host, got {path!r}")
    return path
