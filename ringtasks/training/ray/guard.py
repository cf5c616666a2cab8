"""A token is sent to a port only if a process of the cluster listens on it.

Once a cluster's process has ended, another program may take its port, and would receive the token.
Linux shows which process has a listening socket (proc_pid_fd(5), proc_net(5)); other systems are
not checked.
"""

from __future__ import annotations

from ringtasks.remote.script import RUN_ID_VARIABLE, quote

__all__ = ["SILENT", "STRANGER", "guarded"]

#: The exit statuses if another program listens there, and if none does; from sysexits.h.
STRANGER, SILENT = 69, 75

# A process is the job's if it has the job's mark, or descends from one that has it: a program that
# changes its name may have overwritten its environment.
_PROGRAM = """\
import glob, os, sys
port, mark = int(sys.argv[1]), sys.argv[2].encode()
def refuse(status, why):
    print("the token was not sent:", why, file=sys.stderr)
    sys.exit(status)
def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
def listeners():
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for cells in map(str.split, read(table).decode().splitlines()[1:]):
            if cells[3] == "0A" and int(cells[1].rpartition(":")[2], 16) == port:
                yield "socket:[%s]" % cells[9]
def holder(inode):
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(link) == inode:
                return link.split("/")[2]
        except OSError:
            pass
    return ""
def is_own(pid):
    while pid not in ("0", "1", ""):
        if mark in read("/proc/%s/environ" % pid).split(b"\\0"):
            return True
        fields = read("/proc/%s/stat" % pid).rpartition(b")")[2].split()
        pid = fields[1].decode() if len(fields) > 1 else ""
    return False
if os.path.exists("/proc/net/tcp"):
    inodes = set(listeners())
    if not inodes:
        refuse({silent}, "no process listens on port %d" % port)
    for pid in map(holder, inodes):
        if not is_own(pid):
            name = read("/proc/%s/comm" % pid).decode("utf-8", "replace").strip()
            refuse({stranger}, "port %d is that of process %s %s" % (port, pid or "?", name))
"""


def guarded(command: str, port: int, job_id: str) -> str:
    """Return ``command``, run only if ``port`` is that of a process of the job; for a shell.

    Else the exit status is `STRANGER` or `SILENT`, and the reason is on stderr.
    """
    program = _PROGRAM.replace("{stranger}", str(STRANGER)).replace("{silent}", str(SILENT))
    mark = quote(f"{RUN_ID_VARIABLE}={job_id}")
    return f"python3 -c {quote(program)} {port} {mark} || exit\n{command}"
