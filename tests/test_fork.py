"""A forked child neither hangs nor keeps what is its parent's.

Each test forks in a program of its own, since this process has threads.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ringtasks import SSHConfig
from ringtasks.common import file_lock

#: Runs a function in a forked child with a time limit; returns what it returned, as text.
IN_CHILD = """
import fcntl, os, signal, sys, threading, time
def in_child(work):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            os.write(writer, str(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        return answer.read() or "hung"
"""


def run(program: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", IN_CHILD + textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout


def test_child_forked_during_a_health_update_can_read_and_record_health(tmp_path: Path) -> None:
    program = """
        from pathlib import Path
        from ringtasks.health.model import HostOutcome
        from ringtasks.health.store import HealthStore, _queues
        path = Path(sys.argv[1])
        store = HealthStore(path, lock_timeout=30)
        store.record([HostOutcome("gpu", True)])
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        recording = threading.Thread(target=store.record, args=([HostOutcome("gpu", True)],))
        recording.start()
        while not any(queue.writing.locked() for queue in _queues.values()):
            time.sleep(0.01)
        def look():
            known = store.get("gpu").total_successes
            fcntl.flock(lock, fcntl.LOCK_UN)
            store.record([HostOutcome("gpu", False)])
            return known
        print(in_child(look))
        recording.join()
        print(store.get("gpu").total_successes, store.get("gpu").total_failures)
    """

    assert run(program, tmp_path / "health.json") == "1\n2 1\n"


def test_forked_child_does_not_hold_the_lock_of_its_killed_parent(tmp_path: Path) -> None:
    program = """
        from pathlib import Path
        from ringtasks.common import file_lock
        with file_lock.locked(Path(sys.argv[1]), 1):
            if not os.fork():
                os.closerange(0, 3)
                time.sleep(30)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    lock = tmp_path / "lock"
    subprocess.run(
        [sys.executable, "-c", IN_CHILD + textwrap.dedent(program), lock], check=False, timeout=30
    )

    with file_lock.locked(lock, timeout=5) as is_mine:
        assert is_mine


def test_forked_child_does_not_keep_the_pipes_of_a_program_that_is_being_started() -> None:
    program = """
        import subprocess
        from ringtasks.common.fork import wait_for_threads
        wait_for_threads()
        begun = threading.Event()
        class Slow(subprocess.Popen):
            def _execute_child(self, *arguments):
                begun.set()
                time.sleep(0.2)
                super()._execute_child(*arguments)
        names = {"__name__": "ringtasks.any", "Slow": Slow}
        exec("def start(): Slow(['true'], stderr=-1).communicate()", names)
        starting = threading.Thread(target=names["start"])
        starting.start()
        begun.wait()
        child = os.fork()
        if not child:
            time.sleep(30)
            os._exit(0)
        starting.join(10)
        print(starting.is_alive())
        os.kill(child, signal.SIGKILL)
    """

    assert run(program) == "False\n"


CLIENT = """
from ringtasks import SSHClient, SSHConfig
host, port, user, key, is_master = sys.argv[1:6]
config = SSHConfig(host, int(port), user, key, use_control_master=is_master == "True")
client = SSHClient(config)
"""


def arguments(config: SSHConfig, use_control_master: bool) -> list[object]:
    return [config.host, config.port, config.user, config.key_path, use_control_master]


def test_forked_child_opens_its_own_connection_and_the_parent_keeps_its_own(
    config: SSHConfig, use_control_master: bool
) -> None:
    program = """
        client.run("true")
        print(in_child(lambda: client.run("echo child").stdout), end="")
        print(client.run("echo parent").stdout, end="")
    """

    assert run(CLIENT + textwrap.dedent(program), *arguments(config, use_control_master)) == (
        "child\nparent\n"
    )


@pytest.mark.parametrize("module", ["paramiko", "paramiko.message", "invoke"])
@pytest.mark.matrix(1)
def test_child_forked_while_a_thread_imports_modules_and_connects_does_not_wait_for_it(
    config: SSHConfig, module: str
) -> None:
    program = """
        opening = threading.Thread(target=client.run, args=("true",))
        opening.start()
        while sys.argv[6] not in sys.modules:
            time.sleep(0)
        print(in_child(lambda: client.run("echo child").stdout), end="")
        opening.join()
    """

    found = run(CLIENT + textwrap.dedent(program), *arguments(config, False), module)

    assert found == "child\n"


def test_forked_child_does_not_delay_the_end_of_a_commands_input(
    config: SSHConfig, tmp_path: Path
) -> None:
    program = """
        import io
        class Input(io.RawIOBase):
            def __init__(self): self.sent = False
            def readable(self): return True
            def readinto(self, buffer):
                if self.sent:
                    if not os.fork():
                        os.closerange(0, 3)
                        time.sleep(30)
                        os._exit(0)
                    return 0
                self.sent = True
                buffer[:2] = b"hi"
                return 2
        began = time.monotonic()
        print(client.run("cat", stdin=Input(), timeout=20).stdout)
        assert time.monotonic() - began < 15
    """

    assert run(CLIENT + textwrap.dedent(program), *arguments(config, True)) == "hi\n"


def test_an_asynchronous_call_works_in_a_child(config: SSHConfig) -> None:
    program = """
        import asyncio
        asyncio.run(client.run_async("true"))
        print(in_child(lambda: asyncio.run(client.run_async("echo child")).stdout), end="")
    """

    assert run(CLIENT + textwrap.dedent(program), *arguments(config, True)) == "child\n"
