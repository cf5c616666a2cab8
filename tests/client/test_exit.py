"""The exit of a program whose other threads are still connecting."""

from __future__ import annotations

import subprocess
import sys

from tests.support.faulty import Silent

_EXITS_WITHIN_AN_IMPORT = """
import sys, threading, time
from ringtasks import SSHClient, SSHConfig

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "_cffi_backend":  # imported by the Rust code of cryptography
            is_within.set()
            for _ in range(300):
                time.sleep(0.001)

is_within = threading.Event()
sys.meta_path.insert(0, Slow())
client = SSHClient(SSHConfig(sys.argv[1], int(sys.argv[2]), use_control_master=False))
threading.Thread(target=client.run, args=("true",), daemon=True).start()
assert is_within.wait(60)
sys.exit(7)
"""


def test_program_that_exits_while_a_thread_imports_keeps_its_exit_status() -> None:
    with Silent() as server:
        program = [sys.executable, "-c", _EXITS_WITHIN_AN_IMPORT, server.address, str(server.port)]
        done = subprocess.run(program, capture_output=True, check=False, timeout=60)

    assert (done.returncode, done.stderr) == (7, b"")
