"""The files of a release on this machine: a git revision, or a built folder or file.

``git archive`` writes the files of a revision.  It leaves out submodules and the content of files
that Git LFS keeps elsewhere: submodules are archived by themselves, at their recorded commits, and
LFS pointers are reported.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from ringtasks.common.local_user import expanded_home
from ringtasks.common.text import names_and_more
from ringtasks.errors import UsageError

from .repository import TIMEOUT, Submodule, current_repository, run, way_to_fetch

__all__ = ["ReleaseSource", "source_of"]

_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_LFS_POINTER_BYTES = 1024  # the specification's limit


class ReleaseSource(ABC):
    """Files of a release; usable within its context, from any thread.

    ``revision`` is the commit, or the name of a folder or file outside of a repository.
    ``content`` is equal for equal files: a host that has it needs no upload.
    """

    revision: str
    content: str

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._resources = contextlib.ExitStack()

    def folder(self) -> Path:
        """Return the folder with the files; the first call creates it.

        :raises UsageError: git or tar fails.
        """
        with self._lock:
            if self._folder is None:
                self._folder = self._made()
            return self._folder

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings for the user; the answer may wait for ``git status``, so ask late."""
        return ()

    @property
    def change_notes(self) -> tuple[str, ...]:
        """The first of `notes`, which need no files: on changes that are not in the release."""
        return ()

    @abstractmethod
    def has(self, name: str) -> bool:
        """Return True if a file or folder of the source has this path."""

    def __enter__(self) -> ReleaseSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self._resources.close()

    @abstractmethod
    def _made(self) -> Path:
        """Make the folder with the files."""

    def _own_folder(self) -> Path:
        made = tempfile.TemporaryDirectory(prefix="ringtasks-release-")
        folder = Path(self._resources.enter_context(made))
        folder.chmod(0o755)  # becomes the release's own mode
        return folder


def source_of(built: str | None, ref: str) -> ReleaseSource:
    """Return the source that the settings name.

    :param built: a folder or a file; None: ``ref`` of the repository of the current folder.
    :raises UsageError: the folder, file or revision does not exist, or git fails.
    """
    if built is None:
        return _Revision(ref)
    path = expanded_home(built)
    if not path.exists():
        raise UsageError(f"deploy: source: no such file or folder: {built}")
    return _Built(path)


class _Revision(ReleaseSource):
    """Commit, as ``git archive`` writes it."""

    def __init__(self, ref: str) -> None:
        super().__init__()
        self.repository = current_repository()
        named = [f"{ref}^{{{kind}}}" for kind in ("commit", "tree")]
        found = self.repository.git("rev-parse", "--revs-only", *named).split()
        if len(found) != len(named):
            problem = f"is not a revision of this repository{way_to_fetch(ref, self.repository)}"
            raise UsageError(f"deploy: ref: {ref}: {problem}")
        self.revision, self.content = found[0], f"git-{found[1]}"
        outermost = Submodule(self.repository, self.revision, "")
        self._parts = [outermost, *self.repository.submodules(self.revision)]
        self._status = self._look_for_changes() if ref == "HEAD" else None
        self._ref = ref

    @functools.cached_property
    def change_notes(self) -> tuple[str, ...]:
        is_changed = self._status is not None and self._status.communicate(timeout=TIMEOUT)[0]
        changed = ("uncommitted changes are not in the release",) if is_changed else ()
        return (*changed, *self._notes_on_names())

    def _notes_on_names(self) -> Iterator[str]:
        """Yield a note if a branch has the name of the tag that git takes (gitrevisions(7))."""
        tag, branch = (f"refs/{kind}/{self._ref}^{{commit}}" for kind in ("tags", "heads"))
        if self._ref == "HEAD" or not self.repository.has(tag) or not self.repository.has(branch):
            return
        if self.repository.git("rev-parse", branch) != self.revision:
            name = self._ref
            yield f"{name} is a tag and a branch: the tag is released, not refs/heads/{name}"

    @property
    def notes(self) -> tuple[str, ...]:
        pointers = sorted(_pointers_below(self.folder()))
        below = tuple(part.prefix for part in self._parts[1:])
        inner = [name for name in pointers if name.startswith(below)]
        own = [name for name in pointers if name not in inner]
        return (
            *self.change_notes,
            *_note(own, "release", "and"),
            *_note(inner, "release", "and", "git submodule foreach --recursive "),
        )

    def has(self, name: str) -> bool:
        return any(
            part.repository.has(f"{part.commit}:{name.removeprefix(part.prefix)}")
            for part in self._parts
            if name.startswith(part.prefix)
        )

    def _look_for_changes(self) -> subprocess.Popen[bytes]:
        """Start ``git status``; it reads every file, so it runs while the hosts are asked."""
        looking = subprocess.Popen(
            # Without its lock on the index, which would stay if it is killed.
            ["git", "--no-optional-locks", "status", "--porcelain", "--untracked-files=no"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a bare repository has no changes
        )

        def end() -> None:
            looking.kill()
            looking.communicate()

        self._resources.callback(end)
        return looking

    def _made(self) -> Path:
        folder = self._own_folder()
        for part in self._parts:
            target = folder / part.prefix
            if target.is_dir():  # else export-ignore in .gitattributes leaves the submodule out
                with tempfile.TemporaryFile() as archive:
                    part.repository.write_archive(part.commit, archive)
                    run(["tar", "-xf", "-", "-C", str(target)], stdin=archive)
        return folder


def _note(names: Sequence[str], place: str, then: str, each: str = "") -> Sequence[str]:
    """Return a warning of the files that are pointers of Git LFS, with the commands to run."""
    has = f"the {place} has the Git LFS pointer, not the content"
    advice = f"run 'git lfs install' and '{each}git lfs pull', {then} deploy again"
    return (f"{names_and_more(names)}: {has}: {advice}",) if names else ()


def _pointers_below(folder: Path) -> Iterator[str]:
    for path in _walk(str(folder)):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode) and status.st_size <= _LFS_POINTER_BYTES:
            with Path(path).open("rb") as file:
                if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                    yield path[len(str(folder)) + 1 :]


class _Built(ReleaseSource):
    """Folder as it is, or a single file copied into a folder of its own."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.revision = path.resolve().name
        with contextlib.suppress(UsageError):  # no repository
            self.revision = current_repository().git("rev-parse", "--verify", "HEAD^{commit}")
        self.content = "files-" + _fingerprint(path)

    @property
    def notes(self) -> tuple[str, ...]:
        pointers = sorted(_pointers_below(self.folder()))
        return tuple(_note(pointers, "source", "build and"))

    def has(self, name: str) -> bool:
        return (self._path / name).exists() or self._path.name == name

    def _made(self) -> Path:
        if self._path.is_dir():
            return self._path
        folder = self._own_folder()
        shutil.copy2(self._path, folder)
        return folder


def _fingerprint(top: Path) -> str:
    """Return a hash of names, sizes, times and modes, as rsync's quick check, and link targets."""
    found = hashlib.sha256(b"" if top.is_dir() else os.fsencode(top.name))
    for path in _walk(str(top)):
        status = os.lstat(path)  # pathlib would be slower, 20,000 times
        link = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""  # noqa: PTH115  # as above
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        about = (path[len(str(top)) :], status.st_mode, size, status.st_mtime_ns, link)
        found.update(repr(about).encode())
    return found.hexdigest()[:40]


def _walk(top: str) -> Iterator[str]:
    yield top
    for folder, folders, files in os.walk(top):
        folders.sort()
        yield from (f"{folder}/{name}" for name in sorted(folders + files))
