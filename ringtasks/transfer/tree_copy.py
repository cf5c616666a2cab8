"""Copy folders, or several files, to a host or from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ringtasks.remote.paths import name_of, words

from .host_transfer import Haul, TransferError
from .probe import Found, Survey
from .rsync import Moved, Rsync, can_pull, local_rsync
from .watch import Watch, here

if TYPE_CHECKING:
    from .sftp_tree import TreeCopy

__all__ = ["get_tree", "put_tree"]

_NAMED = 3  # names in a message


def put_tree(
    haul: Haul,
    source: Path | Sequence[Path],
    target: str,
    known: Survey | None,
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
    :raises TransferError: not all of it could be copied, or something changed meanwhile.
    """
    rules = haul.rules(ignored=ignored, follow_outside=follow_outside)
    watch = Watch(source)

    def push(rsync: Rsync, rate: float | None) -> Moved:
        return rsync.push(
            source,
            target,
            rules._replace(rate=rate),
            on_meter=haul.meter(),
            on_change=None if rules.dry_run else watch.begun,
            timeout=haul.remaining,
        )

    def over_sftp() -> TreeCopy:
        from .sftp_tree import TreeCopy

        several = [] if isinstance(source, Path) else [(item.name, str(item)) for item in source]
        return TreeCopy("put", several or [("", str(source))], target, rules, haul.remaining)

    haul.move(push if local_rsync() else None, over_sftp)
    if haul.options.dry_run:
        return
    changed = watch.changed(haul.sent)
    if changed:
        raise TransferError(f"changed while it was being sent: {_listed(changed)}; send it again")
    if verify:
        _verify(haul, source, target, known)


def get_tree(
    haul: Haul,
    source: str,
    target: Path,
    known: Survey | None,
    *,
    matched: Sequence[Found] = (),
    follow_outside: bool,
    verify: bool,
) -> None:
    """Make ``target``, a local folder, hold the content of ``source`` on the host.

    :param matched: the matches of ``source``, if it is a pattern: these go into ``target``.
    :raises TransferError: not all of it could be copied.
    """
    rules = haul.rules(follow_outside=follow_outside)
    if not haul.options.dry_run:
        with haul.local(target):
            target.mkdir(parents=True, exist_ok=True)

    # The shell expands a pattern again, from the root: a command may not hold all the names.
    folder, names = ("/", words(source)) if matched else (source, None)

    def pull(rsync: Rsync, rate: float | None) -> Moved:
        return rsync.pull(
            folder,
            target,
            rules._replace(rate=rate),
            names=names,
            only=[name_of(item.path) for item in matched] if matched else None,
            on_meter=haul.meter(),
            timeout=haul.remaining,
        )

    def over_sftp() -> TreeCopy:
        from .sftp_tree import TreeCopy

        several = [(name_of(item.path), item.path) for item in matched]
        return TreeCopy("get", several or [("", source)], str(target), rules, haul.remaining)

    with haul.local(target):
        haul.move(pull if can_pull() else None, over_sftp)
    if verify and not haul.options.dry_run:
        _verify(haul, target, source, known, matched)


def _verify(
    haul: Haul,
    local: Path | Sequence[Path],
    there: str,
    known: Survey | None,
    matched: Sequence[Found] = (),
) -> None:
    """Compare the copied files one by one.

    :raises TransferError: a file differs.
    """
    sent = haul.sent
    from .checksums import hashes_on_host, sha256_of

    hasher = known.hasher if known else haul.survey().hasher
    if not sent or not hasher:
        return
    names = [change.name for change in sent]
    folder, paths = ("/", [_there(matched, name) for name in names]) if matched else (there, names)
    size_bytes = sum(change.size_bytes for change in sent)
    sums = hashes_on_host(haul.client, folder, paths, hasher, size_bytes)
    if isinstance(sums, str):
        raise TransferError(f"could not be checked on the host: {sums}")
    differing = []
    for name, expected in zip(names, sums, strict=True):
        with haul.local(name):
            if sha256_of(Path(here(local, name))) != expected:
                differing.append(name)
    haul.checked = len(names) - len(differing)
    if differing:
        raise TransferError(f"differs by its SHA-256: {_listed(differing)}")


def _there(matched: Sequence[Found], name: str) -> str:
    """Return its path on the host."""
    first, slash, rest = name.partition("/")
    return next(item.path for item in matched if name_of(item.path) == first) + slash + rest


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(repr(name) for name in names[:_NAMED]) + more
