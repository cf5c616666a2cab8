"""A folder in which nothing may change but what is below a target."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Watched"]


class Watched:
    """A folder with things in it that are to stay as they are, and a target."""

    def __init__(self, top: Path) -> None:
        self.top, self.target = top, top / "project" / "target"
        self.target.mkdir(parents=True)
        for folder in (top, top / "project"):
            (folder / "tasks.py").write_text("mine")
            (folder / "tasks.py").chmod(0o600)
        (top / "outside").mkdir()
        (top / "outside" / "file").write_text("mine")
        self._before = self._state()

    def _state(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for folder, names, files in os.walk(self.top):
            if Path(folder) == self.target:
                names.clear()
                continue
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
