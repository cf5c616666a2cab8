"""One file, to a host or from it.

It grows under a name of its own beside the final one, is compared by SHA-256, and renamed then: so
that the final name never shows half of a file or a damaged one.  What came before a link was lost
is the beginning of the next attempt, also of the next command.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ringtasks.client.result import SSHResult
from ringtasks.remote.paths import above, joined, name_of, word
from ringtasks.remote.script import quote

from .asking import ask
from .checksums import Hashing, hash_command, sha256_of, time_for
from .host_transfer import Haul, TransferError
from .probe import Found, Survey
from .rsync_output import Change

__all__ = ["get_file", "put_file"]

#: A part is written on from a border of these.
_BLOCK_BYTES = 64 * 1024
_MODE_BITS = 0o777  # no set-user-ID and its like
#: Times that a file is sent from its beginning when its sum is not right.
_ATTEMPTS = 2


def put_file(
    haul: Haul,
    source: Path,
    target: str,
    known: Survey,
    *,
    send: Callable[[str], bool] | None = None,
    hashing: Hashing | None = None,
) -> None:
    """Copy one file to ``target``, a name on the host.

    :param send: makes the part in another way; False: it could not.
    :param hashing: makes the file's sum already.

    :raises TransferError: it cannot be, or it changed meanwhile.
    """
    with haul.local(source):
        before = _Stamp.of(source)
    if haul.options.dry_run:
        haul.add(Change("sent", name_of(target), before.size))
        return
    haul.total_bytes = before.size
    part = joined(above(target), _part_name(name_of(target), before))
    for attempt in range(_ATTEMPTS):
        summing = hashing or Hashing(lambda: sha256_of(source, lambda: haul.stop.is_set))
        if send is None or attempt > 0 or not send(part):
            _push(haul, source, part, known)
        with haul.local(source):
            expected = summing.result()
            has_changed = _Stamp.of(source) != before
        if has_changed:
            haul.ask(f"rm -f {word(part)}", time_for(0))
            raise TransferError(f"{source} changed while it was being sent; send it again")
        if _finish(haul, part, target, before, expected, known):
            haul.add(Change("sent", name_of(target), before.size), is_checked=bool(known.hasher))
            return
        haul.notes.append(f"attempt {attempt + 1}: the SHA-256 differed")
    raise TransferError(f"{target}: its SHA-256 on the host differs from the file's: look at disks")


def get_file(haul: Haul, source: Found, target: Path, known: Survey) -> None:
    """Copy one file from the host to ``target``, a name here.

    :raises TransferError: it cannot be, or it changed meanwhile.
    """
    if haul.options.dry_run:
        haul.add(Change("sent", target.name, source.size_bytes))
        return
    haul.total_bytes = source.size_bytes
    part = target.parent / _part_name(target.name, _Stamp(source.size_bytes))
    with haul.local(target):
        for old in target.parent.glob(_siblings(part.name)):
            if old.name != part.name:
                old.unlink(missing_ok=True)
    for _ in range(_ATTEMPTS):
        hashing = Hashing(lambda: _sum_on_host(haul, source, known))
        _pull(haul, source, part)
        expected = hashing.result()
        with haul.local(part):
            if not expected or sha256_of(part) == expected:
                if target.is_dir():
                    raise TransferError(f"{target} (here): is a folder")
                part.chmod(source.mode & _MODE_BITS)
                os.utime(part, (source.modified, source.modified))
                part.replace(target)
                haul.add(Change("sent", target.name, source.size_bytes), is_checked=bool(expected))
                return
            part.unlink()
    raise TransferError(
        f"{source.path}: what came differs by its SHA-256: did it change meanwhile?"
    )


class _Stamp(NamedTuple):
    """What changes when a file does."""

    size: int
    modified_ns: int = 0
    inode: int = 0
    mode: int = 0o600

    @classmethod
    def of(cls, path: Path) -> _Stamp:
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode) & _MODE_BITS
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, mode)


def _part_name(name: str, stamp: _Stamp) -> str:
    """The same for the same file, so that another attempt finds it; short, whatever the name is."""
    return f".ringtasks-{_digest(name)}-{_digest(repr(tuple(stamp)))}.part"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _siblings(part: str) -> str:
    """A pattern for the parts of other versions of the same file."""
    return f"{part.rpartition('-')[0]}-*.part"


def _push(haul: Haul, source: Path, part: str, known: Survey) -> None:
    """:raises TransferError: what is missing of the part could not be sent."""
    folder, name = word(above(part)), quote(name_of(part))
    tidy = (
        f"cd {folder} || exit 1\n"
        f"for old in {_siblings(name_of(part))}; do "
        f'[ "$old" = {name} ] || rm -f "$old"; done\n'
        f"[ -f {name} ] && ls -ln {name}; true"
    )

    def attempt() -> SSHResult:
        looked = ask(haul.client, tidy)
        if not looked.success:
            return looked
        fields = looked.stdout.split()
        there = int(fields[4]) if len(fields) > 4 else 0  # the size (XCU ls)
        if not haul.has_sent:
            _check_free((haul.total_bytes or 0) - there, known.free_bytes)
        blocks = there // _BLOCK_BYTES
        # dd writes where it was told to, so that one that is left over from a lost link, and has
        # not noticed yet, writes the same bytes to the same places.
        script = (
            f"export LC_ALL=C; umask 077; cd {folder} && "
            f"exec dd of={name} bs={_BLOCK_BYTES} seek={blocks} conv=notrunc"
        )
        return haul.stream(script, source, blocks * _BLOCK_BYTES, writes=False)

    _streamed(haul, attempt, lambda: haul.ask(f"rm -f {word(part)}", time_for(0)))


def _pull(haul: Haul, source: Found, part: Path) -> None:
    """:raises TransferError: what is missing of the part did not come."""
    whole = quote(source.path)

    def attempt() -> SSHResult:
        offset = part.stat().st_size if part.exists() else 0
        if not haul.has_sent:
            _check_free(source.size_bytes - offset, shutil.disk_usage(part.parent).free)
        if offset > source.size_bytes:
            part.unlink()
            offset = 0
        script = f"exec tail -c +{offset + 1} {whole}" if offset else f"exec cat {whole}"
        return haul.stream(script, part, offset, writes=True)

    _streamed(haul, attempt, lambda: part.unlink(missing_ok=True))


def _streamed(haul: Haul, attempt: Callable[[], SSHResult], remove: Callable[[], object]) -> None:
    """Until it is whole; a part that cannot become so does not stay and fill the disk."""
    try:
        with haul.local("the file"):
            haul.persist(attempt)
    except TransferError as error:
        if error.returncode == 1:
            with contextlib.suppress(TransferError, OSError):
                remove()
        raise


def _finish(
    haul: Haul, part: str, target: str, stamp: _Stamp, expected: str, known: Survey
) -> bool:
    """Give the part its final name, if its sum is right; it is removed where not.

    :raises TransferError: it cannot be renamed.
    """
    name, final = quote(name_of(part)), quote(f"./{name_of(target)}")
    modified = time.strftime("%Y%m%d%H%M.%S", time.gmtime(stamp.modified_ns // 10**9))
    check = "true"
    if known.hasher:
        check = (
            f'case "$({hash_command(known.hasher)} {name})" in *{expected}*) ;; *) false ;; esac'
        )
    result = haul.ask(
        f"cd {word(above(target))} || exit 1\n"
        f"if [ -d {final} ]; then rm -f {name}; echo folder\n"
        # The answer to this may have been lost, and the question be asked again.
        f"elif [ ! -e {name} ] && [ -e {final} ]; then "
        f"if {check.replace(name, final)}; then echo done; else echo differs; fi\n"
        f"elif {check}; then chmod {stamp.mode:o} {name} && "
        f"TZ=UTC0 touch -m -t {modified} {name} && mv -f {name} {final} && echo done\n"
        f"else rm -f {name}; echo differs; fi",
        time_for(haul.total_bytes or 0),
    )
    said = result.stdout.strip()
    if said == "folder":
        raise TransferError(f"{target} is a folder: it cannot become a file")
    return said == "done"


def _sum_on_host(haul: Haul, source: Found, known: Survey) -> str:
    """Empty where the host has nothing to make it with."""
    if not known.hasher:
        return ""
    command = f"{hash_command(known.hasher)} {word(source.path)}"
    result = ask(haul.client, command, time_for(source.size_bytes))
    return result.stdout.lstrip("\\")[:64] if result.success else ""


def _check_free(size_bytes: int, free_bytes: int | None) -> None:
    """:raises TransferError: the file system says that it has not got the room."""
    if free_bytes is not None and free_bytes < size_bytes:
        raise TransferError(f"no space: {size_bytes} bytes are needed, and {free_bytes} are free")
