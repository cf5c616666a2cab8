"""Advice if the host's shell could not use a host's folder or its virtual environment.

The shell reports such a failure in its own words, before the command has begun.  They name neither
the host nor the setting.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ringtasks.common.text import printable

if TYPE_CHECKING:
    from ringtasks.inventory.host_settings import SSHConfig

    from .result import SSHResult

__all__ = ["setting_advice"]

#: ``sh: 1: cd: can't cd to X``, ``bash: line 1: cd: X: No such …``, ``zsh:cd:1: no such …: X``
_CD = re.compile(r"\S*sh:.*\bcd: .*|\S*sh:cd:.*")
#: ``sh: 1: .: cannot open X: No such file``, ``bash: line 1: X: No such file or directory``
_SOURCE = re.compile(r"\S*sh:.*(\.: |line \d+: |cannot open ).*|\S*sh:\.:.*")


def setting_advice(config: SSHConfig, cwd: str | None, result: SSHResult) -> str | None:
    """Return the setting that the shell could not use, and the next step; None: not seen.

    :param cwd: the folder that the caller asked for; None: the host's ``work_dir``.
    """
    said = result.stderr.strip()
    if result.returncode not in (1, 2, 127) or "\n" in said or result.stdout_bytes:
        return None
    folder = config.work_dir if cwd is None else cwd
    if folder and _CD.fullmatch(said) and _names(said, folder):
        if folder != config.work_dir:
            return f"the folder {printable(folder)} (--cwd) cannot be used on the host"
        return (
            f"work_dir {printable(folder)} cannot be used on the host: make the folder there, or "
            "change work_dir in the hosts file; a command with --cwd / runs without it"
        )
    venv = config.venv_activate
    file = venv.split()[-1] if venv and venv.split() else ""
    if file and _SOURCE.fullmatch(said) and _names(said, file):
        return (
            f"venv_activate {printable(venv or '')} cannot be used on the host: make the virtual "
            "environment there, or change venv_activate in the hosts file"
        )
    return None


def _names(said: str, path: str) -> bool:
    """Return whether the shell's words name the path; it replaces ``~``."""
    named = path.removeprefix("~").removeprefix("./").rstrip("/")
    return bool(named) and named in said
