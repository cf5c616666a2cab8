"""A private folder in the target, into which the local rsync writes.

Some versions of rsync follow links that a hostile host makes them create. So rsync writes to an
empty folder, in which it finds no link and makes none that works: ``--munge-links`` puts a path
that does not exist in front of each. It only reads the target, to find files that need not be sent
(``--compare-dest``). `LocalTree` then moves complete files into the target, and makes the links
that stay inside.

The folder is in the target, so that a move is a rename. Unfinished files stay in it for the next
run, which uses it only if it is ours and no other user may write to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Set
from pathlib import Path

from ringtasks.common.disk_space import is_full, no_space
from ringtasks.common.local_tree import LocalTree, leads_out

from .folded_names import folded_error
from .patterns import Filter, doomed
from .rsync_flags import INCOMING, MUNGED, PARTIAL_FOLDER
from .rsync_output import NOT_EMPTY, Change

__all__ = ["Staging", "staged_name"]

#: The folder that rsync writes to, and the file with the names that it is to read.
_TREE, _LIST = "tree", "list"
_SET_ID = stat.S_ISUID | stat.S_ISGID


class Staging:
    """The folder in ``target``; a context manager.

    :param only: the names at its top that the user asked for; None: all.
    :param filter_: what stays of the names that the host has not, and of a folder that a file is to
        replace; None: all of them, so only an empty folder is replaced.
    :raises OSError: it cannot be made.
    """

    def __init__(
        self, target: LocalTree, only: Collection[str] | None, filter_: Filter | None = None
    ) -> None:
        self._target, self._only, self._filter = target, only, filter_
        self.target = Path(os.path.abspath(target.top))  # noqa: PTH100  # resolve() follows links
        #: The target's mode and time in the end; None: they are not set.
        self._top = target.look("")
        self._keeps_top = True
        self.is_target_empty = all(name.startswith(INCOMING) for name in target.names(""))
        self._open_top()
        self._name, self._lock = self._found() or self._made()
        self.folder = self.target / self._name / _TREE
        self._listed: Set[str] | None = None
        self.made: list[Change] = []
        """The links that were made."""
        self.errors: list[str] = []
        if self._top is not None:  # it has a new time, but no new content
            self._set("", self._top, is_own=True)
        self.deleted: list[Change] = []
        """The files that made way for folders, and the folders, with their content, for files."""
        self.skipped: list[Change] = []
        """The links that lead out of the target."""
        self.replaced: list[Change] = []
        """The links in whose places folders were made: rsync took their files for the folders'."""
        try:
            target.make_folder(f"{self._name}/{_TREE}", 0o700)
            self._purge(f"{self._name}/{_TREE}")
        except OSError:  # the disk is full, for example
            self._close()
            raise

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def _open_top(self) -> None:
        """Let us write to the target while rsync would: it sets the mode if all is asked for."""
        if self._only is None:
            self._target.make_folder("")

    def _close(self) -> None:
        """Remove it, unless it holds unfinished files."""
        try:
            self._open_top()
            for name in (_LIST, _TREE):
                with contextlib.suppress(OSError):
                    self._target.remove(f"{self._name}/{name}")
            with contextlib.suppress(OSError):
                self._target.remove(self._name)
            if self._top is not None:
                self._set("", self._top, is_own=self._keeps_top)
        finally:
            os.close(self._lock)

    def write_list(self, content: bytes) -> Path:
        """Write a file for rsync to read; the next one replaces it."""
        with self._target.new_file(f"{self._name}/{_LIST}", len(content)) as file:
            file.write(content)
            file.keep(0o600)
        return self.target / self._name / _LIST

    def merge(self, *, is_whole: bool, has_top: bool, listed: Set[str] | None = None) -> None:
        """Move complete files into the target; those that cannot be moved are in ``errors``.

        :param is_whole: rsync has ended well: folders get their modes and times too.
        :param has_top: so does the target; if False, it keeps its own.
        :param listed: the names that differ; None: not known.
        """
        self._listed = listed
        self._open_top()
        with LocalTree(self.folder, make=False) as staged:
            if has_top or not is_whole:
                self._keeps_top = False
                self._top = staged.look("") if is_whole and self._only is None else None
            if staged.look("") is not None:
                staged.make_folder("")  # so that what is in it can be moved out
            finished: list[tuple[str, os.stat_result]] = []
            todo = [""]
            while todo:
                inner = list(self._move_content(staged, todo.pop()))
                todo += [name for name, _ in inner]
                finished += inner
            for name, status in reversed(finished):
                self._finish(staged, name, status, is_whole=is_whole)

    def check_names(self, names: Iterable[str]) -> None:
        """Check that the target holds each of these names; else there is one error more."""
        if error := folded_error(self._target, names):
            self.errors.append(error)

    def delete(self, present: Set[str]) -> list[Change]:
        """Delete from the target what is not ``present`` on the host; return what was deleted."""
        deleted: list[Change] = []
        todo = [""]
        while todo:
            folder = todo.pop()
            content = {item: posixpath.join(folder, item) for item in self._target.names(folder)}
            is_whole = bool(folder) or self._only is None  # else some names of it were asked for
            gone = {item for item, name in content.items() if is_whole and name not in present}
            before = self._target.look(folder)
            deleted += self._delete(folder, gone)
            if gone and before is not None:  # it has its time from the host
                self._set(folder, before, is_own=True)
            todo += [name for name in content.values() if f"{name}/" in present]
        return deleted

    def _delete(self, folder: str, items: Set[str]) -> Iterator[Change]:
        """Delete these from a folder, except for excluded ones; yield what was deleted."""
        shut: dict[str, int] = {}

        def open_up(name: str) -> None:
            old = self._target.look(name)
            if old is not None and not old.st_mode & stat.S_IWUSR:
                shut[name] = old.st_mode
                self._target.make_folder(name)  # so that what is in it can be removed

        def listed(name: str) -> Iterator[tuple[str, bool]]:
            open_up(name)
            for item, status in self._target.entries(name):
                yield item, stat.S_ISDIR(status.st_mode)

        if self._filter is None or not items:
            return
        open_up(folder)
        for name, is_folder in doomed(listed, folder, items, self._filter):
            with self._noted(name):
                self._target.remove(name)
                yield Change("deleted", f"{name}/" if is_folder else name, 0)
        for name in reversed(shut):
            with self._noted(name):
                old = self._target.look(name)  # None: it held no excluded names
                if old is not None and old.st_mode != shut[name]:
                    self._target.finish_folder(name, shut[name], is_own=True)

    def _move_content(self, staged: LocalTree, folder: str) -> Iterator[tuple[str, os.stat_result]]:
        """Move the content of a folder; yield folders whose content must be moved by itself."""
        files, others = [], []
        for item, status in staged.entries(folder):
            if not folder and self._only is not None and item not in self._only:
                self.errors.append(f"{item!r} was sent, which was not asked for: refused")
                _remove_all(staged, item)
            elif stat.S_ISREG(status.st_mode) and not status.st_mode & _SET_ID:
                files.append(item)
            elif item != PARTIAL_FOLDER:
                others.append((item, status))
        for item in staged.hand_over_files(folder, files, self._target):
            self._move(staged, posixpath.join(folder, item), None)
        for item, status in others:
            name = posixpath.join(folder, item)
            if not self._move(staged, name, status):
                yield name, status

    def _move(self, staged: LocalTree, name: str, status: os.stat_result | None) -> bool:
        """Move one entry; return False for a folder whose content must be moved by itself."""
        with self._noted(name):
            if status is not None and stat.S_ISDIR(status.st_mode):
                # rename(2): a folder whose ".." changes must be writable.
                if status.st_mode & stat.S_IWUSR and self._is_moved_whole(staged, name):
                    return True
                self._make_folder(staged, name)
                return False
            if status is not None and stat.S_ISLNK(status.st_mode):
                self._make_link(staged, name, status)
                return True
            self._clear(name)
            staged.hand_over(name, self._target, name)
            return True
        _remove_all(staged, name)
        return True

    def _is_moved_whole(self, staged: LocalTree, name: str) -> bool:
        if self._target.look(name) is not None or not _is_plain(staged, name):
            return False
        try:
            staged.hand_over(name, self._target, name)
        except OSError as error:
            if error.errno == errno.EXDEV:  # another file system is mounted in the target
                return False
            raise
        return True

    def _make_folder(self, staged: LocalTree, name: str) -> None:
        old = self._target.look(name)
        if old is not None and not stat.S_ISDIR(old.st_mode):
            if stat.S_ISLNK(old.st_mode):
                text = self._target.read_link(name)
                self.replaced.append(Change("replaced", name, 0, link=text))
            else:
                self.deleted.append(Change("deleted", name, 0))
            self._target.remove(name)
        self._target.make_folder(name)
        staged.make_folder(name)  # so that what is in it can be moved out

    def _make_link(self, staged: LocalTree, name: str, status: os.stat_result) -> None:
        text = staged.read_link(name).removeprefix(MUNGED)
        staged.remove(name)
        if leads_out(name, text) or self._leads_to_unasked(name, text):
            self.skipped.append(Change("skipped", name, 0))
            return
        if self._has_link(name, text, status.st_mtime_ns):
            return
        self._clear(name)
        self._target.link(name, text, status.st_mtime_ns)
        self.made.append(Change("made", name, 0, is_link=True))

    def _leads_to_unasked(self, name: str, text: str) -> bool:
        """Return whether a link at the top leads to a name that was not asked for."""
        first = posixpath.normpath(text).partition("/")[0]
        return "/" not in name and self._only is not None and first not in self._only

    def _has_link(self, name: str, text: str, modified_ns: int) -> bool:
        old = self._target.look(name)
        if old is None or not stat.S_ISLNK(old.st_mode):
            return False
        is_unlisted = self._listed is not None and name not in self._listed
        if old.st_mtime_ns != modified_ns and not is_unlisted:
            return False
        return self._target.read_link(name) == text

    def _clear(self, name: str) -> None:
        """Make room for a file or a link if a folder has the name; what is excluded stays in it."""
        old = self._target.look(name)
        if old is None or not stat.S_ISDIR(old.st_mode):
            return
        if self._filter is not None:
            self.deleted += self._delete(name, set(self._target.names(name)))
        if self._target.names(name):
            raise OSError(errno.ENOTEMPTY, NOT_EMPTY)
        self._target.remove(name)
        self.deleted.append(Change("deleted", f"{name}/", 0))

    def _finish(
        self, staged: LocalTree, name: str, status: os.stat_result, *, is_whole: bool
    ) -> None:
        """Remove a folder that is empty; the one in the target gets its mode and time."""
        with contextlib.suppress(OSError):  # it holds unfinished files
            staged.remove(name)
        if is_whole:
            self._set(name, status)

    def _set(self, folder: str, status: os.stat_result, *, is_own: bool = False) -> None:
        """Set the mode and time of a folder of the target, if they differ.

        :param is_own: as in `LocalTree.finish_folder`.
        """
        old = self._target.look(folder)
        if old is None:
            return
        before = (stat.S_IMODE(old.st_mode), old.st_mtime_ns)
        if before != (stat.S_IMODE(status.st_mode), status.st_mtime_ns):
            with self._noted(folder):
                mode, modified_ns = status.st_mode, status.st_mtime_ns
                self._target.finish_folder(folder, mode, modified_ns, is_own=is_own)

    @contextlib.contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            told = error.strerror or str(error)
            if is_full(error):
                told = no_space(None, self._target.free_bytes())
            self.errors.append(f"{self._target.top / name} (here): {told}")

    def _purge(self, folder: str) -> None:
        """Keep only unfinished files that rsync has put aside."""
        for item, status in self._target.entries(folder):
            name = f"{folder}/{item}"
            is_aside = posixpath.basename(folder) == PARTIAL_FOLDER
            if stat.S_ISDIR(status.st_mode) and not is_aside:
                self._target.make_folder(name)
                self._purge(name)
            elif not (is_aside and stat.S_ISREG(status.st_mode)):
                _remove_all(self._target, name)

    def _found(self) -> tuple[str, int] | None:
        """Return the name and lock of a folder that an earlier run has left."""
        for name in self._target.names(""):
            if name.startswith(INCOMING):
                with contextlib.suppress(OSError):
                    lock = self._target.lock_own_folder(name)
                    if lock is not None:
                        return name, lock
        return None

    def _made(self) -> tuple[str, int]:
        name = f"{INCOMING}{os.urandom(8).hex()}"
        self._target.make_folder(name, 0o700)
        lock = self._target.lock_own_folder(name)
        if lock is None:
            raise OSError(errno.EACCES, "a folder of our own can be written to by others")
        return name, lock


def staged_name(path: str) -> str:
    """Return the final path of a file in a staging folder."""
    return re.sub(rf"{re.escape(INCOMING)}[0-9a-f]+/{_TREE}/", "", path)


def _is_plain(tree: LocalTree, name: str) -> bool:
    """Return True if a folder holds only folders and files, with modes that the target may have."""
    todo = [name]
    while todo:
        folder = todo.pop()
        for item, status in tree.entries(folder):
            if status.st_mode & _SET_ID:
                return False
            if stat.S_ISDIR(status.st_mode):
                if item == PARTIAL_FOLDER or not status.st_mode & stat.S_IWUSR:
                    return False
                todo.append(posixpath.join(folder, item))
            elif not stat.S_ISREG(status.st_mode):
                return False
    return True


def _remove_all(tree: LocalTree, name: str) -> None:
    todo = [] if tree.look(name) is None else [name]
    for place in todo:  # which grows meanwhile
        status = tree.look(place)
        if status is not None and stat.S_ISDIR(status.st_mode):
            tree.make_folder(place)
            todo += [posixpath.join(place, item) for item in tree.names(place)]
    for place in reversed(todo):
        tree.remove(place)
