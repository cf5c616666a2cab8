"""The thread that reads the signals of a task owns its pipe, whatever tasks come next."""

from __future__ import annotations

import subprocess
import sys

MANY_TASKS = """
import os, sys, threading
sys.argv[0] = "inv"
from ringtasks.common import interruption

failed = []
threading.excepthook = failed.append
interruption.begin()
before = len(os.listdir("/proc/self/fd"))
for _ in range(300):
    with interruption.guarded():
        pass
    os.close(os.open(os.devnull, os.O_RDONLY))  # EBADF, if a thread closed another's descriptor
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(10)
print(len(failed), len(os.listdir("/proc/self/fd")) - before, threading.active_count())
"""


def test_many_tasks_in_a_row_leave_no_descriptor_and_close_no_others() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY_TASKS], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "0 0 1\n", "")
