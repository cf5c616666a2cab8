"""The files of a release on this machine: a git revision, or a built folder or file.

``git archive`` gives every file the time of the commit, so each deploy would find all of them
changed.  Each file gets a time made from its content instead: an unchanged file keeps its time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ringtasks.common.text import printable
from ringtasks.errors import UsageError

__all__ = ["Source", "content_time", "source_of"]

_TIMEOUT = 300.0  # seconds
_EARLIEST = 631_152_000  # 1990-01-01: times before 1980 confuse zip
#: Seconds: 34 years, none of them in the future. Two versions of a file with the same size get the
#: same time once in 10⁹ changes.
_SPAN = 1 << 30
_SUBMODULE = "160000"


class Source:
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

    def has(self, name: str) -> bool:
        """Return True if a file or folder of the source has this path."""
        raise NotImplementedError

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self._resources.close()

    def _made(self) -> Path:
        raise NotImplementedError

    def _own_folder(self) -> Path:
        made = tempfile.TemporaryDirectory(prefix="ringtasks-release-")
        folder = Path(self._resources.enter_context(made))
        folder.chmod(0o755)  # becomes the release's own mode
        return folder


def source_of(built: str | None, ref: str) -> Source:
    """Return the source that the settings name.

    :param built: a folder or a file; None: ``ref`` of the repository of the current folder.
    :raises UsageError: the folder, file or revision does not exist, or git fails.
    """
    if built is None:
        return _Revision(ref)
    path = Path(built).expanduser()
    if not path.exists():
        raise UsageError(f"deploy: source: no such file or folder: {built}")
    return _Built(path)


class _Revision(Source):
    """Commit, as ``git archive`` writes it."""

    def __init__(self, ref: str) -> None:
        super().__init__()
        named = [f"{ref}^{{{kind}}}" for kind in ("commit", "tree")]
        found = _git("rev-parse", "--revs-only", *named).split()
        if len(found) != len(named):
            raise UsageError(f"deploy: ref: {ref}: is not a revision of this repository")
        self.revision, self.content = found[0], f"git-{found[1]}"
        self._status = self._look_for_changes() if ref == "HEAD" else None

    @property
    def notes(self) -> tuple[str, ...]:
        is_changed = self._status is not None and self._status.communicate(timeout=_TIMEOUT)[0]
        return ("uncommitted changes were not deployed",) if is_changed else ()

    def has(self, name: str) -> bool:
        try:
            _git("cat-file", "-e", f"{self.revision}:{name}")
        except UsageError:
            return False
        return True

    def _look_for_changes(self) -> subprocess.Popen[bytes]:
        """Start ``git status``; it reads every file, so it runs while the hosts are asked."""
        looking = subprocess.Popen(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

        def end() -> None:
            looking.kill()
            looking.communicate()

        self._resources.callback(end)
        return looking

    def _made(self) -> Path:
        folder = self._own_folder()
        top = _git("rev-parse", "--show-toplevel")
        with tempfile.TemporaryFile() as archive:
            _run(
                [
                    "git",
                    "-C",
                    top,
                    "-c",
                    "tar.umask=0022",
                    "archive",
                    "--format=tar",
                    self.revision,
                ],
                stdout=archive,
            )
            archive.seek(0)
            _run(["tar", "-xf", "-", "-C", str(folder)], stdin=archive)
        for blob, name in _entries(top, self.revision):
            with contextlib.suppress(FileNotFoundError):  # export-ignore in .gitattributes
                when = content_time(blob)
                os.utime(folder / name, (when, when), follow_symlinks=False)
        return folder


class _Built(Source):
    """Folder as it is, or a single file copied into a folder of its own."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        with contextlib.suppress(UsageError):  # no repository
            self.revision = _git("rev-parse", "--verify", "HEAD^{commit}")
        if not hasattr(self, "revision"):
            self.revision = path.resolve().name
        self.content = "files-" + _fingerprint(path)

    def has(self, name: str) -> bool:
        return (self._path / name).exists() or self._path.name == name

    def _made(self) -> Path:
        if self._path.is_dir():
            return self._path
        folder = self._own_folder()
        shutil.copy2(self._path, folder)
        return folder


def content_time(blob: str) -> int:
    """Return a file's time in Unix seconds, made from git's name of its content."""
    return _EARLIEST + int(blob, 16) % _SPAN


def _entries(top: str, revision: str) -> Iterator[tuple[str, str]]:
    """Yield git's name of the content, and the path, of each file."""
    listed = _run(["git", "-C", top, "ls-tree", "-r", "-z", revision])
    for entry in filter(None, listed.split(b"\0")):
        about, _, name = entry.partition(b"\t")
        mode, _, blob = about.decode().split()
        if mode != _SUBMODULE:
            yield blob, os.fsdecode(name)


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


def _git(*arguments: str) -> str:
    return os.fsdecode(_run(["git", *arguments])).strip()


def _run(
    command: list[str],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
) -> bytes:
    """Run a local program and return its stdout.

    :raises UsageError: the program is not installed, fails, or takes too long.
    """
    try:
        done = subprocess.run(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=_TIMEOUT,
            check=False,
        )
    except FileNotFoundError as error:
        raise UsageError(f"deploy: {command[0]} is not on PATH: install it") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"deploy: {command[0]} took more than {_TIMEOUT:g} s") from error
    if done.returncode:
        said = printable(done.stderr.decode("utf-8", "replace")).removeprefix("fatal: ")
        raise UsageError(f"deploy: {command[0]}: {said or f'exit status {done.returncode}'}")
    return done.stdout or b""
