"""A job is started once, is on its own from then on, and tells how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ringtasks import SSHClient, SSHConfig, SSHResult
from ringtasks.remote.launcher import JOBS_FOLDER, launch_script
from tests.support.faulty import Wire
from tests.support.fixtures import MakeSshd, Require, own_server
from tests.support.processes import proc_files
from tests.support.sshd import LOGIN_SHELLS, Sshd
from tests.support.waiting import eventually

T = TypeVar("T")

#: What ``/bin/sh`` is on the hosts: Debian, Red Hat, macOS (bash as sh), Alpine, macOS from 15 on.
SHELLS = ["dash", "bash", "bash --posix", "busybox ash", "zsh --emulate sh"]

#: The folders of jobs that were started; those that are being prepared have a dot in front.
FOUND = f"{JOBS_FOLDER}/[!.]*"
#: The unit in which a tmpfs(5) is full.
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

server = own_server


class Box:
    """A host with a home of its own, and the jobs that were started there."""

    def __init__(self, home: Path, client: SSHClient) -> None:
        self.home, self.client = home, client

    def start(self, command: str, **options: Any) -> SSHResult:
        return asyncio.run(self.client.run_background(command, **options))

    def pid(self, command: str, **options: Any) -> int:
        result = self.start(command, **options)
        assert (result.returncode, result.stderr) == (0, ""), result
        return int(result.stdout)

    def output(self, command: str, **options: Any) -> str:
        """Return the output of the job, once it has ended."""
        self.pid(command, **options)
        return finished_job(self.home).joinpath("log").read_text()


@pytest.fixture
def box(server: Sshd, config: SSHConfig) -> Iterator[Box]:
    with SSHClient(config) as client:
        yield Box(server.home, client)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home for launchers that are run right here."""
    home = tmp_path / "far-home"
    home.mkdir()
    yield home
    end_jobs(home)


def test_launch_returns_at_once_the_id_of_a_session_and_group_leader(box: Box) -> None:
    result = box.start("sleep 60; true")

    pid = int(result.stdout)
    assert result.success
    assert result.command == "sleep 60; true"
    assert (group_of(pid), session_of(pid)) == (pid, pid)
    assert result.elapsed_ms < 10_000


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("mkdir -p sub && cd sub && pwd; echo after", "{home}/a b/sub\nafter\n"),
        ("false || echo otherwise", "otherwise\n"),
        ("false && echo no; true", ""),
        ('echo "it\'s" \'a "b"\' \\$HOME `echo x` $((1 + 1))', 'it\'s a "b" $HOME x 2\n'),
        ("for i in 1 2\ndo\n  echo $i\ndone\n", "1\n2\n"),
        ("echo kept > out; echo gone > /dev/null; cat < out; echo err >&2", "kept\nerr\n"),
        ("printf '%s\\n' 'é 漢字 🚀'", "é 漢字 🚀\n"),
        ("cat <<EOF\nhere: $((40 + 2))\nEOF\n", "here: 42\n"),
        ("echo 1 | tr 1 2 | cat; (echo 3) & wait", "2\n3\n"),
        ("exec echo replaced; echo never", "replaced\n"),
        ("echo $# $1; set -- x; echo $1", "0\nx\n"),
        ("pwd # a comment", "{home}/a b\n"),
        (f"echo {'x' * 200_000} | wc -c", "200001\n"),
        ("if true; then exit; fi", ""),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
@pytest.mark.matrix(5)
def test_any_shell_command_runs_in_its_working_directory(
    box: Box, command: str, printed: str
) -> None:
    (box.home / "a b").mkdir()

    output = box.output(command, cwd="~/a b")

    assert output == printed.format(home=box.home)


@pytest.mark.parametrize("length", [29_999, 30_000, 30_001])
def test_commands_below_and_above_the_argument_limit_run_alike(box: Box, length: int) -> None:
    start = "echo $# $0; exit 3 # é"

    output = box.output(start + "é" * (length - len(start)))

    assert output.split()[0] == "0"
    assert exit_status(box.home) == 3


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("true", 0),
        ("exit 3", 3),
        ("exec sh -c 'exit 4'", 4),
        ("(exit 5)", 5),
        ("kill -9 $$", 137),
        ("kill -TERM 0; sleep 60", 143),
        ("if then", 2),
        ("no-such-program", 127),
    ],
)
def test_exit_status_is_written_to_a_file(box: Box, command: str, status: int) -> None:
    box.pid(command)

    assert exit_status(box.home) == status


def test_job_killed_from_outside_leaves_its_exit_status(box: Box) -> None:
    pid = box.pid("sleep 60; echo never; sleep 60")

    os.killpg(pid, signal.SIGKILL)

    assert exit_status(box.home) == 137


def test_signal_to_all_marked_processes_leaves_the_exit_status(box: Box) -> None:
    pid = box.pid("sleep 60; true")
    (monitor,) = box.home.glob(f"{FOUND}/monitor")

    os.kill(int(monitor.read_text().split()[0]), signal.SIGTERM)
    os.killpg(pid, signal.SIGTERM)

    assert exit_status(box.home) == 143


@pytest.mark.parametrize(
    "command",
    [
        "sleep 60",
        "  sleep '60' \n",
        'sleep "$N" >>"${N}.out"',
        "nice -n 1 sleep $N >~/out 2>&1",
        "sleep \\60",
    ],
)
def test_single_program_replaces_its_shell_and_ends_on_ctrl_c(box: Box, command: str) -> None:
    pid = box.pid(command, cwd="~", env={"N": "60"})

    eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    os.kill(pid, signal.SIGINT)

    assert exit_status(box.home) == 130


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("echo a;echo b", "a\nb\n"),
        ("cat /dev/null&& echo b", "b\n"),
        ("cat /dev/null\necho b", "b\n"),
        ("cat '/dev/null'\necho b", "b\n"),
        ("cat /dev/null & echo b", "b\n"),
        ("tr a b <<EOF\na\nEOF", "b\n"),
        ('expr "$(echo 1; echo 2)" : ".*"', "3\n"),
        ("V=1 env | grep ^V=", "V=1\n"),
        ("! false", ""),
        ("{ echo b; }", "b\n"),
        ("cd /; pwd", "/\n"),
        ("exit 0", ""),
        ("expr $# + 0 || :", "0\n"),
        ("expr 'it'\\''s' : '.*'", "4\n"),
    ],
)
@pytest.mark.matrix(5)
def test_compound_command_that_resembles_a_single_program_is_run_whole(
    box: Box, command: str, printed: str
) -> None:
    assert box.output(command, cwd="~") == printed


def test_launched_job_survives_its_client(box: Box) -> None:
    pid = box.pid("sleep 60; true")

    box.client.close_link()

    assert is_alive(pid)
    assert box.client.run(f"kill -0 {pid}").success


def test_launched_job_survives_the_sshd_that_started_it(box: Box, server: Sshd) -> None:
    pid = box.pid("sleep 60; true")
    try:
        server.stop()  # with all that is below it

        assert is_alive(pid)
    finally:
        os.killpg(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("log_file", "place"),
    [
        ("~/logs/today/a b.log", "logs/today/a b.log"),
        ("{home}/absolute.log", "absolute.log"),
        ("runs/it's $x.log", "work/runs/it's $x.log"),
        ("-", "work/-"),
        ("~", None),
    ],
)
def test_log_is_written_to_the_requested_path(box: Box, log_file: str, place: str | None) -> None:
    (box.home / "work").mkdir()

    result = box.start("echo said", log_file=log_file.format(home=box.home), cwd="~/work")

    if place is None:
        assert not result.success
        return
    assert exit_status(box.home) == 0
    assert (box.home / place).read_text() == "said\n"
    assert (finished_job(box.home) / "log").samefile(box.home / place)


def test_log_permissions_follow_the_umask(box: Box) -> None:
    box.pid("true", log_file="~/log", cwd="~")
    box.client.run("touch usual", cwd="~")

    assert exit_status(box.home) == 0
    assert (box.home / "log").stat().st_mode == (box.home / "usual").stat().st_mode


def test_existing_log_is_appended_to(box: Box) -> None:
    (box.home / "log").write_text("before\n")

    box.pid("echo after; echo error >&2", log_file="~/log")

    assert exit_status(box.home) == 0
    assert (box.home / "log").read_text() == "before\nafter\nerror\n"


def test_log_in_the_root_directory_needs_no_new_directory(box: Box) -> None:
    log = Path(f"/ringtasks-{os.getpid()}.log")
    if not os.access("/", os.W_OK):
        pytest.skip("only root may write to /")
    try:
        box.pid("echo here", log_file=str(log))
        exit_status(box.home)
        assert log.read_text() == "here\n"
    finally:
        log.unlink(missing_ok=True)


def test_job_has_only_its_log_open(box: Box) -> None:
    pid = box.pid("sleep 60; true", log_file="~/log")

    log = str(box.home / "log")
    eventually(lambda: open_files(pid) == {0: "/dev/null", 1: log, 2: log})


@pytest.mark.parametrize("number", [3, 7, 9])
def test_descriptor_left_open_by_login_files_does_not_block_the_launch(
    make_sshd: MakeSshd, client_key: Path, number: int
) -> None:
    server = make_sshd(
        config=[f"ForceCommand sh -c 'exec {number}>&1; eval \"$SSH_ORIGINAL_COMMAND\"'"]
    )
    config = SSHConfig(server.address, server.port, server.user, str(client_key))
    try:
        with SSHClient(config) as client:
            result = asyncio.run(client.run_background("sleep 60; true"))
        pid = int(result.stdout)
        eventually(lambda: set(open_files(pid)) == {0, 1, 2})
    finally:
        end_jobs(server.home)


AWKWARD_NAMES = {"job": "1", "log": "2", "line": "3", "n": "4", "save": "6"}


def test_environment_with_any_names_reaches_the_job_unchanged(box: Box) -> None:
    printing = "; ".join(f'printf "%s\\n" "{name}=${name}"' for name in AWKWARD_NAMES)

    output = box.output(printing, env={**AWKWARD_NAMES, "IFS": "x1"})

    assert output.split() == [f"{name}={value}" for name, value in AWKWARD_NAMES.items()]


def test_job_environment_is_not_in_the_process_list(box: Box) -> None:
    secret = "hunter2-" + "é'\" "

    pid = box.pid('printf %s "$TOKEN" > ~/seen; sleep 60', env={"TOKEN": secret})

    eventually(lambda: (box.home / "seen").exists() and (box.home / "seen").read_text() == secret)
    assert not [line for line in command_lines() if b"hunter2" in line]
    assert b"TOKEN=hunter2" in Path(f"/proc/{pid}/environ").read_bytes()


def test_job_files_have_the_default_mode_and_the_job_directory_is_private(box: Box) -> None:
    usual = box.client.run("umask").stdout

    output = box.output("umask")

    job = finished_job(box.home)
    assert output == usual
    assert job.stat().st_mode & 0o777 == 0o700
    assert sorted(file.name for file in job.iterdir()) == [
        "command", "ended_at", "exit_status", "log", "monitor", "pid", "process",
    ]  # fmt: skip


def test_virtual_environment_is_active_in_the_job(server: Sshd, config: SSHConfig) -> None:
    (server.home / "venv" / "bin").mkdir(parents=True)
    (server.home / "venv" / "bin" / "activate").write_text("export VIRTUAL_ENV=active\n")

    with SSHClient(replace(config, venv_activate="~/venv", work_dir="~/venv/bin")) as client:
        output = Box(server.home, client).output('echo "$VIRTUAL_ENV"; ls')

    assert output == "active\nactivate\n"


@pytest.mark.parametrize(
    ("obstacle", "options", "said"),
    [
        ("", {"cwd": "~/no such folder"}, "no such folder"),
        ("", {"cwd": "file"}, "file"),
        ("", {"log_file": "/proc/no/x.log"}, "/proc/no"),
        ("", {"log_file": "/proc/x.log"}, "/proc/x.log"),
        ("", {"log_file": "~/folder"}, "directory"),
        ("", {"log_file": "~/folder/"}, "directory"),
        ("", {"log_file": "~/file/x.log"}, "file"),
        (".ringtasks", {}, ".ringtasks"),
        (".ringtasks/jobs", {}, "jobs"),
        ("", {"env": {"HOME": "/proc"}}, "/proc"),
        ("", {"env": {"PATH": "/nowhere"}}, "mkdir"),
    ],
)
def test_command_that_cannot_start_is_an_error_without_a_process_id(
    box: Box, obstacle: str, options: dict[str, Any], said: str
) -> None:
    (box.home / "folder").mkdir()
    (box.home / "file").touch()
    if obstacle:
        (box.home / obstacle).parent.mkdir(exist_ok=True)
        (box.home / obstacle).touch()

    result = box.start("echo ran > ~/ran", **options)

    assert (result.success, result.stdout) == (False, "")
    assert result.returncode != 0
    assert said in result.stderr
    assert result.error is not None
    assert "not started: " in result.error
    assert not (box.home / "ran").exists()
    assert not list(box.home.glob(f"{JOBS_FOLDER}/*"))
    assert not list(box.home.glob(f"{JOBS_FOLDER}/.*"))


def test_missing_shell_is_an_error_without_a_process_id(box: Box, config: SSHConfig) -> None:
    with SSHClient(replace(config, shell="/no/such/shell")) as client:
        result = asyncio.run(client.run_background("true"))

    assert (result.success, result.stdout, result.returncode) == (False, "", 255)
    assert str(result.error).endswith("; check shell (/no/such/shell)")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"command": " "}, ValueError, "command: is empty"),
        ({"command": "a\0b"}, ValueError, "command: has a NUL"),
        ({"log_file": ""}, ValueError, "log_file: is empty"),
        ({"log_file": "a\0b"}, ValueError, "log_file: has a NUL"),
        ({"log_file": 3}, TypeError, "log_file: expected text, got int"),
        ({"cwd": "a\0b"}, ValueError, "cwd: has a NUL"),
        ({"env": {"a b": "c"}}, ValueError, "env: 'a b' is not a variable name"),
    ],
)
def test_invalid_launch_argument_is_raised_at_once(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    client = SSHClient(SSHConfig("127.0.0.1", 9))

    with pytest.raises(error, match=message):
        asyncio.run(client.run_background(**{"command": "true", **options}))

    assert client.health.total_failures == 0


@pytest.mark.parametrize("login_shell", LOGIN_SHELLS)
def test_launcher_works_under_any_login_shell(
    make_sshd: MakeSshd, client_key: Path, require: Require, login_shell: str
) -> None:
    require(LOGIN_SHELLS[login_shell].split()[0])
    server = make_sshd(login_shell=login_shell)
    config = SSHConfig(server.address, server.port, server.user, str(client_key))
    try:
        with SSHClient(config) as client:
            box = Box(server.home, client)
            output = box.output("false || echo \"it's\" '!x' \\\\ $V && echo $$", env={"V": "é"})
            pid = int((finished_job(server.home) / "pid").read_text())
    finally:
        end_jobs(server.home)

    assert output == f"it's !x \\ é\n{pid}\n"


def test_start_whose_answer_was_lost_is_found_again(server: Sshd, config: SSHConfig) -> None:
    def cut_while_the_answer_travels() -> int:
        (started,) = eventually(lambda: list(server.home.glob(f"{FOUND}/pid")))
        wire.cut()
        return int(started.read_text())

    with (
        Wire(server.address, server.port, delay=0.1) as wire,
        SSHClient(replace(config, host=wire.address, port=wire.port)) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        started = thread.submit(cut_while_the_answer_travels)
        pid = Box(server.home, client).pid("echo ran $$ >> ~/ran; sleep 60")

    eventually(lambda: has_run(server.home))
    assert pid == started.result()
    assert server.accepted_logins() == 2
    assert (server.home / "ran").read_text() == f"ran {pid}\n"


def test_possible_start_is_reported_even_if_the_host_became_unreachable(
    server: Sshd, config: SSHConfig
) -> None:
    with (
        Wire(server.address, server.port) as wire,
        SSHClient(replace(config, host=wire.address, port=wire.port)) as client,
    ):
        assert client.run("true")
        wire.cut_after(1000)
        wire.block()
        result = asyncio.run(client.run_background("true"))

    assert (result.success, result.stdout, result.returncode) == (False, "", 255)
    assert result.error is not None
    assert result.error.index("no route") < result.error.index("attempt 1: ")
    assert "outcome unknown" in result.error


@pytest.mark.parametrize("env", [{}, {"V": "x"}], ids=["in the request", "on stdin"])
@pytest.mark.parametrize("byte_count", [1, 90, 180, 400, 3000, 6000, 9000])
@pytest.mark.matrix(3)
def test_connection_cut_at_any_point_runs_the_job_once(
    server: Sshd, config: SSHConfig, byte_count: int, env: dict[str, str]
) -> None:
    with cut_link(server, config, byte_count) as client:
        pid = Box(server.home, client).pid("echo ran $$ >> ~/ran", env=env)

    assert exit_status(server.home) == 0
    assert (server.home / "ran").read_text() == f"ran {pid}\n"


@contextlib.contextmanager
def cut_link(server: Sshd, config: SSHConfig, byte_count: int) -> Iterator[SSHClient]:
    """A client whose open link is cut as soon as it has sent so many bytes more."""
    with (
        Wire(server.address, server.port) as wire,
        SSHClient(replace(config, host=wire.address, port=wire.port)) as client,
    ):
        assert client.run("true")
        wire.cut_after(byte_count)
        yield client


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, require: Require) -> str:
    require(request.param.split()[0])
    shell: str = request.param
    return shell


def test_repeated_launch_returns_the_same_process(home: Path, shell: str) -> None:
    script = launch_script("j", "echo ran >> ~/ran; exit 3", None, shell)

    first = launch(script, home, shell)
    assert exit_status(home) == 3
    second = launch(script, home, shell)

    assert (first.stdout, first.stderr, first.returncode) == (second.stdout, "", 0)
    assert int(first.stdout) > 0
    assert (home / "ran").read_text() == "ran\n"


@pytest.mark.matrix(2)
def test_concurrent_starts_of_the_same_job_start_it_once(home: Path, shell: str) -> None:
    script = launch_script("j", "echo ran $$ >> ~/ran; sleep 60", "~/log", shell)

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: launch(script, home, shell), range(12)))

    pids = {answer.stdout for answer in answers}
    assert [answer.returncode for answer in answers] == [0] * 12
    assert len(pids) == 1
    eventually(lambda: has_run(home))
    assert (home / "ran").read_text() == f"ran {pids.pop()}"
    eventually(lambda: len(processes_with(str(home).encode())) == 2)  # the monitor, and its watch
    files = sorted(path.name for path in (home / JOBS_FOLDER).rglob("*"))
    assert files == [
        "command", "ended_at.new", "exit_status.new", "j", "log", "monitor", "pid", "process",
    ]  # fmt: skip


@pytest.mark.parametrize("milliseconds", range(12))
@pytest.mark.matrix(4)
def test_start_does_not_wait_for_a_dead_starter(home: Path, milliseconds: int) -> None:
    script = launch_script("j", "echo ran $$ >> ~/ran; sleep 60")
    dying = subprocess.Popen(
        ["sh", "-c", script], env=environ(home), stdout=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(milliseconds / 1000)  # each value hits it somewhere else
    os.killpg(dying.pid, signal.SIGKILL)
    dying.wait()

    answer = launch(script, home, "sh")

    assert answer.returncode == 0, answer
    eventually(lambda: has_run(home))
    assert (home / "ran").read_text() == f"ran {answer.stdout}"


def test_job_is_found_again_even_if_its_log_became_unwritable(home: Path) -> None:
    script = launch_script("j", "sleep 60; true", "~/logs/log")

    first = launch(script, home, "sh")
    shutil.rmtree(home / "logs")
    (home / "logs").touch()
    second = launch(script, home, "sh")

    assert (second.returncode, second.stdout) == (0, first.stdout)


def test_setsid_makes_the_job_a_session_leader(home: Path, shell: str, tmp_path: Path) -> None:
    script = launch_script("j", "sleep 60; true", None, shell)

    answer = launch(script, home, shell, PATH=folder_of_tools(tmp_path, "setsid"))

    pid = int(answer.stdout)
    assert (group_of(pid), session_of(pid)) == (pid, pid)


def test_busybox_setsid_makes_the_job_a_session_leader(
    home: Path, tmp_path: Path, require: Require
) -> None:
    require("busybox")
    tools = folder_of_tools(tmp_path)
    (Path(tools) / "setsid").symlink_to(str(shutil.which("busybox")))
    script = launch_script("j", "sleep 60; true")

    answer = launch(script, home, "sh", PATH=tools)

    pid = int(answer.stdout)
    assert (group_of(pid), session_of(pid)) == (pid, pid)


def test_perl_makes_the_job_a_session_leader_without_setsid(
    home: Path, shell: str, tmp_path: Path
) -> None:
    tools = folder_of_tools(tmp_path, "perl", "env")
    script = launch_script("j", "sleep 60", None, shell)

    answer = launch(script, home, shell, PATH=tools, LC_ALL="xx_YY.nonsense")

    pid = int(answer.stdout)
    assert (group_of(pid), session_of(pid)) == (pid, pid)
    assert b"PERL_BADLANG" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert "perl" not in answer.stderr + (home / JOBS_FOLDER / "j" / "log").read_text()
    eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    os.kill(pid, signal.SIGINT)
    assert exit_status(home) == 130


def test_bash_makes_the_job_a_group_leader_without_setsid_and_perl(
    home: Path, tmp_path: Path
) -> None:
    script = launch_script("j", "sleep 60; true", None, "bash")

    answer = launch(script, home, "bash", PATH=folder_of_tools(tmp_path))

    pid = int(answer.stdout)
    assert answer.stderr == ""
    assert group_of(pid) == pid


def test_job_closes_its_connection_without_setsid_perl_or_bash(
    home: Path, shell: str, tmp_path: Path
) -> None:
    script = launch_script("j", "sleep 60", None, shell)

    answer = launch(script, home, shell, PATH=folder_of_tools(tmp_path))

    pid = int(answer.stdout)
    assert answer.stderr == ""
    assert is_alive(pid)
    eventually(lambda: open_files(pid).get(0) == "/dev/null")
    os.kill(pid, signal.SIGKILL)
    assert exit_status(home) == 137


def test_job_starts_in_a_symlinked_home(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home)
    (tmp_path / "elsewhere").mkdir()
    (home / ".ringtasks").symlink_to(tmp_path / "elsewhere")

    answer = launch(launch_script("j", "echo hi"), tmp_path / "link", "sh")

    assert exit_status(home) == 0
    assert answer.stdout == (tmp_path / "elsewhere/jobs/j/pid").read_text()


def test_read_only_home_is_an_error_and_a_noexec_home_is_not(
    home: Path, mounted: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    script = launch_script("j", "echo ran > /dev/null")

    without_execution = mounted("noexec", script)
    read_only = mounted("ro", script)

    assert without_execution.returncode == 0
    assert int(without_execution.stdout) > 0
    assert (read_only.returncode, read_only.stdout) == (1, "")
    assert "Read-only" in read_only.stderr


@pytest.mark.parametrize("free_pages", range(5, 10))
def test_launch_on_a_full_disk_starts_or_reports_the_reason(
    mounted: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    shell: str,
    free_pages: int,
) -> None:
    ran = tmp_path / "ran"
    command = f"echo ran $$ >> {ran}\n".ljust(3 * PAGE_BYTES, "#")
    script = launch_script("j", command, "/dev/null", shell)

    answer = mounted(f"size={16 * PAGE_BYTES}", script, shell, fill=16 - free_pages)

    if free_pages >= 8:  # three for the command, one for each file that is needed in the end
        assert answer.returncode == 0
        eventually(lambda: ran.exists() and ran.read_text() == f"ran {answer.stdout}")
    else:
        assert (answer.returncode, answer.stdout) == (1, "")
        assert "ringtasks: the job was not started" in answer.stderr
        assert not ran.exists()


@pytest.fixture
def mounted(home: Path, require: Require) -> Callable[..., Any]:
    """Runs a launcher on a small home that is mounted for it alone; ``fill`` pages are taken."""
    require("unshare")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root may mount")

    def run(
        options: str, script: str, shell: str = "sh", fill: int = 0
    ) -> subprocess.CompletedProcess[str]:
        preparing = (
            f"mount -t tmpfs -o {options} none {home} && "
            f"{{ [ {fill} = 0 ] || head -c {fill * PAGE_BYTES} /dev/zero > {home}/filler; }} && "
            'exec "$@"'
        )
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", preparing, "sh", *shell.split(), "-c", script],
            env=environ(home),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


def environ(home: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), **more}


def launch(script: str, home: Path, shell: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a launcher here; the pipes end as soon as nothing of the job holds them."""
    program, *options = shell.split()
    return subprocess.run(
        [str(shutil.which(program)), *options, "-c", script],
        env=environ(home, **more),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def folder_of_tools(tmp_path: Path, *more: str) -> str:
    """A PATH with what every host has, and nothing that starts sessions."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in (
        "cat",
        "date",
        "ln",
        "ls",
        "mkdir",
        "mv",
        "rm",
        "sleep",
        "true",
        "dash",
        "bash",
        "zsh",
        "busybox",
        *more,
    ):
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    return str(folder)


def has_run(home: Path) -> bool:
    """Whether a job has told of itself in ``~/ran``."""
    return (home / "ran").exists() and (home / "ran").read_text().endswith("\n")


def finished_job(home: Path) -> Path:
    """The folder of the one job, once it has ended."""
    (status,) = eventually(lambda: list(home.glob(f"{FOUND}/exit_status")))
    return status.parent


def exit_status(home: Path) -> int:
    return int((finished_job(home) / "exit_status").read_text())


def end_jobs(home: Path) -> None:
    """Kill what was started, and see that nothing is left of it."""
    for file in home.glob(f"{FOUND}/pid"):
        pid = int(file.read_text())
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
    for file in home.glob(f"{FOUND}/monitor"):
        monitor = int(file.read_text().split()[0])
        eventually(lambda: not is_alive(monitor))  # noqa: B023  # it is called right here


def stat_fields(pid: int) -> list[str]:
    """Of proc_pid_stat(5), from the third on: state, parent, group, session."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def group_of(pid: int) -> int:
    return int(stat_fields(pid)[2])


def session_of(pid: int) -> int:
    return int(stat_fields(pid)[3])


def is_alive(pid: int) -> bool:
    try:
        return stat_fields(pid)[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def open_files(pid: int) -> dict[int, str]:
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found[int(link.name)] = str(link.readlink())
    return found


def processes_with(words: bytes) -> list[bytes]:
    """The command lines of the processes that have ``words`` in theirs."""
    return [line for line in command_lines() if words in line]


def command_lines() -> list[bytes]:
    lines = []
    for file in proc_files("cmdline"):
        with contextlib.suppress(OSError):
            lines.append(file.read_bytes())
    return lines
