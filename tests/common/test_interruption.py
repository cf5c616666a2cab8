"""Signals in a program of its own: the thread that reads them, and the one that must see them."""

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


SIGNAL_OF_ANOTHER_THREAD = """
import os, select, signal, sys, threading
sys.argv[0] = "inv"
from ringtasks.common import interruption

def is_waiting():
    with open(f"/proc/self/task/{threading.main_thread().native_id}/syscall") as file:
        return file.read(1).isdigit()  # the number of a system call, not "running"

def take():
    while not is_waiting():
        pass
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

interruption.begin()
with interruption.guarded():
    threading.Thread(target=take).start()
    poll = select.poll()
    poll.register(os.pipe()[0], select.POLLIN)
    try:
        poll.poll()
    except KeyboardInterrupt:
        print("seen")
"""


def test_signal_that_another_thread_gets_ends_the_wait_of_the_main_thread() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNAL_OF_ANOTHER_THREAD],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("seen\n", "ringtasks: interrupted\n")
