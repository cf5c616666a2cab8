"""The files that /proc has for each process."""

from __future__ import annotations

from pathlib import Path


def proc_files(name: str) -> list[Path]:
    """``/proc/PID/name`` of each process, which may have ended before the file is read.

    `Path.glob` cannot be used: it fails with ESRCH on a process that ends under it.
    """
    return [folder / name for folder in Path("/proc").iterdir() if folder.name.isdigit()]
