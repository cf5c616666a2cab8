"""Copy folders, or several files, to a host or from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.text import names_and_more
from ringtasks.remote.paths import joined, name_of, quoted_pattern

from .checksums import HASHERS, hashes_on_host, sha256_of
from .full_disk import told_here, told_on_host
from .host_transfer import HostCopy, HostTransferError
from .probe import FILE, PathProbe, RemotePath
from .rsync import Rsync, RsyncResult, Rules, can_pull, local_rsync
from .watch import Watch, here

if TYPE_CHECKING:
    from .sftp_tree import TreeCopy

__all__ = ["RemoteTree", "get_tree", "put_tree"]

_NO_HASHER = f"no SHA-256: the host has none of {', '.join(HASHERS)}: install one"


class RemoteTree(NamedTuple):
    """A folder on the host that is copied, or into which is copied.

    :param known: None: the host was asked nothing yet.
    :param follow_outside: as in `Rules`.
    :param verify: compare each file that was copied by SHA-256.
    :param ignored: as in `Rules`; to send only.
    :param matched: the matches of ``path``, if it is a pattern; to receive only.
    """

    path: str
    known: PathProbe | None
    follow_outside: bool
    verify: bool
    ignored: tuple[str, ...] = ()
    matched: Sequence[RemotePath] = ()

    def place_of(self, name: str) -> str:
        """Return the path on the host of a name that was copied."""
        first, slash, rest = name.partition("/")
        for item in self.matched:
            if name_of(item.path) == first:
                return item.path + slash + rest
        return joined(self.path, name)

    def hasher(self, host_copy: HostCopy) -> str:
        """Return the host's program for a SHA-256; empty if it has none."""
        return (self.known or host_copy.path_probe()).hasher


def put_tree(host_copy: HostCopy, source: Path | Sequence[Path], target: RemoteTree) -> None:
    """Make ``target`` hold the content of ``source``.

    :param source: a folder, whose content is copied; or several files and folders.
    :raises HostTransferError: not all of it could be copied, or something changed meanwhile.
    """
    rules = host_copy.rules(ignored=target.ignored, follow_outside=target.follow_outside)
    watch = Watch(source)

    def push(rsync: Rsync, rate: float | None) -> RsyncResult:
        return rsync.push(
            source,
            target.path,
            replace(rules, rate=rate),
            on_meter=host_copy.meter(),
            on_change=None if rules.dry_run else watch.begun,
            timeout=host_copy.remaining,
        )

    over_sftp = partial(_put_over_sftp, host_copy, source, target, rules)
    read = source if isinstance(source, Path) else "the sources"
    with told_on_host(host_copy, source, target.path), host_copy.local(read):
        host_copy.move(push if local_rsync() else None, over_sftp)
    if host_copy.options.dry_run:
        return
    changed = watch.changed(change.name for change in host_copy.sent)
    if changed:
        raise HostTransferError(
            f"changed while it was being sent: {_listed(changed)}; send it again"
        )
    if target.verify:
        _verify(host_copy, source, target)


def _put_over_sftp(
    host_copy: HostCopy, source: Path | Sequence[Path], target: RemoteTree, rules: Rules
) -> TreeCopy:
    from .sftp_tree import TreeCopy

    def hashes(names: Sequence[str], size_bytes: int) -> list[str] | str:
        hasher = target.hasher(host_copy)
        if not hasher:
            return _NO_HASHER
        return hashes_on_host(host_copy.answer, target.path, names, hasher, size_bytes)

    several = [] if isinstance(source, Path) else [(item.name, str(item)) for item in source]
    return TreeCopy("put", several or [("", str(source))], target.path, rules, hashes=hashes)


def get_tree(host_copy: HostCopy, source: RemoteTree, target: Path) -> None:
    """Make ``target``, a local folder, hold the content of ``source``.

    :raises HostTransferError: not all of it could be copied.
    """
    if not host_copy.options.dry_run:
        with host_copy.local(target):
            target.mkdir(parents=True, exist_ok=True)
    matched = source.matched
    # rsync would keep a link that matches, although its target may not match.
    follow_all = bool(matched) and all(item.kind == FILE for item in matched)
    rules = host_copy.rules(follow_outside=source.follow_outside, follow_all=follow_all)
    several = [(name_of(item.path), item.path) for item in matched]

    def pull(rsync: Rsync, rate: float | None) -> RsyncResult:
        return rsync.pull(
            # The shell expands a pattern again, from the root: a command may not hold all names.
            "/" if several else source.path,
            target,
            replace(rules, rate=rate),
            names=quoted_pattern(source.path) if several else None,
            only=[name for name, _ in several] or None,
            on_meter=host_copy.meter(),
            timeout=host_copy.remaining,
        )

    def over_sftp() -> TreeCopy:
        from .sftp_tree import TreeCopy

        return TreeCopy("get", several or [("", source.path)], str(target), rules)

    with told_here(host_copy, source.place_of, target), host_copy.local(target):
        host_copy.move(pull if can_pull() else None, over_sftp)
    if source.verify and not host_copy.options.dry_run:
        _verify(host_copy, target, source)


def _verify(host_copy: HostCopy, local: Path | Sequence[Path], remote: RemoteTree) -> None:
    """Compare the copied files one by one.

    :raises HostTransferError: a file differs.
    """
    sent = host_copy.sent
    if not sent:
        return
    hasher = remote.hasher(host_copy)
    if not hasher:
        if host_copy.options.verify:
            raise HostTransferError(_NO_HASHER)
        return
    names = [change.name for change in sent]
    folder, paths = remote.path, names
    if remote.matched:
        folder, paths = "/", [remote.place_of(name) for name in names]
    size_bytes = sum(change.size_bytes for change in sent)
    sums = hashes_on_host(host_copy.answer, folder, paths, hasher, size_bytes)
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


def _listed(names: Sequence[str]) -> str:
    return names_and_more([repr(name) for name in names])
