"""A copy of a folder that rsync ended for want of disk space: the side, the file, and the sizes."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ringtasks.common.disk_space import no_space

from .host_transfer import HostCopy, HostTransferError
from .watch import here

__all__ = ["told_here", "told_on_host"]

_FULL = re.compile(r'"([^"]*)"[^"]*: (?:No space left on device|Disk quota exceeded)')
#: rsync's name for a file that it has not finished.
_UNFINISHED = re.compile(r"(.*/)?\.([^/]+)\.[A-Za-z0-9]{6}\Z", re.DOTALL)


@contextlib.contextmanager
def told_on_host(host_copy: HostCopy, source: Path | Sequence[Path], target: str) -> Iterator[None]:
    """Translate the error of a full disk of the host; ``source`` is copied to ``target``.

    :raises HostTransferError: any error of the copy.
    """

    def needed(place: str) -> int | None:
        parts = place.strip("/").split("/")
        names = ("/".join(parts[n:]) for n in range(len(parts)))
        paths = (Path(here(source, name)) for name in names)
        found = next((path for path in paths if path.is_file()), None)
        return found.stat().st_size if found else None

    def free() -> int | None:
        return host_copy.path_probe(target=target).free_bytes

    with _told("on the host", needed, free):
        yield


@contextlib.contextmanager
def told_here(host_copy: HostCopy, place_of: Callable[[str], str], target: Path) -> Iterator[None]:
    """Translate the error of a full local disk.

    :param place_of: returns the path on the host of a name in ``target``.
    :raises HostTransferError: any error of the copy.
    """

    def needed(place: str) -> int | None:
        name = os.path.relpath(place, target)
        found = host_copy.path_probe(sources=place_of(name)).found
        return found[0].size_bytes if len(found) == 1 else None

    def free() -> int:
        import shutil  # takes long, and few disks are full

        return shutil.disk_usage(target).free

    with _told("here", needed, free):
        yield


@contextlib.contextmanager
def _told(
    side: str, needed: Callable[[str], int | None], free: Callable[[], int | None]
) -> Iterator[None]:
    try:
        yield
    except HostTransferError as error:
        found = _FULL.search(error.what)
        if found is None:
            raise
        from .staging import staged_name

        place = staged_name(_UNFINISHED.sub(r"\1\2", found[1]))
        evidence = no_space(None, None)
        with contextlib.suppress(HostTransferError, OSError):
            evidence = no_space(needed(place), free())
        raise HostTransferError(f"{place} ({side}): {evidence}") from error
