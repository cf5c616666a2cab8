"""Run a command as the leader of a cluster's job, and end all its descendants after it.

Ray leaves processes behind if one of its own is killed, and they have no mark by which a stop would
find them, since they change their names.  So this program stays their ancestor (prctl(2),
PR_SET_CHILD_SUBREAPER), and ends the rest when the command has ended.  TERM is for the command,
which also receives it.  This file goes to the host alone: it needs only Python 3.8.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

GRACE = 5.0  # seconds between TERM and KILL
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  # the words are run as given, without a shell
        except OSError as error:
            print(f"{sys.argv[1]}: {error}", file=sys.stderr)
            os._exit(127)
    ended, status = 0, 0
    while ended != child:
        ended, status = os.wait()
    end_the_rest()
    if os.WIFSIGNALED(status):
        with contextlib.suppress(OSError):  # KILL has no handler to be set
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    sys.exit(os.WEXITSTATUS(status))


def end_the_rest() -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE
        told: set[int] = set()
        while time.monotonic() < deadline:
            rest = descendants()
            if not rest:
                return
            for pid in rest - told:
                told.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.05)  # most end at once; each look reads all of /proc


def descendants() -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in processes():
        children.setdefault(parent, []).append(pid)
    found, todo = set(), [os.getpid()]
    while todo:
        for pid in children.get(todo.pop(), ()):
            found.add(pid)
            todo.append(pid)
    return found


def processes() -> Iterator[tuple[int, int]]:
    """Yield each process and its parent; without those that only wait to be reaped."""
    if not Path("/proc/self/stat").exists():
        with subprocess.Popen(["ps", "-A", "-o", "pid=,ppid="], stdout=subprocess.PIPE) as asked:
            for line in asked.communicate()[0].decode().splitlines():
                pid, parent = map(int, line.split())
                if pid != asked.pid:
                    yield pid, parent
        return
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            if fields[0] not in (b"Z", b"X"):
                yield int(folder.name), int(fields[1])


if __name__ == "__main__":
    main()
