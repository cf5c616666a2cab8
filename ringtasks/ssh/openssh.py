"""OpenSSH's client on this machine: where it is, and whether it can be used."""

from __future__ import annotations

import os

from ringtasks.common.local_user import has_passwd_entry

__all__ = ["is_usable", "program"]


def is_usable() -> bool:
    """Return True if there is an ``ssh`` that runs for this user id."""
    return program() is not None and has_passwd_entry()


def program() -> str | None:
    """Return the first ``ssh`` of PATH; every run asks, so it is done without loading shutil."""
    paths = (os.path.join(folder, "ssh") for folder in os.get_exec_path())  # noqa: PTH118
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)  # noqa: PTH113
