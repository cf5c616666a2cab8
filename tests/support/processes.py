"""The files that /proc has for each process."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def proc_files(name: str) -> list[Path]:
    """``/proc/PID/name`` of each process, which may have ended before the file is read.

    `Path.glob` cannot be used: it fails with ESRCH on a process that ends under it.
    """
    return [folder / name for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def of_home(home: Path, *names: str) -> list[int]:
    """Return the processes with that home, without those of sshd; or those with such a name."""
    found = []
    for file in proc_files("environ"):
        with contextlib.suppress(OSError):
            name = file.with_name("comm").read_text().strip()
            is_meant = name in names if names else not name.startswith("sshd")
            if is_meant and b"HOME=%s\0" % os.fsencode(home) in file.read_bytes():
                found.append(int(file.parent.name))
    return found
