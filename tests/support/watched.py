"""A folder in which nothing may change but what is below a target."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

__all__ = ["Watched"]


class Watched:
    """A folder with things in it that are to stay as they are, and a target.

    :param free: names in the target that may change; None: all.
    """

    def __init__(self, top: Path, free: Collection[str] | None = None) -> None:
        self.top, self.target, self._free = top, top / "project" / "target", free
        self.target.mkdir(parents=True)
        for folder in (top, top / "project"):
            (folder / "tasks.py").write_text("mine")
            (folder / "tasks.py").chmod(0o600)
        (top / "outside").mkdir()
        (top / "outside" / "file").write_text("mine")
        self.look()

    def look(self) -> None:
        """Take the present state for the one that is to stay."""
        self._before = self._state()

    def _state(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for folder, names, files in os.walk(self.top):
            if Path(folder) == self.target:
                if self._free is None:
                    names.clear()
                    continue
                names[:] = [name for name in names if name not in self._free]
                files = [name for name in files if name not in self._free]
            for name in [*names, *files]:
                path = Path(folder, name)
                status = path.lstat()
                content = path.read_bytes() if path.is_file() else None
                if path in (self.target, self.target.parent):
                    continue
                found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_ino, content)
        return found

    def assert_untouched(self) -> None:
        assert self._state() == self._before
