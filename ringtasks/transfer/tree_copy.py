"""Copy folders, or several files, to a host or from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ringtasks.remote.paths import name_of, quoted_pattern

from .checksums import HASHERS
from .full_disk import told_here, told_on_host
from .host_transfer import HostCopy, HostTransferError
from .probe import FILE, PathProbe, RemotePath
from .rsync import Rsync, RsyncResult, can_pull, local_rsync
from .watch import Watch, here

if TYPE_CHECKING:
    from .sftp_tree import TreeCopy

__all__ = ["get_tree", "put_tree"]

_NAMED = 3  # names in a message
_NO_HASHER = f"no SHA-256: the host has none of {', '.join(HASHERS)}: install one"


def put_tree(
    host_copy: HostCopy,
    source: Path | Sequence[Path],
    target: str,
    known: PathProbe | None,
    *,
    ignored: tuple[str, ...] = (),
    follow_outside: bool,
    verify: bool,
) -> None:
    """Make ``target``, a folder on the host, hold the content of ``source``.

    :param source: a folder, whose content is copied; or several files and folders.
    :param known: None: the host was asked nothing yet.
    :param ignored: as in `Rules`.
    :param verify: compare each file that was sent by SHA-256.
    :raises HostTransferError: not all of it could be copied, or something changed meanwhile.
    """
    rules = host_copy.rules(ignored=ignored, follow_outside=follow_outside)
    watch = Watch(source)

    def push(rsync: Rsync, rate: float | None) -> RsyncResult:
        return rsync.push(
            source,
            target,
            replace(rules, rate=rate),
            on_meter=host_copy.meter(),
            on_change=None if rules.dry_run else watch.begun,
            timeout=host_copy.remaining,
        )

    def over_sftp() -> TreeCopy:
        from .sftp_tree import TreeCopy

        several = [] if isinstance(source, Path) else [(item.name, str(item)) for item in source]
        roots = several or [("", str(source))]
        return TreeCopy("put", roots, target, rules, hashes=hashes)

    def hashes(names: Sequence[str], size_bytes: int) -> list[str] | str:
        from .checksums import hashes_on_host

        hasher = (known or host_copy.path_probe()).hasher
        if not hasher:
            return _NO_HASHER
        return hashes_on_host(host_copy.ask_once, target, names, hasher, size_bytes)

    read = source if isinstance(source, Path) else "the sources"
    with told_on_host(host_copy, source, target), host_copy.local(read):
        host_copy.move(push if local_rsync() else None, over_sftp)
    if host_copy.options.dry_run:
        return
    changed = watch.changed(host_copy.sent)
    if changed:
        raise HostTransferError(
            f"changed while it was being sent: {_listed(changed)}; send it again"
        )
    if verify:
        _verify(host_copy, source, target, known)


def get_tree(
    host_copy: HostCopy,
    source: str,
    target: Path,
    known: PathProbe | None,
    *,
    matched: Sequence[RemotePath] = (),
    follow_outside: bool,
    verify: bool,
) -> None:
    """Make ``target``, a local folder, hold the content of ``source`` on the host.

    :param matched: the matches of ``source``, if it is a pattern: these go into ``target``.
    :raises HostTransferError: not all of it could be copied.
    """
    # rsync would keep a link that matches, although its target may not match.
    follow_all = bool(matched) and all(item.kind == FILE for item in matched)
    rules = host_copy.rules(follow_outside=follow_outside, follow_all=follow_all)
    if not host_copy.options.dry_run:
        with host_copy.local(target):
            target.mkdir(parents=True, exist_ok=True)

    # The shell expands a pattern again, from the root: a command may not hold all the names.
    folder, names = ("/", quoted_pattern(source)) if matched else (source, None)

    def pull(rsync: Rsync, rate: float | None) -> RsyncResult:
        return rsync.pull(
            folder,
            target,
            replace(rules, rate=rate),
            names=names,
            only=[name_of(item.path) for item in matched] if matched else None,
            on_meter=host_copy.meter(),
            timeout=host_copy.remaining,
        )

    def over_sftp() -> TreeCopy:
        from .sftp_tree import TreeCopy

        several = [(name_of(item.path), item.path) for item in matched]
        return TreeCopy("get", several or [("", source)], str(target), rules)

    with told_here(host_copy, source, target), host_copy.local(target):
        host_copy.move(pull if can_pull() else None, over_sftp)
    if verify and not host_copy.options.dry_run:
        _verify(host_copy, target, source, known, matched)


def _verify(
    host_copy: HostCopy,
    local: Path | Sequence[Path],
    there: str,
    known: PathProbe | None,
    matched: Sequence[RemotePath] = (),
) -> None:
    """Compare the copied files one by one.

    :raises HostTransferError: a file differs.
    """
    sent = host_copy.sent
    from .checksums import hashes_on_host, sha256_of

    if not sent:
        return
    hasher = (known or host_copy.path_probe()).hasher
    if not hasher:
        if host_copy.options.verify:
            raise HostTransferError(_NO_HASHER)
        return
    names = [change.name for change in sent]
    folder, paths = ("/", [_there(matched, name) for name in names]) if matched else (there, names)
    size_bytes = sum(change.size_bytes for change in sent)
    sums = hashes_on_host(host_copy.ask_once, folder, paths, hasher, size_bytes)
    if isinstance(sums, str):
        raise HostTransferError(f"could not be checked on the host: {sums}")
    differing = []
    for name, expected in zip(names, sums, strict=True):
        with host_copy.local(name):
            if sha256_of(Path(here(local, name))) != expected:
                differing.append(name)
    host_copy.checked = len(names) - len(differing)
    if differing:
        raise HostTransferError(f"differs by its SHA-256: {_listed(differing)}")


def _there(matched: Sequence[RemotePath], name: str) -> str:
    """Return its path on the host."""
    first, slash, rest = name.partition("/")
    return next(item.path for item in matched if name_of(item.path) == first) + slash + rest


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(repr(name) for name in names[:_NAMED]) + more
