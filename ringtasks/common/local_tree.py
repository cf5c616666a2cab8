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
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from .new_files import MODE_BITS, NewFile, PartFile, finish, lock_own, rename

__all__ = ["LocalTree", "leads_out", "single_name"]

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_NAME_BYTES = 4096  # PATH_MAX; deeper trees cannot be used by path anyway
_MOST_LINKS = 40  # as many as Linux follows on one path (path_resolution(7))
_MOST_FOLLOWED = 1000


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
        if not name:
            return None if self._top is None else os.fstat(self._top)
        try:
            with self._parent(name) as (folder, last):
                return os.stat(last, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def read_link(self, name: str) -> str:
        """Return the text of the link ``name``."""
        with self._parent(name) as (folder, last):
            return os.readlink(last, dir_fd=folder)

    def free_bytes(self) -> int | None:
        """Return the bytes that a user may still write below ``top``; None if it is missing."""
        if self._top is None:
            return None
        status = os.fstatvfs(self._top)
        return status.f_bavail * status.f_frsize

    def names(self, name: str) -> list[str]:
        """Return the names in the folder ``name``; none if it is missing."""
        if self._top is None:
            return []
        return os.listdir(self._folder(name))  # noqa: PTH208  # of a descriptor

    def entries(self, name: str) -> list[tuple[str, os.stat_result]]:
        """Return the names in the folder ``name``, each with its status; a link is not followed."""
        if self._top is None:
            return []
        found = []
        with os.scandir(self._folder(name)) as listing:
            for entry in listing:
                with contextlib.suppress(FileNotFoundError):  # it has gone meanwhile
                    found.append((entry.name, entry.stat(follow_symlinks=False)))
        return found

    def make_folder(self, name: str, mode: int = 0o777) -> None:
        """Make the folder ``name``, unless there is one; the folder above it exists.

        One that is there can be written to afterwards, if it is ours.

        :param mode: of a new one, less the umask.
        """
        if name:
            with self._parent(name) as (folder, last):
                try:
                    os.mkdir(last, mode, dir_fd=folder)
                except FileExistsError:
                    status = os.stat(last, dir_fd=folder, follow_symlinks=False)
                    if not stat.S_ISDIR(status.st_mode):
                        raise
                else:
                    return
        descriptor = self._folder(name)
        status = os.fstat(descriptor)
        if not status.st_mode & stat.S_IWUSR and status.st_uid == os.geteuid():
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode) | stat.S_IRWXU)

    def hand_over(self, name: str, to: LocalTree, to_name: str) -> None:
        """Move the file or folder ``name`` into another tree; it replaces a file or a link there.

        A folder can be moved within one file system only.

        :raises OSError: it is neither, or a folder has the name.
        """
        with self._parent(name) as (folder, last), to._parent(to_name) as (target, target_last):
            status = os.stat(last, dir_fd=folder, follow_symlinks=False)
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                raise OSError(errno.EINVAL, "is not a regular file")
            if stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) & ~MODE_BITS:
                os.chmod(last, status.st_mode & MODE_BITS, dir_fd=folder)
            try:
                rename(last, target_last, folder, target)
            except OSError as error:
                if error.errno != errno.EXDEV or not stat.S_ISREG(status.st_mode):
                    raise
                _copy(last, folder, status, NewFile(target, target_last, status.st_size))
                os.unlink(last, dir_fd=folder)
        if stat.S_ISDIR(status.st_mode):
            self._forget()
            to._forget()

    def hand_over_files(self, folder: str, items: Iterable[str], to: LocalTree) -> list[str]:
        """Move files of a folder into the same folder of another tree.

        :return: the names that cannot be moved by a rename.
        """
        source, target = self._folder(folder), to._folder(folder)
        left = []
        for item in items:
            try:
                os.rename(single_name(item), item, src_dir_fd=source, dst_dir_fd=target)
            except OSError:
                left.append(item)
        return left

    def lock_own_folder(self, name: str) -> int | None:
        """Return a descriptor of the folder ``name``, which is locked until it is closed.

        None: it is not ours, others may write in it, or another run has locked it.
        """
        descriptor = os.dup(self._folder(name))
        self._forget()  # the lock is the open file's, which the two share
        if lock_own(descriptor):
            return descriptor
        os.close(descriptor)
        return None

    def link(self, name: str, to: str, modified_ns: int | None = None) -> None:
        """Make the symbolic link ``name`` to ``to``; it replaces a file or a link.

        :raises OSError: the link may lead out of the tree.
        """
        if leads_out(name, to) or not self._stays_inside(name, to):
            raise OSError(errno.EPERM, f"a link to {to!r}, which leads out of {self.top}: refused")
        with self._parent(name) as (folder, last):
            spare = f".{os.urandom(8).hex()}.part"
            os.symlink(to, spare, dir_fd=folder)
            try:
                if modified_ns is not None:
                    times = (modified_ns, modified_ns)
                    os.utime(spare, ns=times, dir_fd=folder, follow_symlinks=False)
                rename(spare, last, folder, folder)
            except BaseException:
                os.unlink(spare, dir_fd=folder)
                raise
        self._links.append((name, to))

    def folds_case(self) -> bool:
        """Return True if the file system of ``top`` does not tell upper from lower case."""
        with self.new_file("case", 0) as file:
            return self.look(file.spare_name.upper()) is not None

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
                os.rmdir(last, dir_fd=folder)
                self._forget()
            else:
                os.unlink(last, dir_fd=folder)

    def finish_folder(
        self, name: str, mode: int, modified_ns: int | None = None, *, is_own: bool = False
    ) -> None:
        """Give the folder ``name`` its permissions and its time, when its content is complete.

        ``top`` keeps its own if it is another user's.

        :param is_own: they are those that it had before, and not from a host.
        """
        descriptor = self._folder(name)
        with contextlib.nullcontext() if name else contextlib.suppress(PermissionError):
            finish(descriptor, mode, modified_ns)
            if is_own:
                os.fchmod(descriptor, stat.S_IMODE(mode))
        self._forget()

    def finish_file(self, name: str, mode: int, modified_ns: int | None = None) -> None:
        """Give the file ``name`` its permissions and its time.

        :raises PermissionError: it cannot be opened to read.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with self._parent(name) as (folder, last):
            descriptor = os.open(last, flags, dir_fd=folder)
        try:
            finish(descriptor, mode, modified_ns)
        finally:
            os.close(descriptor)

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
        followed: Counter[str] = Counter()
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
            link = "/".join([*place, part])
            text = self.read_link(link)
            followed[link] += 1
            if followed[link] > _MOST_LINKS:  # in a circle: it leads nowhere
                return True
            if text.startswith("/") or followed.total() > _MOST_FOLLOWED:
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


def _copy(name: str, folder: int, status: os.stat_result, file: NewFile) -> None:
    source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    with file, os.fdopen(source, "rb", buffering=0) as reading:
        while chunk := reading.read(1024 * 1024):
            file.write(chunk)
        file.keep(status.st_mode, status.st_mtime_ns)
