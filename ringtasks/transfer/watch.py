"""Detect files that are written to while they are sent."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from .rsync_output import Change

__all__ = ["Watch", "here"]


class Watch:
    """Finds files that have changed between its creation and the end of their reading.

    Each is checked while the next ones are being sent: rsync leaves processors idle, and 20,000
    checks after its end cost as much as a twentieth of its work.
    """

    def __init__(self, source: Path | Sequence[Path]) -> None:
        self._path: Callable[[str], str] = functools.partial(here, source)
        if isinstance(source, Path):
            self._path = f"{source}/".__add__  # no Python code for each of 20,000 files
        self._since_ns = time.time_ns()
        self._under_way: str | None = None
        self._seen: set[str] = set()
        self._changed: dict[str, None] = {}

    def begun(self, change: Change) -> None:
        """Note that rsync, which reads one file after the other, has begun with this one."""
        if change.kind == "sent":
            if self._under_way is not None:
                self._look(self._under_way)
            self._under_way = change.name

    def changed(self, names: Iterable[str]) -> list[str]:
        """Return the files that have changed, once all of these were sent."""
        if self._under_way is not None:
            self._look(self._under_way)
        for name in [name for name in names if name not in self._seen]:
            self._look(name)
        return list(self._changed)

    def _look(self, name: str) -> None:
        self._seen.add(name)
        try:
            status = os.stat(self._path(name))  # noqa: PTH116  # 20,000 times
        except (OSError, ValueError):  # it is gone; or a name of the host's holds a NUL
            self._changed[name] = None
            return
        # Each write sets the time of the status; that of the content may be in the future.
        if status.st_ctime_ns >= self._since_ns:
            self._changed[name] = None


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
