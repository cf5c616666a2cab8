"""This machine's user, also in a container whose user id has no passwd entry.

Python, Fabric and Paramiko look for a home and a name, and fail without.  They find stand-ins in
the environment: a private folder, and a name that no host is sent (`has_name`).
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False  # every program loads this module, and pathlib takes a while
if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["complete_environment", "expanded_home", "has_name", "has_passwd_entry"]

_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")  # in the order of getpass.getuser
_NO_NAME = "no-name"


def complete_environment() -> None:
    """Set HOME and LOGNAME if neither the environment nor the passwd database has them.

    Container programs set HOME to ``/`` then, where no state can be kept: that goes elsewhere.
    Service managers set it to ``/dev/null``, which no file can be in.
    """
    has_user = any(os.environ.get(name) for name in _NAMES)
    home = os.environ.get("HOME", "")
    if home and os.path.exists(home) and not os.path.isdir(home):  # noqa: PTH110, PTH112  # no Path
        home = os.environ["HOME"] = _private_folder()
    if (has_user and home not in ("", "/")) or has_passwd_entry():
        return
    if not home:
        os.environ["HOME"] = _private_folder()
    elif not os.access(home, os.W_OK):
        os.environ.setdefault("XDG_STATE_HOME", _private_folder())
    if not has_user:
        os.environ["LOGNAME"] = _NO_NAME


def has_name() -> bool:
    """Return False if the user of this process has a stand-in for a name."""
    return os.environ.get("LOGNAME") != _NO_NAME


def has_passwd_entry() -> bool:
    """Return True if the passwd database knows this user id; without, no ssh runs."""
    import pwd

    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True


def _private_folder() -> str:
    import contextlib
    import tempfile

    path = f"{tempfile.gettempdir()}/ringtasks-home-{os.getuid()}"
    with contextlib.suppress(OSError):
        os.mkdir(path, 0o700)  # noqa: PTH102  # no Path: imported by every program
    try:
        status = os.lstat(path)
    except OSError:
        return "/"
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return path if is_own and not status.st_mode & 0o077 else "/"


def expanded_home(path: str | os.PathLike[str]) -> Path:
    """Return the path with ``~`` or ``~user`` expanded; as it is, if there is no such user."""
    from pathlib import Path

    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
