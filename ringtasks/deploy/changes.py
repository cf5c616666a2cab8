"""The changes that a deploy would bring: commits and files between the live release and a new one.

Nothing is sent: a host tells only which revision is current.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ringtasks.common.text import printable
from ringtasks.errors import UsageError

from .repository import SUBMODULE_MODE, Repository, current_repository, way_to_fetch

__all__ = ["Changes", "SubmoduleChanges", "changes_between"]

#: `git diff --raw` calls a change so.
_KINDS = {"A": "added", "D": "deleted", "M": "modified", "T": "modified"}


class Changes(NamedTuple):
    """Commits, ``HASH SUBJECT``, the newest first, and files, ``(KIND, PATH)``.

    ``left`` are the commits that the live release has and the new one does not. Submodules are
    among the files too.
    """

    commits: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    submodules: tuple[SubmoduleChanges, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON fields."""
        return {
            "commits": list(self.commits),
            "left": list(self.left),
            "files": [{"change": kind, "path": path} for kind, path in self.files],
            "submodules": [submodule.to_dict() for submodule in self.submodules],
        }


class SubmoduleChanges(NamedTuple):
    """Changes within a submodule; ``old`` or ``new`` None: the revision does not have it.

    ``error`` tells why the changes are not known.
    """

    path: str
    old: str | None
    new: str | None
    changes: Changes
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON fields."""
        about = {"path": self.path, "from": self.old, "to": self.new}
        return {**about, **self.changes.to_dict(), "error": self.error}


class _ChangedPath(NamedTuple):
    """Line of ``git diff --raw`` or ``git ls-tree``; commits are those of submodules."""

    kind: str
    path: str
    old: str | None = None
    new: str | None = None


def changes_between(old: str | None, new: str, repository: Repository | None = None) -> Changes:
    """Return the changes from one revision of a repository to another.

    :param old: None: nothing is deployed, so that all files are added.
    :param repository: None: that of the current folder.
    :raises UsageError: the old revision is not in the repository, or git fails.
    """
    repository = repository or current_repository()
    if old is not None and not repository.has(f"{old}^{{commit}}"):
        advice = way_to_fetch(old[:12], repository)
        raise UsageError(f"its revision {printable(old)} is not in this repository{advice}")
    changed = list(_added(repository, new) if old is None else _changed(repository, old, new))
    return Changes(
        () if old is None else _commits(repository, f"{old}..{new}"),
        () if old is None else _commits(repository, f"{new}..{old}"),
        tuple((change.kind, printable(change.path)) for change in changed),
        tuple(_within(repository, change, new) for change in changed if change.old or change.new),
    )


def _added(repository: Repository, new: str) -> Iterator[_ChangedPath]:
    for path, commit in repository.files(new):
        yield _ChangedPath("added", path, new=commit)


def _changed(repository: Repository, old: str, new: str) -> Iterator[_ChangedPath]:
    options = ("--raw", "--no-abbrev", "--no-renames", "--no-relative", "-z")
    told = repository.git("diff", *options, "--ignore-submodules=none", old, new).split("\0")
    for about, path in zip(told[::2], told[1::2], strict=False):
        old_mode, new_mode, before, after, kind = about.removeprefix(":").split()
        yield _ChangedPath(
            _KINDS.get(kind, "modified"),
            path,
            before if old_mode == SUBMODULE_MODE else None,
            after if new_mode == SUBMODULE_MODE else None,
        )


def _within(repository: Repository, change: _ChangedPath, revision: str) -> SubmoduleChanges:
    """Return the changes in a submodule; if they are not known, with the reason."""
    changes, error = Changes(), None
    found = repository.repository_of(change.path, revision)
    if change.new is not None:
        try:
            if found is None:
                raise UsageError("it is not on this machine: run 'git submodule update --init'")
            changes = changes_between(change.old, change.new, found)
        except UsageError as problem:
            error = str(problem)
    return SubmoduleChanges(printable(change.path), change.old, change.new, changes, error)


def _commits(repository: Repository, revisions: str) -> tuple[str, ...]:
    lines = repository.git("log", "--format=%h %s", revisions, "--").splitlines()
    return tuple(printable(line) for line in lines)
