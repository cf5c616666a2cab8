"""Copy one file, to a host or from it.

It grows under a name of its own beside the final one, is compared by SHA-256, and is renamed then,
so that the final name never shows half of a file or a damaged one.  The bytes that arrived before a
link was lost are the beginning of the next attempt, also of the next command.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ringtasks.client.result import SSHResult
from ringtasks.common.disk_space import is_full, no_space
from ringtasks.common.local_tree import LocalTree
from ringtasks.common.new_files import PartFile
from ringtasks.common.special_files import refuse_to_replace
from ringtasks.common.text import size
from ringtasks.remote.paths import name_of
from ringtasks.remote.programs import Program
from ringtasks.remote.script import quoted_path
from ringtasks.ssh.link import KILLED_STATUS

from .checksums import HASHERS, Hashing, sha256_of, time_for
from .host_transfer import SPECIAL, HostCopy, HostTransferError
from .probe import PathProbe, RemotePath
from .remote_part import RemotePart
from .rsync_output import Change

__all__ = ["get_file", "put_file"]

#: Sending resumes at a multiple of this size.
_BLOCK_BYTES = 64 * 1024
_OTHER_WRITER = "another transfer to this name at the same time removed the part of this one"
#: Number of times that a file is sent from its beginning if its sum is wrong.
_ATTEMPTS = 2
_WRITE, _FINISH = (Program(__file__, name) for name in ("write_part.sh", "finish_part.sh"))


def put_file(
    host_copy: HostCopy,
    source: Path,
    target: str,
    known: PathProbe,
    *,
    send: Callable[[RemotePart], bool] | None = None,
    hashing: Hashing | None = None,
) -> None:
    """Copy one file to ``target``, a name on the host.

    :param send: makes the part in another way; returns False if it could not.
    :param hashing: a running computation of the file's sum.

    :raises HostTransferError: it cannot be copied, or it changed meanwhile.
    """
    with host_copy.local(source):
        before = _Stamp.of(source)
    if host_copy.options.dry_run:
        host_copy.add(Change("sent", name_of(target), before.size))
        return
    host_copy.total_bytes = before.size
    sending = _Sending(host_copy, source, target, known, before)
    for attempt in range(_ATTEMPTS):
        said = sending.attempt(send if attempt == 0 else None, hashing)
        if said == "done":
            return
        why = _OTHER_WRITER if said == "gone" else "the SHA-256 differed"
        host_copy.notes.append(f"attempt {attempt + 1}: {why}")
    if said == "gone":
        raise HostTransferError(f"{target}: {_OTHER_WRITER}; send it again if it is to win")
    raise HostTransferError(
        f"{target}: its SHA-256 on the host differs from the file's: a login file there may read "
        "stdin, or a disk is faulty"
    )


class _Stamp(NamedTuple):
    """The properties that change when a file changes."""

    size: int
    modified_ns: int = 0
    inode: int = 0
    mode: int = 0o600

    @classmethod
    def of(cls, path: Path) -> _Stamp:
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, stat.S_IMODE(status.st_mode))


class _Sending:
    """One file on its way to ``target``, a name on the host."""

    def __init__(
        self, host_copy: HostCopy, source: Path, target: str, known: PathProbe, before: _Stamp
    ) -> None:
        self._host_copy, self._known = host_copy, known
        self._source, self._target = source, target
        self._before = before
        self._part = RemotePart(host_copy.client, target, repr(tuple(before)))

    def attempt(self, send: Callable[[RemotePart], bool] | None, hashing: Hashing | None) -> str:
        """Send the missing bytes; give the part its final name if its sum is right.

        :returns: ``done``; or ``differs`` or ``gone``: the part has been removed.
        :raises HostTransferError: it cannot be sent, or the source has changed.
        """
        host_copy, source = self._host_copy, self._source
        summing = hashing or Hashing(lambda: sha256_of(source, lambda: host_copy.stop.is_cancelled))
        size_bytes = self._before.size
        if send is None or not self._is_sent(send):
            size_bytes = self._push()
        with host_copy.local(source):
            expected = summing.result()
            has_changed = _Stamp.of(source) != self._before
        if has_changed:
            host_copy.ask(self._part.remove_script(), time_for(0))
            raise HostTransferError(f"{source} changed while it was being sent; send it again")
        said = self._finish(size_bytes, expected)
        if said == "done":
            change = Change("sent", name_of(self._target), size_bytes)
            host_copy.add(change, is_checked=bool(self._known.hasher))
        return said

    def _is_sent(self, send: Callable[[RemotePart], bool]) -> bool:
        self._host_copy.retry_on_lost_link(self._part.look)
        return send(self._part)

    def _push(self) -> int:
        """Send the missing bytes of the part; return the number of bytes that the file has.

        It is not the size of a file of /proc or /sys.

        :raises HostTransferError: they could not be sent.
        """
        end = 0

        def attempt() -> SSHResult:
            nonlocal end
            result, end = self._push_once()
            return result

        try:
            with self._host_copy.local(self._source):
                self._host_copy.retry_on_lost_link(attempt)
        except HostTransferError as error:
            if error.returncode == 1:  # it cannot become whole: free its disk space
                with contextlib.suppress(HostTransferError):
                    self._host_copy.ask(self._part.remove_script(), time_for(0))
            raise
        return end

    def _push_once(self) -> tuple[SSHResult, int]:
        """Make one attempt to send the missing bytes; return the position in the file, too."""
        part, host_copy = self._part, self._host_copy
        looked = part.look()
        if not looked.success:
            return looked, 0
        if not host_copy.has_sent:
            missing_bytes = (host_copy.total_bytes or 0) - part.size_bytes
            _check_free(f"{part.folder} (on the host)", missing_bytes, self._known.free_bytes)
        blocks = part.size_bytes // _BLOCK_BYTES
        script = part.program(
            _WRITE, block_bytes=_BLOCK_BYTES, blocks=blocks, refusal=_OTHER_WRITER
        )
        with self._source.open("rb", buffering=0) as file:
            result = host_copy.stream(script, file.fileno(), blocks * _BLOCK_BYTES)
            return result, file.tell()

    def _finish(self, size_bytes: int, expected: str) -> str:
        """Give the part its final name, if its sum is right; it is removed if not.

        :returns: ``done``, ``differs`` or ``gone``.
        :raises HostTransferError: it cannot be renamed.
        """
        modified = time.gmtime(self._before.modified_ns // 10**9)
        hasher = self._known.hasher
        finish = self._part.program(
            _FINISH,
            final=name_of(self._target),
            mode=f"{self._before.mode:o}",
            modified=time.strftime("%Y%m%d%H%M.%S", modified),
            hash_command=HASHERS[hasher] if hasher else "",
            sum=expected,
            size_bytes=size_bytes,
        )
        result = self._host_copy.ask(finish, time_for(self._host_copy.total_bytes or 0))
        said = result.stdout.strip()
        if said == "folder":
            raise HostTransferError(f"{self._target} is a folder: it cannot become a file")
        if said == "special":
            raise HostTransferError(f"{self._target} {SPECIAL}")
        return said


def get_file(host_copy: HostCopy, source: RemotePath, target: Path, known: PathProbe) -> None:
    """Copy one file from the host to ``target``, a local name.

    :raises HostTransferError: it cannot be copied, or it changed meanwhile.
    """
    if host_copy.options.dry_run:
        with host_copy.local(target):
            refuse_to_replace(target)
        host_copy.add(Change("sent", target.name, source.size_bytes))
        return
    host_copy.total_bytes = source.size_bytes
    version = f"{source.size_bytes} {source.modified}"
    with host_copy.local(target), LocalTree(target.parent, make=False) as tree:
        refuse_to_replace(target)
        if target.is_dir():
            raise HostTransferError(f"{target} (here): is a folder")
        with tree.part_file(target.name, source.size_bytes, version) as part:
            try:
                is_checked = _received(host_copy, source, part, known, target.parent)
                part.measure()  # files of /proc and /sys have another size than they say
                part.keep(source.mode, source.modified * 10**9)
            except HostTransferError as error:
                if error.returncode == 1:  # it cannot become whole: free its disk space
                    part.discard()
                raise
    host_copy.add(Change("sent", target.name, part.size), is_checked=is_checked)


def _received(
    host_copy: HostCopy, source: RemotePath, part: PartFile, known: PathProbe, folder: Path
) -> bool:
    """Fill the part; return whether it was compared by its sum.

    :raises HostTransferError: it differs from the host's file.
    """
    for _ in range(_ATTEMPTS):
        hashing = Hashing(lambda: _sum_on_host(host_copy, source, known))
        host_copy.retry_on_lost_link(lambda: _pull(host_copy, source, part, folder))
        expected = hashing.result()
        if not expected:
            if part.measure() == source.size_bytes:
                return False
            raise HostTransferError(
                f"{source.path}: it was to have {source.size_bytes} bytes, and {part.size} came"
            )
        if sha256_of(part.fileno()) == expected:
            return True
        came_bytes = part.measure()
        part.restart()
    if came_bytes < source.size_bytes:
        raise HostTransferError(
            f"{folder} (here): {came_bytes} of {source.size_bytes} bytes came: was the disk here "
            "full meanwhile, or did the file change?"
        )
    raise HostTransferError(
        f"{source.path}: its SHA-256 differs from the host's: did it change meanwhile?"
    )


def _pull(host_copy: HostCopy, source: RemotePath, part: PartFile, folder: Path) -> SSHResult:
    """Make one attempt to receive the missing bytes of the part, which is in ``folder``."""
    offset = part.measure()
    if offset > source.size_bytes:
        part.restart()
        offset = 0
    with part.opened_anew() as file:
        if not host_copy.has_sent:
            free_bytes = shutil.disk_usage(file).free
            _check_free(f"{folder} (here)", source.size_bytes - offset, free_bytes)
        whole = quoted_path(source.path)
        script = f"exec tail -c +{offset + 1} {whole}" if offset else f"exec cat {whole}"
        result = host_copy.stream(script, file, offset, part.most_bytes)
        is_short = part.measure() < source.size_bytes
        if result.error is None and (is_short or not result.success):
            _check_room(file, f"{folder} (here)", source.size_bytes, result.returncode)
        return result


def _sum_on_host(host_copy: HostCopy, source: RemotePath, known: PathProbe) -> str:
    """Return the sum of the host's file; empty if the host has no program for it."""
    if not known.hasher:
        return ""
    command = f"{HASHERS[known.hasher]} {quoted_path(source.path)}"
    result = host_copy.ask_once(command, time_for(source.size_bytes))
    return result.stdout.lstrip("\\")[:64] if result.success else ""


def _check_room(file: int, place: str, size_bytes: int, returncode: int) -> None:
    """Check that ``file`` can grow: the connection's holder, which writes it, gives no reason.

    :raises HostTransferError: it cannot, or maybe could not.
    """
    missing_bytes = size_bytes - os.lseek(file, 0, os.SEEK_END)
    free_bytes = shutil.disk_usage(file).free
    if not _can_grow(file):
        raise HostTransferError(f"{place}: {no_space(missing_bytes, free_bytes)}")
    if returncode == KILLED_STATUS:
        raise HostTransferError(
            f"{place}: exit status {returncode}: it was killed on the host, or the disk here was "
            f"full meanwhile ({size(free_bytes)} are free now)"
        )


def _can_grow(file: int) -> bool:
    end = os.lseek(file, 0, os.SEEK_END)
    try:
        return os.pwrite(file, bytes(_BLOCK_BYTES), end) == _BLOCK_BYTES
    except OSError as error:
        if not is_full(error):
            raise
        return False
    finally:
        os.ftruncate(file, end)


def _check_free(place: str, size_bytes: int, free_bytes: int | None) -> None:
    """Check the free space of ``place``, a folder.

    :raises HostTransferError: the file system reports too little room.
    """
    if free_bytes is not None and free_bytes < size_bytes:
        raise HostTransferError(f"{place}: {no_space(size_bytes, free_bytes)}")
