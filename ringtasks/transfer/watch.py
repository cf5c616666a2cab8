"""Detect files that are written to while they are sent."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from operator import attrgetter
from pathlib import Path

from .rsync_output import Change

__all__ = ["Watch", "here"]

_status_ns = attrgetter("st_ctime_ns")


class Watch:
    """Finds files that have changed between its creation and the end of their reading.

    Each is checked while the next ones are being sent: rsync leaves processors idle, and 20,000
    checks after its end cost as much as a twentieth of its work.
    """

    def __init__(self, source: Path | Sequence[Path]) -> None:
        self._source = source
        self._since_ns = time.time_ns()
        self._under_way: list[str] = []
        """The file that was begun last."""
        self._seen: set[str] = set()
        self._changed: dict[str, None] = {}

    def begun(self, changes: Iterable[Change]) -> None:
        """Note that rsync, which reads one file after the other, has begun with these."""
        begun = [*self._under_way, *[change.name for change in changes if change.kind == "sent"]]
        self._under_way = begun[-1:]
        self._look(begun[:-1])

    def changed(self, names: Iterable[str]) -> list[str]:
        """Return the files that have changed, once all of these were sent."""
        self._look(self._under_way)
        self._look([name for name in names if name not in self._seen])
        return list(self._changed)

    def _look(self, names: Sequence[str]) -> None:
        self._seen.update(names)
        if isinstance(self._source, Path):
            folder = f"{self._source}/"
            paths = [folder + name for name in names]
        else:
            paths = [here(self._source, name) for name in names]
        with contextlib.suppress(OSError, ValueError):  # no Python code for each of 20,000 files
            if max(map(_status_ns, map(os.stat, paths)), default=0) < self._since_ns:
                return
        for name, path in zip(names, paths, strict=True):
            if self._has_changed(path):
                self._changed[name] = None

    def _has_changed(self, path: str) -> bool:
        try:
            # Each write sets the time of the status; that of the content may be in the future.
            return os.stat(path).st_ctime_ns >= self._since_ns  # noqa: PTH116  # a path as text
        except (OSError, ValueError):  # it is gone; a host's answer named a NUL
            return True


def here(source: Path | Sequence[Path], name: str) -> str:
    """Return the local path of a name that rsync printed.

    :param source: a folder, or several files and folders that the name begins with.
    """
    if isinstance(source, Path):
        return f"{source}/{name}"
    first = name.partition("/")[0]
    for item in source:
        if item.name == first:
            return f"{item.parent}/{name}"
    return name
