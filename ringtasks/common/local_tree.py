"""Files that are written below one folder of this machine, as a host describes them.

A host is not trusted: its names, links, sizes and modes must change nothing outside the folder.
Each folder on the way to a name is opened by itself, relative to the one above and without
following a symbolic link (openat(2), ``O_NOFOLLOW``). So links in the tree, also those of the same
run, and changes that another process makes meanwhile do no harm.

A new file is written under a random name, opened with ``O_EXCL``, and renamed when it is complete.
A link is made only if it stays inside: it is relative, and its ``..`` are at its beginning, where
they count from a real folder. In the middle they would count from the target of a link before them,
which may be made later.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LocalTree", "NewFile", "PartFile", "leads_out", "single_name"]

_MODE_BITS = 0o777  # without set-user-ID, set-group-ID and sticky
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_NAME_BYTES = 4096  # PATH_MAX; deeper trees cannot be used by path anyway
_MOST_LINKS = 40  # as many as Linux follows on one path (path_resolution(7))
#: Bytes that a file may have beyond its announced size: it may grow while it is read, and files of
#: /proc are announced with 0.
_GROWTH_BYTES = 16 * 1024 * 1024


def single_name(name: str) -> str:
    """Return ``name`` if it is the name of a file in a folder.

    :raises OSError: ``name`` is empty, or leads elsewhere.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise OSError(errno.EINVAL, f"the host names a file {name!r}: refused")
    return name


def leads_out(name: str, link: str) -> bool:
    """Return True if a symbolic link ``name`` to ``link`` may lead out of its tree."""
    parts = [part for part in link.split("/") if part not in ("", ".")]
    ups = 0
    while ups < len(parts) and parts[ups] == "..":
        ups += 1
    is_plain = bool(link) and "\0" not in link and not link.startswith("/")
    is_plain = is_plain and ".." not in parts[ups:]
    return not is_plain or ups > name.count("/")


class LocalTree:
    """The files below the folder ``top``; a context manager.

    A name is relative to ``top`` (``sub/data.bin``; empty for ``top`` itself). ``top`` comes from
    the user: links on the way to it, and at it, are followed. Not safe for several threads.

    :param make: make ``top`` and the folders above it. If False, ``top`` may be missing, and the
        tree is then empty.
    :raises OSError: ``top`` cannot be made or opened.
    """

    def __init__(self, top: Path, *, make: bool) -> None:
        if make:
            top.mkdir(parents=True, exist_ok=True)
        self.top = top
        self._top: int | None = None
        with contextlib.nullcontext() if make else contextlib.suppress(FileNotFoundError):
            self._top = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._opened: tuple[str, int] | None = None  # the folder that was used last
        self._links: list[tuple[str, str]] = []

    def __enter__(self) -> LocalTree:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._remove_diverted_links()
        finally:
            self._forget()
            if self._top is not None:
                os.close(self._top)
                self._top = None

    def look(self, name: str) -> os.stat_result | None:
        """Return the status of ``name``, of a link and not its target; None if it is missing."""
        try:
            with self._parent(name) as (folder, last):
                return os.stat(last, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def read_link(self, name: str) -> str:
        """Return the text of the link ``name``."""
        with self._parent(name) as (folder, last):
            return os.readlink(last, dir_fd=folder)

    def names(self, name: str) -> list[str]:
        """Return the names in the folder ``name``; none if it is missing."""
        if self._top is None:
            return []
        return os.listdir(self._folder(name))  # noqa: PTH208  # of a descriptor

    def make_folder(self, name: str) -> None:
        """Make the folder ``name``, unless there is one; the folder above it exists."""
        if not name:
            return
        with self._parent(name) as (folder, last):
            try:
                os.mkdir(last, dir_fd=folder)
            except FileExistsError:
                mode = os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode
                if not stat.S_ISDIR(mode):
                    raise

    def link(self, name: str, to: str) -> None:
        """Make the symbolic link ``name`` to ``to``; it replaces a file or a link.

        :raises OSError: the link may lead out of the tree.
        """
        if leads_out(name, to) or not self._stays_inside(name, to):
            raise OSError(errno.EPERM, f"a link to {to!r}, which leads out of {self.top}: refused")
        with self._parent(name) as (folder, last):
            spare = f".{os.urandom(8).hex()}.part"
            os.symlink(to, spare, dir_fd=folder)
            try:
                _put_in_place(folder, spare, last)
            except BaseException:
                os.unlink(spare, dir_fd=folder)
                raise
        self._links.append((name, to))

    def new_file(self, name: str, announced_bytes: int) -> NewFile:
        """Begin the file ``name``; `NewFile.keep` gives it the name.

        :param announced_bytes: its expected size; little more is accepted.
        """
        with self._parent(name) as (folder, last):
            return NewFile(folder, last, announced_bytes)

    def part_file(self, name: str, announced_bytes: int, version: str) -> PartFile:
        """Begin the file ``name``, or continue the part that an earlier run has left.

        :param version: identifies the content that the part belongs to.
        """
        with self._parent(name) as (folder, last):
            return PartFile(folder, last, announced_bytes, version)

    def remove(self, name: str) -> None:
        """Remove a file, a link, or a folder that is empty."""
        with self._parent(name) as (folder, last):
            mode = os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                self._forget()
                os.rmdir(last, dir_fd=folder)
            else:
                os.unlink(last, dir_fd=folder)

    def finish_folder(self, name: str, mode: int, modified: float | None = None) -> None:
        """Give the folder ``name`` its permissions and its time, when its content is complete."""
        descriptor = self._folder(name)
        if modified is not None:
            os.utime(descriptor, (modified, modified))
        os.fchmod(descriptor, mode & _MODE_BITS)
        self._forget()

    @contextlib.contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int, str]]:
        """Yield a descriptor of the folder that holds ``name``, and the name's last part."""
        above, _, last = name.rpartition("/")
        yield self._folder(above), single_name(last)

    def _folder(self, name: str) -> int:
        """Return a descriptor of the folder ``name``, valid until the next call."""
        if self._top is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not name:
            return self._top
        if self._opened is not None and self._opened[0] == name:
            return self._opened[1]
        if len(os.fsencode(name)) > _MOST_NAME_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        descriptor = os.dup(self._top)
        for part in name.split("/"):
            above = descriptor
            try:
                descriptor = os.open(single_name(part), _FOLDER_FLAGS, dir_fd=above)
            finally:
                os.close(above)
        self._forget()
        self._opened = name, descriptor
        return descriptor

    def _forget(self) -> None:
        if self._opened is not None:
            os.close(self._opened[1])
            self._opened = None

    def _stays_inside(self, name: str, to: str) -> bool:
        """Return True if the link leads into the tree, over the links that exist now."""
        place = name.split("/")[:-1]
        todo = to.split("/")[::-1]
        followed = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not place:
                    return False
                place.pop()
                continue
            status = self._look_softly("/".join([*place, part]))
            if status is None or not stat.S_ISLNK(status.st_mode):
                place.append(part)
                continue
            text = self.read_link("/".join([*place, part]))
            followed += 1
            if text.startswith("/") or followed > _MOST_LINKS:
                return False
            todo += text.split("/")[::-1]
        return True

    def _remove_diverted_links(self) -> None:
        """Remove links of this run that lead out of the tree because of later changes.

        That requires a link of the user's whose ``..`` count from a folder that has become a link.
        """
        for name, to in self._links:
            with contextlib.suppress(OSError):
                if self.read_link(name) == to and not self._stays_inside(name, to):
                    self.remove(name)

    def _look_softly(self, name: str) -> os.stat_result | None:
        """Return the status as `look` does; None also if a file is in the place of a folder."""
        try:
            return self.look(name)
        except NotADirectoryError:
            return None


class NewFile:
    """A file that is being written; a context manager, at whose end it is kept or removed.

    :param folder: a descriptor of the folder that holds the file; it is duplicated.
    """

    def __init__(self, folder: int, name: str, announced_bytes: int) -> None:
        self.name, self.announced_bytes = name, announced_bytes
        self.most_bytes = announced_bytes + _GROWTH_BYTES
        self._folder = os.dup(folder)
        try:
            self._spare, self._file = self._open()
        except BaseException:
            os.close(self._folder)
            raise
        self.size = os.fstat(self._file).st_size

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.discard()
        finally:
            self._close()

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``.

        :raises OSError: the file is far larger than announced, or the system cannot write it.
        """
        self.size += len(chunk)
        if self.size > self.most_bytes:
            raise OSError(errno.EFBIG, self.excess)
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    @property
    def excess(self) -> str:
        """The error message for a file that is far larger than announced."""
        return f"the host announced {self.announced_bytes} bytes, and sends more and more"

    def keep(self, mode: int, modified: float | None = None) -> None:
        """Give the file its permissions, time and name; it replaces another file of that name.

        :raises OSError: a folder has the name.
        """
        if modified is not None:
            os.utime(self._file, (modified, modified))
        os.fchmod(self._file, mode & _MODE_BITS)
        _put_in_place(self._folder, self._spare, self.name)
        self._spare = ""

    def discard(self) -> None:
        """Remove the file, unless it is kept."""
        if self._spare:
            os.unlink(self._spare, dir_fd=self._folder)
            self._spare = ""

    def _open(self) -> tuple[str, int]:
        name = f".{os.urandom(8).hex()}.part"
        return name, os.open(name, _NEW_FLAGS, 0o600, dir_fd=self._folder)

    def _close(self) -> None:
        os.close(self._file)
        os.close(self._folder)


class PartFile(NewFile):
    """A file that another run can continue; it stays until it is kept or discarded.

    A file that another user has put in its place is not used: a part is a regular file of this
    user, has one name, and is writable for its owner only. A part that a running process is writing
    is not used either. Other parts of this user for the same name are removed.
    """

    def __init__(self, folder: int, name: str, announced_bytes: int, version: str) -> None:
        self._beginning = f".ringtasks-{_digest(name)}-"
        self._version = _digest(version)
        super().__init__(folder, name, announced_bytes)
        if self.size > announced_bytes:
            self.restart()

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def fileno(self) -> int:
        """Return the descriptor, to read and write."""
        return self._file

    @contextlib.contextmanager
    def opened_anew(self) -> Iterator[int]:
        """Yield a descriptor with a position of its own.

        A process that holds a lost connection may still write to the descriptor that it was given.
        """
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self._spare, flags, dir_fd=self._folder)
        try:
            if not os.path.samestat(os.fstat(descriptor), os.fstat(self._file)):
                raise OSError(errno.ESTALE, f"{self._spare} was replaced while it was written")
            yield descriptor
        finally:
            os.close(descriptor)

    def measure(self) -> int:
        """Update the size from the file, and return it."""
        self.size = os.fstat(self._file).st_size
        return self.size

    def restart(self) -> None:
        """Truncate the file to 0 bytes."""
        os.ftruncate(self._file, 0)
        self.size = 0

    def _open(self) -> tuple[str, int]:
        found: tuple[str, int] | None = None
        for name in os.listdir(self._folder):  # noqa: PTH208  # of a descriptor
            if not (name.startswith(self._beginning) and name.endswith(".part")):
                continue
            descriptor = self._opened(name)
            if descriptor is None:
                continue
            if found is None and name.startswith(f"{self._beginning}{self._version}-"):
                found = name, descriptor
                continue
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._folder)
            os.close(descriptor)
        return found or self._created()

    def _created(self) -> tuple[str, int]:
        name = f"{self._beginning}{self._version}-{os.urandom(8).hex()}.part"
        flags = _NEW_FLAGS & ~os.O_WRONLY | os.O_RDWR
        descriptor = os.open(name, flags, 0o600, dir_fd=self._folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return name, descriptor

    def _opened(self, name: str) -> int | None:
        """Return a descriptor of an earlier part; None if ``name`` is none that can be used."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=self._folder)
        except OSError:
            return None
        status = os.fstat(descriptor)
        is_ours = (
            stat.S_ISREG(status.st_mode)
            and status.st_uid == os.geteuid()
            and status.st_nlink == 1
            and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        )
        with contextlib.suppress(OSError):  # another run of ours has the lock
            if is_ours:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
        os.close(descriptor)
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _put_in_place(folder: int, spare: str, name: str) -> None:
    try:
        os.rename(spare, name, src_dir_fd=folder, dst_dir_fd=folder)
    except IsADirectoryError as error:
        raise OSError(errno.EISDIR, "is a folder") from error
