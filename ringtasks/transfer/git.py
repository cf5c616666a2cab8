"""The paths that git ignores, as git prints them: negations, nested files and settings count.

git does not look into repositories in a repository (submodules, and others): each is asked for
itself.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ringtasks.common.git_environment import environment_of_other_repositories
from ringtasks.common.text import joined_lines
from ringtasks.errors import UsageError

__all__ = ["ignored_paths", "matched_paths", "revision_of"]

_TIMEOUT = 120.0  # seconds
_MATCH = ("ls-files", "-z", "--others", "--ignored", "--directory")
_LIST = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
#: Whatever the user's settings leave out.
_STATUS = ("status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=none")


def ignored_paths(folder: Path) -> tuple[str, ...]:
    """Return the ignored paths in ``folder`` and each ``.git``, relative to it.

    Folders end in ``/``.
    A folder that is in no repository counts as one in which nothing has been added.  If git ignores
    ``folder`` itself, nothing in it is left out: it was named on purpose.

    :raises UsageError: git is missing, or fails.
    """
    inside = _git(folder, "rev-parse", "--is-inside-work-tree", "--show-prefix")
    is_inside, _, prefix = inside.stdout.partition(b"\n")
    found: list[str] = []
    if inside.returncode == 0 and is_inside == b"true":
        if not prefix.strip() or not _is_ignored(folder.resolve()):
            found = _listed(_git(folder, *_LIST), f"gitignore: {folder}")
    else:
        with tempfile.TemporaryDirectory(prefix="ringtasks-git-") as empty:
            _git(folder, "init", "--quiet", "--bare", empty)
            answer = _git(folder, f"--git-dir={empty}", "--work-tree=.", *_LIST)
            found = _listed(answer, f"gitignore: {folder}")
    ignored = {path.rstrip("/") for path in found}
    nested = [
        f"{name}/{path}"
        for name in _repositories(folder, ignored)
        for path in ignored_paths(folder / name)
    ]
    return (".git", *found, *nested)


def _is_ignored(folder: Path) -> bool:
    """Return whether git ignores a folder below the top of a repository, or one above it."""
    arguments = ("check-ignore", "--verbose", "-z", "--no-index", "--stdin")
    found = _git(folder.parent, *arguments, text=os.fsencode(folder.name) + b"\0").stdout
    # The file, the line and the pattern that decides, which may be a negated one.
    return bool(found) and not found.split(b"\0")[2].startswith(b"!")


def _listed(answer: subprocess.CompletedProcess[bytes], place: str) -> list[str]:
    """Return the paths that ``git ls-files -z`` has printed.

    :raises UsageError: it failed.
    """
    if answer.returncode:
        said = joined_lines(answer.stderr.decode("utf-8", "replace"))
        raise UsageError(f"{place}: git: {said}")
    return [os.fsdecode(path) for path in answer.stdout.split(b"\0") if path]


def _repositories(folder: Path, ignored: set[str]) -> Iterator[str]:
    """Yield the outermost repositories below a folder, relative to it, that are not ignored."""
    for path, folders, files in os.walk(folder):
        relative = os.path.relpath(path, folder)
        if relative != "." and ".git" in (*folders, *files):
            folders.clear()
            yield relative
            continue
        above = "" if relative == "." else f"{relative}/"
        folders[:] = [name for name in folders if name != ".git" and above + name not in ignored]


def matched_paths(folder: Path, ignore_file: str) -> tuple[str, ...]:
    """Return the paths that files of that name in ``folder`` and below match.

    The form is that of `ignored_paths`. Whether a file has been added to a repository does not
    count here.

    :raises UsageError: git is missing, or fails.
    """
    with tempfile.TemporaryDirectory(prefix="ringtasks-git-") as empty:
        _git(folder, "init", "--quiet", "--bare", empty)
        place = (f"--git-dir={empty}", "--work-tree=.")
        answer = _git(folder, *place, *_MATCH, f"--exclude-per-directory={ignore_file}")
    found = _listed(answer, f"{ignore_file}: {folder}")
    nested = [
        f"{name}/{path}"
        for name in _repositories(folder, {path.rstrip("/") for path in found})
        for path in matched_paths(folder / name, ignore_file)
    ]
    return (*found, *nested)


def revision_of(folder: Path) -> str | None:
    """Return the checked-out commit, with ``-dirty`` if the folder has uncommitted changes.

    None: the folder is in no repository, git ignores it, or there is no git.
    """
    try:
        inside = _git(folder, "rev-parse", "HEAD", "--show-prefix")
        changes = _git(folder, *_STATUS, "--", ".")
        commit, _, prefix = inside.stdout.partition(b"\n")
        is_ignored = prefix.strip() and _is_ignored(folder.resolve())
    except UsageError:
        return None
    if inside.returncode or changes.returncode or is_ignored:
        return None
    return commit.decode() + ("-dirty" if changes.stdout.strip() else "")


def _git(
    folder: Path, *arguments: str, text: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=folder,
            input=text,
            env=environment_of_other_repositories(),
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except FileNotFoundError as error:
        raise UsageError("gitignore: git is not on PATH: install it") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"gitignore: git took more than {_TIMEOUT:g} s") from error
