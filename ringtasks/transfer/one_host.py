"""put, get and sync for one host: the kinds of the two places select the method."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from ringtasks.common.program_name import as_typed
from ringtasks.remote.globs import matches
from ringtasks.remote.paths import above, is_glob, joined, name_of, on_host
from ringtasks.remote.script import quoted_path

from .checksums import time_for
from .host_transfer import SPECIAL, HostCopy, HostTransferError
from .probe import DANGLING, DENIED, FILE, FOLDER, NOTHING, OTHER, PathProbe, RemotePath
from .rsync_output import Change
from .tree_copy import RemoteTree, get_tree, put_tree

__all__ = ["Work", "get", "pull", "push", "put", "resolve_destination"]

#: One host's part of the transfer.
Work = Callable[[HostCopy], None]
_NO_FOLDER = "is a file where a folder is needed"
_NO_PERMISSION = "permission denied on the host: look at the folders above it with ls -ld"


def put(
    sources: Sequence[Path],
    target: str,
    ignored: tuple[str, ...] = (),
    *,
    only_content: bool = False,
) -> Work:
    """Copy to ``target``; into it if it is a folder, ends with / or there are several sources.

    :param sources: they exist.
    :param ignored: left out, if the source is one folder.
    :param only_content: the source is one folder, whose content is copied into ``target``.
    """

    def work(host_copy: HostCopy) -> None:
        if len(sources) == 1 and not sources[0].is_dir():
            from .file_copy import put_file  # loaded only for single files

            final, known = resolve_destination(host_copy, sources[0], target)
            put_file(host_copy, sources[0], final, known)
            return
        place, known = _probed(host_copy, target)
        if known.kind not in (FOLDER, NOTHING):
            raise HostTransferError(f"{place} {_NO_FOLDER}")
        given: Path | Sequence[Path] = sources
        if len(sources) == 1:
            given = sources[0]
            if not only_content and (known.kind == FOLDER or target.endswith("/")):
                place = joined(place, given.name)
        verify = host_copy.options.verify is not False
        tree = RemoteTree(place, known, follow_outside=True, verify=verify, ignored=ignored)
        put_tree(host_copy, given, tree)

    return work


def resolve_destination(host_copy: HostCopy, source: Path, target: str) -> tuple[str, PathProbe]:
    """Return the path of one file on the host, and the path_probe of the place.

    A folder that ``target`` asks for with ``/`` at its end is made.

    :raises HostTransferError: the file cannot be there.
    """
    place, known = _probed(host_copy, target)
    into = known.kind == FOLDER or target.endswith("/")
    if into and known.kind not in (FOLDER, NOTHING):
        raise HostTransferError(f"{place} {_NO_FOLDER}")
    if into and known.kind == NOTHING and not host_copy.options.dry_run:
        host_copy.ask(f"mkdir -p {quoted_path(place)}", time_for(0))
    elif known.kind == OTHER:
        raise HostTransferError(f"{place} {SPECIAL}")
    elif not into and known.parent_kind != FOLDER:
        advice = ""
        if known.parent_kind == NOTHING:
            advice = _to_make(target, source.name, _mkdir(host_copy.host, above(place)))
        raise HostTransferError(f"{above(place)}: {_no_folder(known.parent_kind)}{advice}")
    return joined(place, source.name) if into else place, known


def push(source: Path, target: str, ignored: tuple[str, ...] = ()) -> Work:
    """Copy the content of a folder to a folder on the host."""

    def work(host_copy: HostCopy) -> None:
        place = _place(host_copy, target)
        verify = bool(host_copy.options.verify)
        tree = RemoteTree(place, None, follow_outside=False, verify=verify, ignored=ignored)
        try:
            put_tree(host_copy, source, tree)
        except HostTransferError as error:  # asking first would cost every sync a round trip
            if error.returncode == 1 and host_copy.path_probe(target=place).kind not in (
                DENIED,
                FOLDER,
                NOTHING,
            ):
                raise HostTransferError(f"{place} {_NO_FOLDER}") from error
            raise

    return work


def get(source: str, target: str, *, by_host: bool) -> Work:
    """Copy the matches of ``source`` to the local ``target``.

    :param by_host: into a folder of the host's name in it.
    """

    def work(host_copy: HostCopy) -> None:
        place = _place(host_copy, source)
        known = host_copy.path_probe(sources=place)
        if not known.found:
            raise HostTransferError(f"{place}: no such file on the host")
        if known.found[0].kind == DENIED:
            raise HostTransferError(f"{place}: {_NO_PERMISSION}")
        found = _usable(host_copy, place, known.found)
        folder = _folder(host_copy, Path(target), by_host=by_host)
        into = by_host or folder.is_dir() or target.endswith("/") or is_glob(place)
        with host_copy.local(folder):
            if into and not host_copy.options.dry_run:
                folder.mkdir(parents=True, exist_ok=True)
        verify = host_copy.options.verify is not False
        tree = RemoteTree(place, known, follow_outside=True, verify=verify)
        if is_glob(place):
            _check_distinct(found)
            get_tree(host_copy, tree._replace(matched=found), folder)
            return
        # "." has no name of its own and stands for its content, as for cp.
        final = folder / name_of(place) if into else folder
        if not into and found[0].kind == FILE:
            _check_parent(final, target, name_of(place))
        _get_one(host_copy, found[0], tree, known, final)

    return work


def _get_one(
    host_copy: HostCopy, item: RemotePath, tree: RemoteTree, known: PathProbe, final: Path
) -> None:
    """Copy the one match of a path, which ``tree`` has, to the local name ``final``."""
    if item.kind == FOLDER:
        get_tree(host_copy, tree, final)
    elif item.kind == FILE:
        from .file_copy import get_file  # loaded only for single files

        get_file(host_copy, item._replace(path=tree.path), final, known)
    else:
        raise HostTransferError(f"{tree.path}: is neither a file nor a folder")


def pull(source: str, target: Path, *, by_host: bool) -> Work:
    """Copy the content of a folder on the host to a local folder."""

    def work(host_copy: HostCopy) -> None:
        place = _place(host_copy, source)
        folder = _folder(host_copy, target, by_host=by_host)
        verify = bool(host_copy.options.verify)
        try:
            get_tree(
                host_copy, RemoteTree(place, None, follow_outside=False, verify=verify), folder
            )
        except HostTransferError as error:
            kind = host_copy.path_probe(target=place).kind if error.returncode == 1 else FOLDER
            if kind != FOLDER:
                raise HostTransferError(f"{place}: {_no_folder(kind)}") from error
            raise

    return work


def _place(host_copy: HostCopy, path: str) -> str:
    return on_host(host_copy.client.config, path).rstrip("/") or "/"


def _probed(host_copy: HostCopy, target: str) -> tuple[str, PathProbe]:
    place = _place(host_copy, target)
    known = host_copy.path_probe(target=place)
    if known.kind == DENIED:
        raise HostTransferError(f"{place}: {_NO_PERMISSION}")
    return place, known


def _to_make(target: str, name: str, command: str) -> str:
    """Return the advice on a missing folder; as cp and scp, a file makes none."""
    folder, _, final = target.rpartition("/")
    if final == name:
        return f"; with / at its end it is made: '{folder}/'"
    return f"; make it: {command}"


def _mkdir(host: str, folder: str) -> str:
    """Return the command of ringtasks that makes a folder on the host."""
    quoted = folder if re.fullmatch(r"~(/[\w./-]*)?", folder) else quoted_path(folder, shlex.quote)
    # In the folder "/": work_dir may be the one that is missing.
    run = f"run --host {shlex.quote(host)} --cwd / --cmd "
    return as_typed(run + shlex.quote(f"mkdir -p {quoted}"))


def _no_folder(kind: str) -> str:
    if kind == DENIED:
        return _NO_PERMISSION
    return "no such folder on the host" if kind == NOTHING else "is not a folder"


def _check_parent(final: Path, target: str, name: str) -> None:
    """Check that the local folder for a file exists.

    :param target: the path as the user gave it.
    :raises HostTransferError: it does not.
    """
    if not final.parent.exists():
        advice = _to_make(target, name, f"mkdir -p {shlex.quote(str(final.parent))}")
        raise HostTransferError(f"{final.parent} (here): no such folder{advice}")


def _usable(host_copy: HostCopy, place: str, found: Sequence[RemotePath]) -> list[RemotePath]:
    """Return the answer without ``.``, ``..`` and links that lead nowhere, which are reported.

    :raises HostTransferError: nothing is left, or `_check_answer`.
    """
    if is_glob(place):  # most shells expand ".*" to "." and ".." too
        found = [item for item in found if name_of(item.path)]
    _check_answer(place, found)
    usable = [item for item in found if item.kind != DANGLING]
    if not usable:
        told = "is a link that leads nowhere" if found else "no such file on the host"
        raise HostTransferError(f"{place}: {told}")
    for item in found:
        if item.kind == DANGLING:
            host_copy.add(Change("skipped", name_of(item.path), 0))
    return usable


def _check_answer(place: str, found: Sequence[RemotePath]) -> None:
    """Check the names in a host's answer.

    :raises HostTransferError: the host names a path outside of the request.
    """
    if not is_glob(place):
        if len(found) > 1:
            raise HostTransferError(f"{place}: the host names {len(found)} files for one: refused")
        return
    for item in found:
        if not matches(place, item.path):
            raise HostTransferError(
                f"{place}: the host names {item.path!r}, which the pattern does not match: refused"
            )


def _check_distinct(found: Sequence[RemotePath]) -> None:
    """Check that the local names are distinct.

    :raises HostTransferError: two would have the same name here.
    """
    names = [name_of(item.path) for item in found]
    for name in names:
        if names.count(name) > 1:
            raise HostTransferError(f"{name!r} matches in several folders; get them one by one")


def _folder(host_copy: HostCopy, target: Path, *, by_host: bool) -> Path:
    """Return the local folder; a host's name is one folder's: a nameless config has its address."""
    if not by_host:
        return target
    name = host_copy.host.replace("/", "_")
    return target / (f"_{name}" if name in ("", ".", "..") else name)
