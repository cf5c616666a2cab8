"""A stop ends the set of processes that it saw, and claims no more than it checked."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig, jobs
from ringtasks.jobs import JobState
from ringtasks.jobs.stop_job import parse_stopped
from ringtasks.remote.stop_run import stop_run_script
from tests.support.dropbear import Dropbear
from tests.support.fixtures import MakeSshd, in_process, job_host, own_server
from tests.support.jobs import JobHost, end_jobs, is_alive
from tests.support.processes import proc_files
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

server = own_server
over_master = in_process
host = job_host

#: Forks $1 processes of five kinds; all ignore TERM. They leave the session, the environment, or
#: their parent; or the first two when they get TERM.
TREE = r"""
import os, signal, sys, time
def live():
    while True:
        time.sleep(971)
def detach(*_):
    os.setsid()
    os.execve("/bin/sh", ["sh", "-c", "trap '' TERM; while :; do sleep 971; done"], {})
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for n in range(int(sys.argv[1])):
    if os.fork():
        continue
    kind = n % 5
    if kind == 1:
        os.setsid()
    elif kind == 2:
        os.execve("/bin/sh", ["sh", "-c", "trap '' TERM; while :; do sleep 971; done"], {})
    elif kind == 3:
        os.setsid()
        if os.fork():
            os._exit(0)
    elif kind == 4:
        signal.signal(signal.SIGTERM, detach)
    live()
print("up", flush=True)
live()
"""


def test_process_that_left_its_job_and_holds_gpu_memory_is_named() -> None:
    holds = "reserved GPU-a\nholds GPU-a, 12, 5858\nholds GPU-a, 13, 9\n"

    stopped = parse_stopped(f"before 11 sh\norphan 12 python3\nlooked\n{holds}")

    assert str(stopped).endswith("GPU memory is held by 12 (python3), 13 (of unknown origin)")


def in_folder(folder: Path) -> list[int]:
    """The processes whose working directory this is, without the monitor's."""
    found = []
    for place in proc_files("cwd"):
        try:
            if place.readlink() == folder:
                found.append(int(place.parent.name))
        except OSError:
            continue
    return [pid for pid in found if is_alive(pid)]


def stop_a_tree(host: JobHost, folder: Path, size: int, grace: float) -> float:
    """Stop a tree of ``size`` processes; return the seconds that this took."""
    (folder / "tree.py").write_text(TREE)
    job = host.start(f"python3 tree.py {size}", cwd=str(folder))
    eventually(lambda: host.log(job) == "up\n")
    eventually(lambda: len(in_folder(folder)) >= size)

    began = time.monotonic()
    stopped = job.stop(grace)
    seconds = time.monotonic() - began

    assert stopped.is_gone, stopped
    assert len(stopped.before) >= size
    assert [Path(f"/proc/{pid}/stat").read_text() for pid in in_folder(folder)] == []
    assert job.status().state is JobState.STOPPED
    return seconds


def test_stop_ends_a_process_tree_that_detaches_meanwhile(host: JobHost, tmp_path: Path) -> None:
    seconds = stop_a_tree(host, tmp_path, size=20, grace=0.5)

    assert seconds < 0.5 + 2 + 3  # what a busy machine adds


def test_process_detached_before_the_stop_is_reported_as_not_covered(
    host: JobHost, tmp_path: Path
) -> None:
    detached = f"echo $$ > {tmp_path}/pid; exec sleep 974"
    job = host.start(
        f'(setsid env -i /bin/sh -c "{detached.replace("$", chr(92) + "$")}" &); sleep 60; :'
    )
    eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")

    stopped = job.stop(0.1)
    was_alive = is_alive(pid)
    os.kill(pid, 9)

    assert was_alive
    assert (pid, "sleep") in [(process.pid, process.command) for process in stopped.orphans]
    assert f"{pid} (sleep)" in str(stopped).partition("not covered: ")[2]


def test_process_whose_first_thread_has_ended_is_ended(host: JobHost, tmp_path: Path) -> None:
    (tmp_path / "threads.py").write_text(
        "import ctypes, fcntl, signal, threading, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "held = open('held', 'w')\n"
        "fcntl.flock(held, fcntl.LOCK_EX)\n"
        "threading.Thread(target=time.sleep, args=[976]).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    job = host.start("exec python3 threads.py", cwd=str(tmp_path))
    stat = Path(f"/proc/{host.pid(job)}/stat")
    eventually(lambda: ") Z " in stat.read_text())

    before = job.status().state
    stopped = job.stop(0.1)

    assert (before, stopped.is_gone, len(stopped.before)) == (JobState.RUNNING, True, 1)
    with (tmp_path / "held").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_names_of_processes_are_not_taken_for_process_ids(host: JobHost, tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    name = f"*\n{bystander.pid}:1) R"
    (tmp_path / "named.py").write_text(
        "import ctypes, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"ctypes.CDLL(None).prctl(15, {name.encode()!r})\nprint('up', flush=True)\n"
        "time.sleep(975)\n"
    )
    job = host.start("python3 named.py; :", cwd=str(tmp_path))
    eventually(lambda: host.log(job) == "up\n")

    stopped = job.stop(0.1)
    status = bystander.poll()
    bystander.kill()
    bystander.wait()

    assert stopped.is_gone
    assert status is None
    assert [f"*?{bystander.pid}:1) R"] == [
        process.command for process in stopped.before if process.command.startswith("*")
    ]


@pytest.fixture
def many_processes() -> Iterator[None]:
    """1,800 processes that are of no job."""
    program = (
        "import os, time\nfor _ in range(1800):\n    if not os.fork():\n        break\n"
        "time.sleep(600)"
    )
    forking = subprocess.Popen(["python3", "-c", program], start_new_session=True)
    eventually(lambda: len(list(Path("/proc").glob("[0-9]*"))) > 1800)
    yield
    os.killpg(forking.pid, 9)
    forking.wait()


@pytest.mark.long
def test_stop_ends_200_of_2000_processes_in_time(
    host: JobHost, tmp_path: Path, many_processes: None
) -> None:
    seconds = stop_a_tree(host, tmp_path, size=200, grace=5)

    print(f"\n200 processes of 2,000 ended in {seconds:.1f} s with a grace time of 5 s")
    assert seconds < 5 + 2


@pytest.mark.long
def test_one_scan_of_2000_processes_takes_at_most_a_tenth_of_a_cpu_second(
    many_processes: None,
) -> None:
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["sh", "-c", stop_run_script(2**22 - 1, "none", 0)], check=True, timeout=60)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)

    seconds = used.ru_utime + used.ru_stime - began.ru_utime - began.ru_stime
    print(f"\none look: {seconds:.3f} s of CPU")
    assert seconds < 0.1


def test_job_whose_end_is_not_recorded_yet_is_not_lost(host: JobHost) -> None:
    job = host.start("sleep 60")
    os.kill(host.pid(job, "monitor"), signal.SIGSTOP)
    os.kill(host.pid(job), signal.SIGKILL)
    eventually(lambda: not is_alive(host.pid(job)))

    unrecorded = job.status().state
    job.stop(0.1)  # the monitor goes on

    assert unrecorded is JobState.RUNNING
    assert job.status().describe() == "killed (SIGKILL)"


def test_process_that_ends_while_it_is_read_does_not_prevent_the_confirmation() -> None:
    """read(2) of its file fails with ESRCH; here another error stands for that."""
    script = (
        "sleep 60 & pid=$!; mount --bind /proc/$$/mem /proc/$pid/stat || exit 9\n"
        f"({stop_run_script(None, 'none', 0)}); status=$?; kill $pid; exit $status"
    )

    found = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, check=False, timeout=30
    )

    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")


def test_process_ids_of_another_namespace_are_not_used() -> None:
    script = stop_run_script(None, "none", 0)

    found = subprocess.run(
        ["unshare", "--pid", "--fork", "sh", "-c", script],  # /proc is that of this namespace
        capture_output=True,
        check=False,
        timeout=30,
    )

    assert (found.returncode, found.stdout) == (1, b"")


#: Runs the stop of process OLD, whose process id another process gets: at once, or after the stop's
#: first look, which is the second program of awk(1).
_REUSED = r"""
setsid sleep 978 & old=$!
give_to_another() {
  kill -9 $old; wait $old
  echo $((old - 1)) >/proc/sys/kernel/ns_last_pid
  sleep 979 & new=$!
}
[ MOMENT = late ] || give_to_another
trap 'give_to_another; touch given' USR1
group=$old sh ./stop & stop=$!
while :; do wait $stop; status=$?; [ $status -gt 128 ] || break; done
kill -0 $new && echo "$((new - old)) $status"
"""
_AWK = r"""#!/bin/sh
PATH=${PATH#*:}
awk "$@" >answer; status=$?
if mkdir first 2>/dev/null; then :
elif [ MOMENT = late ] && mkdir second 2>/dev/null; then
  kill -USR1 1; while [ ! -e given ]; do sleep 0.02; done
fi
cat answer; exit $status
"""


@pytest.mark.parametrize("moment", ["early", "late"])
def test_process_that_got_the_process_id_of_a_run_is_spared(tmp_path: Path, moment: str) -> None:
    stop = stop_run_script(987654, "none", 0.3, age=1000).replace("987654", "$group")
    (tmp_path / "stop").write_text(stop.replace("'$group'", "$group"))
    (tmp_path / "awk").write_text(_AWK.replace("MOMENT", moment))
    (tmp_path / "awk").chmod(0o755)

    namespace = ("unshare", "--pid", "--fork", "--mount-proc")
    found = subprocess.run(
        [*namespace, "sh", "-c", _REUSED.replace("MOMENT", moment)],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        check=False,
        timeout=30,
    )

    assert found.stdout == b"0 0\n"


#: On TERM goes on in a child with a session of its own, that in the next one, and so on.
_MOVING = """
import os, signal, time
def move(*_):
    while True:
        if os.fork():
            os._exit(0)
        os.setsid()
        time.sleep(0.05)
signal.signal(signal.SIGTERM, move)
print("up", flush=True)
while True:
    signal.pause()
"""
_STOP_OF_MOVING = """
mkfifo up
RINGTASKS_RUN_ID=moving setsid python3 moving.py >up & pid=$!
read -r _ <up
sed "s/987654/$pid/" stop | sh; echo $?
for look in 1 2 3 4 5 6 7 8 9 10; do grep -lsF RINGTASKS_RUN_ID=moving /proc/[0-9]*/environ; done
"""


def test_process_that_goes_on_in_child_after_child_is_ended(tmp_path: Path) -> None:
    (tmp_path / "moving.py").write_text(_MOVING)
    (tmp_path / "stop").write_text(stop_run_script(987654, "moving", 0.5))

    found = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", _STOP_OF_MOVING],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        check=False,
        timeout=30,
    )

    assert found.stdout == b"0\n"


def test_stop_is_not_confirmed_if_the_host_cannot_list_processes(
    make_sshd: MakeSshd, client_key: Path, tmp_path: Path
) -> None:
    tools = ("awk", "xargs", "grep")
    with ThreadPoolExecutor(2 * len(tools)) as threads:
        stops, runs = [], []
        for tool in tools:
            (tmp_path / tool).mkdir()
            (tmp_path / tool / tool).write_text("#!/bin/sh\nexit 1\n")
            (tmp_path / tool / tool).chmod(0o755)
            server = make_sshd(environ={"PATH": f"{tmp_path / tool}:{os.environ['PATH']}"})
            config = SSHConfig(server.address, server.port, server.user, str(client_key), name=tool)
            stops.append(threads.submit(_start_and_stop, server, config))
            runs.append(threads.submit(_run_too_long, config))

    for tool, stop, run in zip(tools, stops, runs, strict=True):
        assert "could not confirm" in stop.result(), tool
        assert "could not confirm" in run.result(), tool


def _start_and_stop(server: Sshd, config: SSHConfig) -> str:
    with SSHClient(config) as client:
        stopped = JobHost(server.home, client).start("sleep 60").stop(0.1)
    end_jobs(server.home)
    return "gone" if stopped.is_gone else str(stopped)


def _run_too_long(config: SSHConfig) -> str:
    with SSHClient(config) as client:
        return str(client.run("sleep 61", timeout=1).error)


@pytest.fixture
def dropbear(tmp_path: Path, client_key: Path) -> Iterator[Dropbear]:
    server = Dropbear(tmp_path, client_key)
    yield server
    server.stop()


@pytest.mark.parametrize(
    "command",
    [
        "while :; do :; done",
        "exec python3 -c 'while True: pass'",
        "sleep 973 & while :; do :; done",
    ],
)
def test_timeout_leaves_no_process_on_a_server_without_process_sessions(
    dropbear: Dropbear, client_key: Path, tmp_path: Path, command: str
) -> None:
    config = SSHConfig(dropbear.address, dropbear.port, "root", str(client_key), name="box")

    with SSHClient(config) as client:
        result = client.run(f"cd {tmp_path}; {command}", timeout=1)

    assert result.timed_out, result
    assert "terminated (verified)" in str(result.error)
    assert [pid for pid in in_folder(tmp_path) if pid != os.getpid()] == []


def test_server_with_a_limit_for_commands_takes_jobs_and_long_commands(
    dropbear: Dropbear, client_key: Path, use_control_master: bool
) -> None:
    config = SSHConfig(dropbear.address, dropbear.port, "root", str(client_key), name="box")
    config.use_control_master = use_control_master

    with SSHClient(config) as client:
        stopped = jobs.start(client, "sleep 974").stop(grace=0.2)
        long = client.run(f"true {'x' * 20_000}; echo in")

    assert stopped.is_gone, stopped
    assert (long.stdout, long.error) == ("in\n", None)
