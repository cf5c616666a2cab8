"""The shells that ``/bin/sh`` is on hosts, and programs that run in them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

__all__ = ["SHELLS", "run_in"]

#: Debian; macOS, Red Hat; Alpine; macOS from 15 on.
SHELLS = ["dash", "bash --posix", "busybox ash", "zsh --emulate sh"]


def run_in(
    shell: str, program: str, home: Path, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run the text of a program in one of `SHELLS`, in ``home``."""
    return subprocess.run(
        [*shell.split(), "-c", program],
        cwd=home,
        env={**os.environ, "HOME": str(home)},
        input=stdin,
        capture_output=True,
        check=False,
        timeout=30,
    )
