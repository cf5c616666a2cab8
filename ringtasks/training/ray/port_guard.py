"""Check that the processes that listen on a port of this host belong to a job.

The arguments are the port, and the setting that marks the job's processes in their environment.  A
process is the job's if it has the mark, or descends from one that has it: a program that changes
its name may have overwritten its environment.  This file goes to the hosts alone: it needs only
Python 3.8.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator
from pathlib import Path

#: The exit statuses if another program listens there, and if none does; from sysexits.h.
STRANGER, SILENT = 69, 75


def main() -> None:
    port, mark = int(sys.argv[1]), sys.argv[2].encode()
    if not Path("/proc/net/tcp").exists():  # not Linux
        return
    inodes = set(listeners(port))
    if not inodes:
        refuse(SILENT, f"no process listens on port {port}")
    for pid in map(holder, inodes):
        if not is_marked(pid, mark):
            name = read(f"/proc/{pid}/comm").decode("utf-8", "replace").strip()
            refuse(STRANGER, f"port {port} is that of process {pid or '?'} {name}")


def refuse(status: int, reason: str) -> None:
    print("the token was not sent:", reason, file=sys.stderr)
    sys.exit(status)


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def listeners(port: int) -> Iterator[str]:
    """Yield the sockets that listen on the port, as links in ``/proc/PID/fd`` name them."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for cells in map(str.split, read(table).decode().splitlines()[1:]):
            if cells[3] == "0A" and int(cells[1].rpartition(":")[2], 16) == port:
                yield f"socket:[{cells[9]}]"


def holder(inode: str) -> str:
    """Return the id of a process that has the socket; empty: none can be seen."""
    # Path.glob raises if a process ends meanwhile; Path.readlink is of Python 3.9.
    for link in glob.glob("/proc/[0-9]*/fd/*"):  # noqa: PTH207
        try:
            if os.readlink(link) == inode:  # noqa: PTH115
                return link.split("/")[2]
        except OSError:
            pass
    return ""


def is_marked(pid: str, mark: bytes) -> bool:
    """Return whether the process or one of its ancestors has the mark."""
    while pid not in ("0", "1", ""):
        if mark in read(f"/proc/{pid}/environ").split(b"\0"):
            return True
        fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        pid = fields[1].decode() if len(fields) > 1 else ""
    return False


if __name__ == "__main__":
    main()
