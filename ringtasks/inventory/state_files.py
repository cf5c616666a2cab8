"""The paths of the state that runs share.  Imports little: a shell's completion needs it."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from ringtasks.common import one_look
from ringtasks.common.local_user import expanded_home

__all__ = ["health_file", "known_hosts_file", "state_folder"]


def state_folder() -> Path:
    """Return the state folder: ``$XDG_STATE_HOME/ringtasks``, else ``~/.local/state/ringtasks``."""
    return _state_folder(os.environ.get("XDG_STATE_HOME", ""), os.environ.get("HOME"))


@functools.lru_cache(maxsize=8)  # a run on many hosts asks for each of them
def _state_folder(base: str, _home: str | None) -> Path:
    # XDG Base Directory Specification: a relative path there must be ignored.
    root = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return root / "ringtasks"


@one_look.kept
def health_file() -> Path:
    """Return ``RINGTASKS_HEALTH_FILE``, else the path of ``health.json`` in the state folder."""
    given = os.environ.get("RINGTASKS_HEALTH_FILE")
    return expanded_home(given) if given else state_folder() / "health.json"


@one_look.kept
def known_hosts_file() -> Path:
    """Return the file of pinned host keys: OpenSSH's format, one name per host for all routes."""
    return state_folder() / "known_hosts"
