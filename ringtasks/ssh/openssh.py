"""The check that OpenSSH's client can be used on this machine."""

from __future__ import annotations

import shutil

from ringtasks.common.local_user import has_passwd_entry

__all__ = ["is_usable"]


def is_usable() -> bool:
    """Return True if there is an ``ssh`` that runs for this user id."""
    return shutil.which("ssh") is not None and has_passwd_entry()
