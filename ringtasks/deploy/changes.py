"""The changes that a deploy would bring: commits and files between the live release and a new one.

Nothing is sent: a host tells only which revision is current.
"""

from __future__ import annotations

from typing import NamedTuple

from ringtasks.common.text import printable
from ringtasks.errors import UsageError

from .source import git, way_to_fetch

__all__ = ["Changes", "changes_between"]

#: `git diff --name-status` calls a change so.
_KINDS = {"A": "added", "D": "deleted", "M": "modified", "T": "modified"}


class Changes(NamedTuple):
    """Commits, ``HASH SUBJECT``, the newest first, and files, ``(KIND, PATH)``.

    ``left`` are the commits that the live release has and the new one does not.
    """

    commits: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.commits or self.left or self.files)


def changes_between(old: str | None, new: str) -> Changes:
    """Return the changes from one revision to another of this repository.

    :param old: None: nothing is deployed, so that all files are added.
    :raises UsageError: the old revision is not in this repository, or git fails.
    """
    if old is None:
        listed = git("ls-tree", "-r", "-z", "--name-only", new).split("\0")
        return Changes(files=tuple(("added", printable(name)) for name in listed if name))
    try:
        git("cat-file", "-e", f"{old}^{{commit}}")
    except UsageError as error:
        raise UsageError(
            f"its revision {printable(old)} is not in this repository{way_to_fetch(old[:12])}"
        ) from error
    status = git("diff", "--name-status", "--no-renames", "-z", old, new).split("\0")
    return Changes(
        _commits(f"{old}..{new}"),
        _commits(f"{new}..{old}"),
        tuple(
            (_KINDS.get(kind, "modified"), printable(name))
            for kind, name in zip(status[::2], status[1::2], strict=False)
        ),
    )


def _commits(revisions: str) -> tuple[str, ...]:
    lines = git("log", "--format=%h %s", revisions, "--").splitlines()
    return tuple(printable(line) for line in lines)
