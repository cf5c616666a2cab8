"""The folder of the control sockets: it belongs to the user alone.

A process that can connect to a control socket can run commands on the host, so the folder's owner
and mode are checked each time.  A socket's path is short: macOS takes 104 bytes (unix(4)), and ssh
first binds to a name that is 17 bytes longer (``mux.c``, ``muxserver_listen``).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from ringtasks.errors import StateFileError
from ringtasks.inventory.state_files import state_folder

__all__ = ["NAME_BYTES", "check_sockets", "control_folder"]

#: ``<name of the connection>.<number of the start>``, see `master`.
NAME_BYTES = 20 + 1 + 6
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_SUN_PATH_BYTES = 104  # with the NUL; Linux has 108
_TEMPORARY_SUFFIX_BYTES = 17
_LONGEST_FOLDER = _SUN_PATH_BYTES - 1 - _TEMPORARY_SUFFIX_BYTES - NAME_BYTES - 1


def control_folder() -> Path:
    """Return the folder; create it if it is missing.

    It is ``$XDG_RUNTIME_DIR/ringtasks``, else ``ctl`` in the state folder, else (if these are too
    long for a socket's path) ``/tmp/ringtasks-UID``.

    :raises StateFileError: it belongs to another user, or other users have access to it.
    """
    names = _candidates(os.environ)
    return _checked(Path(next(n for n in names if len(os.fsencode(n)) <= _LONGEST_FOLDER)))


def check_sockets(folder: Path) -> None:
    """Check that the folder can hold sockets: some network and overlay file systems cannot.

    ssh binds a socket, links it to its name, and its clients connect there (``mux.c``).

    :raises StateFileError: it cannot.
    :raises OSError: it is full or read-only.
    """
    draft = folder / f"check.{os.getpid()}.{threading.get_ident() % 10**6}"
    name = Path(f"{draft}.l")
    try:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            listener.bind(str(draft))
            listener.listen(1)
            name.hardlink_to(draft)
            client.connect(str(name))
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise StateFileError(str(folder), f"cannot hold sockets: {error.strerror}") from error
    finally:
        for path in (draft, name):
            with contextlib.suppress(OSError):
                path.unlink()


def _candidates(environ: Mapping[str, str]) -> Iterator[str]:
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    # XDG Base Directory Specification: absolute, and owned by the user.
    if runtime.startswith("/") and _is_own_folder(runtime):
        yield f"{runtime}/ringtasks"
    yield f"{state_folder()}/ctl"
    yield f"/tmp/ringtasks-{os.getuid()}"  # noqa: S108  # checked below, as any of them


def _is_own_folder(path: str) -> bool:
    try:
        status = os.stat(path)  # noqa: PTH116  # one call for both questions
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def _checked(folder: Path) -> Path:
    try:
        status = folder.lstat()
    except FileNotFoundError:
        status = _made(folder)
    except OSError as error:
        raise StateFileError(str(folder), f"cannot be used: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise StateFileError(str(folder), "is not a folder: remove it")
    if status.st_uid != os.getuid():
        raise StateFileError(str(folder), f"belongs to user {status.st_uid}: remove it")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise StateFileError(str(folder), f"others can get in (mode {mode:04o}): chmod 700 it")
    return folder


def _made(folder: Path) -> os.stat_result:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(mode=0o700, exist_ok=True)  # lstat shows a symbolic link in its place
        return folder.lstat()
    except OSError as error:
        raise StateFileError(str(folder), f"cannot be made: {error.strerror}") from error
