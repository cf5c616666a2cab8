"""One file, to a host or from it.

It grows under a name of its own beside the final one, is compared by SHA-256, and renamed then: so
that the final name never shows half of a file or a damaged one.  What came before a link was lost
is the beginning of the next attempt, also of the next command.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import NamedTuple

from ..script import quote
from .checksums import Hashing, hash_command, sha256_of, time_for
from .haul import Haul, TransferError
from .places import above, joined, name_of, word
from .rsync import Moved, Rsync, Rules
from .rsync_output import Change
from .survey import Found, Survey

__all__ = ["get_file", "put_file"]

#: Times that a file is sent from its beginning when its sum is not right.
_ATTEMPTS = 2


def put_file(haul: Haul, source: Path, target: str, known: Survey) -> None:
    """Copy one file to ``target``, a name on the host.

    :raises TransferError: it cannot be, or it changed meanwhile.
    """
    with haul.local(source):
        before = _Stamp.of(source)
    _check_free(haul, before.size, known.free_bytes)
    if haul.options.dry_run:
        haul.add(Change("sent", name_of(target), before.size))
        return
    haul.total_bytes = before.size
    part = joined(above(target), _part_name(name_of(target), before))
    for attempt in range(_ATTEMPTS):
        hashing = Hashing(lambda: sha256_of(source, lambda: haul.stop.is_set))
        _push(haul, source, part, known)
        with haul.local(source):
            expected = hashing.result()
            has_changed = _Stamp.of(source) != before
        if has_changed:
            haul.ask(f"rm -f {word(part)}", time_for(0))
            raise TransferError(f"{source} changed while it was being sent; send it again")
        if _finish(haul, part, target, expected, known):
            haul.add(Change("sent", name_of(target), before.size), is_checked=bool(known.hasher))
            return
        haul.notes.append(f"attempt {attempt + 1}: the SHA-256 differed")
    raise TransferError(f"{target}: its SHA-256 on the host differs from the file's: look at disks")


def get_file(haul: Haul, source: Found, target: Path, known: Survey) -> None:
    """Copy one file from the host to ``target``, a name here.

    :raises TransferError: it cannot be, or it changed meanwhile.
    """
    with haul.local(target):
        free = shutil.disk_usage(target.parent).free
    _check_free(haul, source.size_bytes, free)
    if haul.options.dry_run:
        haul.add(Change("sent", target.name, source.size_bytes))
        return
    haul.total_bytes = source.size_bytes
    part = target.parent / _part_name(target.name, _Stamp(source.size_bytes))
    with haul.local(target):
        _remove_others(target.parent, part.name)
    for _ in range(_ATTEMPTS):
        hashing = Hashing(lambda: _sum_on_host(haul, source, known))
        _pull(haul, source, part, known)
        expected = hashing.result()
        with haul.local(part):
            if not expected or sha256_of(part) == expected:
                if target.is_dir():
                    raise TransferError(f"{target} (here): is a folder")
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

    @classmethod
    def of(cls, path: Path) -> _Stamp:
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


def _part_name(name: str, stamp: _Stamp) -> str:
    """The same for the same file, so that another attempt finds it; short, whatever the name is."""
    return f".ringtasks-{_digest(name)}-{_digest(repr(tuple(stamp)))}.part"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _siblings(part: str) -> str:
    """A pattern for the parts of other versions of the same file."""
    return f"{part.rpartition('-')[0]}-*.part"


def _push(haul: Haul, source: Path, part: str, known: Survey) -> None:
    folder, name = word(above(part)), name_of(part)
    tidy = (
        f"cd {folder} && for old in {_siblings(name)}; do "
        f'[ "$old" = {name} ] || rm -f "$old"; done; cd /'
    )

    def push(rsync: Rsync) -> Moved:
        return rsync.push(
            source,
            part,
            Rules(append=True),
            before=tidy,
            on_meter=haul.meter(),
            timeout=haul.remaining,
        )

    haul.rsync(push, known, keeps_changes=False)


def _pull(haul: Haul, source: Found, part: Path, known: Survey) -> None:
    def pull(rsync: Rsync) -> Moved:
        return rsync.pull(
            above(source.path),
            part,
            Rules(append=True),
            names=quote(f"./{name_of(source.path)}"),
            on_meter=haul.meter(),
            timeout=haul.remaining,
        )

    haul.rsync(pull, known, keeps_changes=False)


def _finish(haul: Haul, part: str, target: str, expected: str, known: Survey) -> bool:
    """Give the part its final name, if its sum is right; it is removed where not.

    :raises TransferError: it cannot be renamed.
    """
    name, final = quote(name_of(part)), quote(f"./{name_of(target)}")
    check = "true"
    if known.hasher:
        check = (
            f'case "$({hash_command(known.hasher)} {name})" in *{expected}*) ;; *) false ;; esac'
        )
    result = haul.ask(
        f"cd {word(above(target))} || exit 1\n"
        f"if [ -d {final} ]; then rm -f {name}; echo folder\n"
        # The answer to this may have been lost, and the question be asked again.
        f"elif [ ! -e {name} ] && [ -e {final} ]; then name={final}; {check.replace(name, final)}"
        f" && echo done || echo differs\n"
        f"elif {check}; then mv -f {name} {final} && echo done\n"
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
    result = haul.client.ask(command, time_for(source.size_bytes))
    return result.stdout.lstrip("\\")[:64] if result.success else ""


def _remove_others(folder: Path, part: str) -> None:
    for old in folder.glob(_siblings(part)):
        if old.name != part:
            old.unlink(missing_ok=True)


def _check_free(haul: Haul, size_bytes: int, free_bytes: int | None) -> None:
    """:raises TransferError: the file system says that it has not got the room."""
    if free_bytes is not None and free_bytes < size_bytes:
        raise TransferError(f"no space: the file has {size_bytes} bytes, and {free_bytes} are free")
