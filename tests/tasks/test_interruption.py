"""Ctrl-C, TERM and HUP while a host does not answer: one line, the right status, at once."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from ringtasks.common import interruption
from ringtasks.tasks import namespace
from tests.support.fixtures import Inv, MakeSshd, WriteHosts
from tests.support.inv_program import PROGRAMS, Forked, InvProgram
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

Process = Forked | subprocess.Popen[bytes]
Start = Callable[..., Process]

#: Seconds in which a task must have ended; the machine of the tests may be busy.
LIMIT = 2.5

#: Tasks that ask a host something, and a part of what they say when they are interrupted.
QUESTIONS = {
    "jobs": "interrupted",
    "status": "interrupted",
    "wait j": "interrupted",
    "logs j": "interrupted",
    "stop j": "interrupted",
    "put tasks.py x --host box": "interrupted; rerun to resume",
    "get x . --host box": "interrupted; rerun to resume",
    "sync folder x --host box": "interrupted; rerun to resume",
    "deploy": "interrupted",
    "train": "interrupted: no run was started",
}
#: The others that ask a host.
MORE_QUESTIONS = dict.fromkeys(
    (
        "check --host box", "deploy.status", "deploy.check", "deploy.releases", "deploy.rollback",
        "deploy.unlock --reason x", "deploy --diff", "deploy --dry-run", "jobs.prune --host box",
        "plot j", "status --watch", "jobs --watch", "logs j -f", "ray.status --host box",
        "ray.down --host box", "ray.submit --host box --cmd true",
    ),
    "interrupted",
)  # fmt: skip
MORE_QUESTIONS["sync folder x --pull --host box"] = QUESTIONS["sync folder x --host box"]
#: Tasks with tests of their own, those that ask no host, and those that announce a longer end.
OTHERS = {
    "completion", "connections", "disconnect", "doctor", "forward", "health.reset", "health.show",
    "hosts", "init", "ray.stop", "ray.up", "run", "shell", "ssh-config", "start", "why",
}  # fmt: skip
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def host(make_sshd: MakeSshd, write_hosts: WriteHosts, inv: Inv, tmp_path: Path) -> Sshd:
    """A host whose control master runs."""
    server = make_sshd()
    write_hosts(box={"ssh_port": server.port, "use_control_master": True})
    (tmp_path / "folder").mkdir()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    git = ["git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x@example.com"]
    subprocess.run([*git, "commit", "-qm", "x", "--allow-empty"], check=True)
    deploy = f"{{hosts: box, path: {tmp_path}/srv, check: 'true'}}"
    train = "{command: 'true', hosts: box}"
    (tmp_path / "invoke.yaml").write_text(f"deploy: {deploy}\ntrain: {train}\n")
    assert inv("run", "--host", "box", "--cmd", "true").returncode == 0
    return server


@pytest.fixture
def start(inv: Inv, inv_program: InvProgram, tmp_path: Path) -> Iterator[Start]:
    running: list[Process] = []

    def run(*arguments: str) -> Process:
        process = inv_program.start(
            ["inv", *arguments], cwd=tmp_path,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


def batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(items)
    while some := list(itertools.islice(rest, size)):
        yield some


def is_asking(process: Process) -> bool:
    """Whether it has a socket: to the control master, which has been asked for a session."""
    assert process.poll() is None, process.communicate()
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith("socket:"):
                return True
    return False


def test_every_task_has_a_place_in_these_tests() -> None:
    found = {task.split()[0] for task in (*QUESTIONS, *MORE_QUESTIONS)} | OTHERS

    short = {"deploy.run": "deploy", "jobs.show": "jobs"}
    assert {name for name in namespace.task_names if short.get(name, name) not in found} == set()


@pytest.mark.parametrize(
    "questions",
    [QUESTIONS, pytest.param(MORE_QUESTIONS, marks=pytest.mark.long)],
    ids=["usual", "others"],
)
def test_signal_ends_each_task_while_its_host_does_not_respond(
    host: Sshd, start: Start, questions: dict[str, str]
) -> None:
    host.freeze()
    signals = dict(zip(questions, itertools.cycle(SIGNALS), strict=False))
    for some in batches(questions, 4):
        asking = {task: start(*task.split()) for task in some}
        for process in asking.values():
            eventually(lambda: is_asking(process))  # noqa: B023  # called at once
        began = time.monotonic()
        for task, process in asking.items():
            process.send_signal(signals[task])
        for task, process in asking.items():
            _, said = process.communicate(timeout=30)
            took = time.monotonic() - began

            line = f"ringtasks: {questions[task]}\n"
            assert line in said.decode(), (task, process.returncode)
            assert said.decode() == line or task in ("deploy", "train")  # they say more
            assert process.returncode == 128 + signals[task], task
            assert took < LIMIT, task


def test_start_interrupted_before_its_script_was_sent_has_started_nothing(
    host: Sshd, start: Start
) -> None:
    host.freeze()
    process = start("start", "--host", "box", "--cmd", "sleep 60")
    eventually(lambda: is_waiting(process))
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=LIMIT)
    host.thaw()

    assert "not started: interrupted; the command had not been started" in said.decode()
    assert process.returncode == 143


def test_interrupted_start_reports_the_state_of_the_job(host: Sshd, start: Start) -> None:
    log = host.home / "log"
    os.mkfifo(log)  # the job waits for a reader before it says that it has started
    process = start("start", "--host", "box", "--cmd", "true", "--log-file", "~/log")
    eventually(lambda: list(host.home.glob(".ringtasks/jobs/.*/monitor")))
    host.freeze()
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    first = process.stderr.readline()
    time.sleep(interruption.REPEAT_TIME)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=LIMIT)
    host.thaw()
    os.close(os.open(log, os.O_RDONLY | os.O_NONBLOCK))

    assert b"ending the job on box" in first
    assert b"whether the job was started is unknown: 'inv jobs --host box' shows it" in said
    assert process.returncode == 143


def test_second_ctrl_c_exits_at_once_and_reports_what_may_still_run(
    host: Sshd, start: Start
) -> None:
    process = start("run", "--host", "box", "--cmd", "echo begun; sleep 60")
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    host.freeze()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)  # of the same moment; two equal ones may arrive as one
    assert process.stderr is not None
    first = process.stderr.readline().decode()
    time.sleep(interruption.REPEAT_TIME)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, said = process.communicate(timeout=30)

    assert first.endswith("ending the remote processes; Ctrl-C again exits at once\n")
    assert said.endswith(b"exited at once: the remote processes may still be running\n")
    assert process.returncode in (130, 143)  # two signals of the same moment come in either order
    assert time.monotonic() - began < 5  # the wait for the remote processes takes longer


def is_waiting(process: Process) -> bool:
    """Whether it has a socket, and all its threads sleep; one that waits for a processor does not.

    Their numbers of switches tell that none was awake meanwhile.
    """

    def switches() -> list[str]:
        threads = [file.read_text() for file in Path(f"/proc/{process.pid}/task").glob("*/status")]
        assert threads
        if not all("\nState:\tS" in thread for thread in threads):
            return []
        return [line for text in threads for line in text.splitlines() if "ctxt_switches" in line]

    before = switches()
    time.sleep(0.1)
    return is_asking(process) and before != [] and switches() == before


@pytest.mark.parametrize(
    "module",
    [
        "ringtasks.common.alarms",
        "ringtasks.tasks.lazy",
        "ringtasks.tasks.options",
        "ringtasks.tasks.core_flags",
        "ringtasks.inventory.loader",
        "ringtasks.client.ssh_client",
    ],
)
def test_ctrl_c_at_any_point_prints_one_line_and_no_traceback(
    start: Start, write_hosts: WriteHosts, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    write_hosts(box={"ssh_host": "192.0.2.1", "connect_timeout": 5})
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # tells of each import on stderr
    process = start("run", "--host", "box", "--cmd", "true")
    assert process.stderr is not None
    while module not in (line := process.stderr.readline().decode()):
        assert line, "it ended before"
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=30)

    said = [line for line in rest.decode().splitlines() if not line.startswith("import time:")]
    assert len(said) == 1, said
    assert "interrupted" in said[0]
    assert process.returncode == 130


@pytest.mark.parametrize("module", ["ringtasks.training.curves", "ringtasks.training.placement"])
def test_early_ctrl_c_in_train_says_that_no_run_was_started(
    start: Start, write_hosts: WriteHosts, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    write_hosts(box={"ssh_host": "192.0.2.1", "connect_timeout": 5})
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    process = start("train", "--host", "box", "--cmd", "true")
    assert process.stderr is not None
    while module not in (line := process.stderr.readline().decode()):
        assert line, "it ended before"
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=30)

    assert b"ringtasks: interrupted: no run was started\n" in rest
    assert process.returncode == 130


def test_ctrl_c_during_a_setup_tells_what_became_of_it(host: Sshd, start: Start) -> None:
    process = start("train", "--no-preflight", "--setup", "echo begun; sleep 60")
    assert process.stdout is not None
    while process.stdout.readline() != b"begun\n":
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    more, said = process.communicate(timeout=30)

    assert b"interrupted: no run was started\n" in said
    assert b"the remote processes were terminated (verified)" in more + said
    assert b"SSHResult" not in more + said
    assert process.returncode == 130


@pytest.mark.parametrize("is_kept", [True, False], ids=["control master", "in process"])
def test_killed_run_with_a_terminal_ends_its_command(
    make_sshd: MakeSshd, write_hosts: WriteHosts, start: Start, is_kept: bool
) -> None:
    """The host hangs up the terminal."""
    server = make_sshd()
    write_hosts(box={"ssh_port": server.port, "use_control_master": is_kept})
    process = start("run", "--host", "box", "--pty", "--cmd", "echo $$; exec sleep 60")
    assert process.stdout is not None
    pid = int(process.stdout.readline())

    process.kill()

    eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_ctrl_c_within_code_of_a_string_has_the_usual_status(start: Start, tmp_path: Path) -> None:
    """Dataclasses are made by such code while a module is imported."""
    (tmp_path / "tasks.py").write_text(
        "from ringtasks.tasks.options import task\n"
        "@task()\n"
        "def one(c):\n"
        "    exec('import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)')\n"
    )
    process = start("one")

    _, said = process.communicate(timeout=30)

    assert (process.returncode, said) == (130, b"ringtasks: interrupted\n")


def test_signal_ignored_at_start_stays_ignored(host: Sshd, tmp_path: Path) -> None:
    nohup = subprocess.Popen(
        ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", sys.executable, "-m", "invoke", "run",
         "--host", "box", "--cmd", f"touch {tmp_path}/began; sleep 1; echo done"],
        cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    eventually((tmp_path / "began").exists)
    nohup.send_signal(signal.SIGHUP)
    out, err = nohup.communicate(timeout=30)

    assert (nohup.returncode, out, err) == (0, b"done\n", b"")


_BEFORE_A_TASK = """
import os, sys
from invoke import Executor

def expand_calls(self, calls, *others):
    os.kill(os.getpid(), %d)
    return calls

Executor.expand_calls = expand_calls
sys.argv[0] = "ringtasks"
from ringtasks.common.console_script import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_between_the_command_line_and_the_task_prints_one_line(
    tmp_path: Path, number: int
) -> None:
    argv = [sys.executable, "-c", _BEFORE_A_TASK % number, "connections"]

    done = subprocess.run(argv, cwd=tmp_path, capture_output=True)

    assert done.stderr == b"ringtasks: interrupted\n"
    assert done.returncode == 128 + number


def test_ctrl_c_while_the_console_script_loads_prints_one_line(tmp_path: Path) -> None:
    argv = [*PROGRAMS["ringtasks"], "connections"]
    environ = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    with subprocess.Popen(argv, cwd=tmp_path, env=environ, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while b"console_script" not in (line := process.stderr.readline()):
            assert line, "it ended before"
        process.stderr.readline()  # the first module that the program loads
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().splitlines()

    assert [line for line in said if b"import time:" not in line] == [b"ringtasks: interrupted"]
    assert process.returncode == 130


def test_ctrl_c_within_a_callback_of_the_interpreter_prints_one_line(
    start: Start, tmp_path: Path
) -> None:
    """Such as that of a module's lock while a module is imported: Python ignores exceptions."""
    (tmp_path / "tasks.py").write_text(
        "import os, signal, time, weakref\n"
        "from ringtasks.tasks.options import task\n"
        "@task()\n"
        "def one(c):\n"
        "    thing = {1}\n"
        "    seen = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))\n"
        "    del thing\n"
        "    time.sleep(9)\n"
    )
    process = start("one")

    _, said = process.communicate(timeout=30)

    assert (process.returncode, said) == (130, b"ringtasks: interrupted\n")
