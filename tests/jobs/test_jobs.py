"""A job outlives the connection, is started once, and tells how it ended, whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringtasks import SSHClient, SSHConfig, jobs
from ringtasks.errors import JobNotStartedError, UnknownJobError, UsageError
from ringtasks.jobs import JobState
from ringtasks.remote.launcher import JOBS_FOLDER
from ringtasks.training.attempts import may_take_over
from tests.support.faulty import Wire
from tests.support.fixtures import MakeSshd, Require, WriteHosts, in_process, job_host, own_server
from tests.support.jobs import JobHost, end_jobs, is_alive, is_waited_for, marked
from tests.support.sshd import LOGIN_SHELLS, Sshd
from tests.support.waiting import eventually

server = own_server
over_master = in_process
host = job_host


def test_job_runs_to_its_end_and_reports_all_its_fields(host: JobHost) -> None:
    job = host.start("echo said; until [ -e ~/go ]; do sleep 0.05; done; exit 3", name="train")
    running = job.status()
    (host.home / "go").touch()
    ended = job.wait()

    assert (running.state, running.name, running.pid) == (JobState.RUNNING, "train", host.pid(job))
    assert (ended.state, ended.exit_status, ended.is_ended) == (JobState.FAILED, 3, True)
    assert ended.host_id == "box"
    assert ended.command.startswith("echo said; until")
    assert "@" in ended.by
    assert ended.log_file == f"~/.ringtasks/jobs/{job.id}/log"
    assert None is not ended.started_at <= (ended.ended_at or 0)
    assert abs((ended.ended_at or 0) - time.time()) < 60
    assert host.log(job) == "said\n"


def test_job_files_are_in_a_directory_accessible_to_the_owner_only(host: JobHost) -> None:
    job = host.start("true", name="n", env={"TOKEN": "hunter2"})
    job.wait()

    folder = host.folder(job)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert json.loads((folder / "about").read_text())["name"] == "n"
    assert not [file for file in folder.iterdir() if "hunter2" in file.read_text()]


def test_asynchronous_calls_return_the_same_states(host: JobHost) -> None:
    async def live() -> tuple[list[JobState], list[bytes]]:
        job = await jobs.start_async(host.client, "echo a; sleep 60")
        running = await job.status_async()
        early = await job.wait_async(0.3)
        stopped = await job.stop_async(1)
        assert stopped.is_gone
        ended = await job.wait_async()
        chunks = [chunk async for chunk in job.logs_async(follow=True)]
        found = await jobs.find_async(job.id[:6], [host.client])
        assert found.id == job.id
        return [running.state, early.state, ended.state], chunks

    states, chunks = asyncio.run(live())

    assert states == [JobState.RUNNING, JobState.RUNNING, JobState.STOPPED]
    assert b"".join(chunks) == b"a\n"


@pytest.mark.parametrize("command", ["kill -9 $$", "kill -TERM 0; sleep 60"])
def test_job_ended_by_a_signal_has_state_killed(host: JobHost, command: str) -> None:
    status = host.start(command).wait()

    assert status.state is JobState.KILLED
    assert status.exit_status in (137, 143)


def test_job_survives_its_client_and_is_found_by_another_client(
    host: JobHost, config: SSHConfig
) -> None:
    job = host.start("sleep 60", name="long")
    host.client.close_link()

    with SSHClient(config) as other:
        found = jobs.find("long", [other])
        assert (found.id, found.status().state) == (job.id, JobState.RUNNING)


def test_wait_ends_with_the_job_or_at_its_timeout(host: JobHost) -> None:
    job = host.start("until [ -e ~/go ]; do sleep 0.05; done")

    assert job.wait(0).state is JobState.RUNNING
    assert job.wait(0.5).state is JobState.RUNNING
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(job.wait)
        (host.home / "go").touch()
        assert waiting.result().state is JobState.SUCCEEDED


def test_wait_survives_lost_connections(server: Sshd, config: SSHConfig) -> None:
    with (
        Wire(server.address, server.port) as wire,
        SSHClient(replace(config, host=wire.address, port=wire.port)) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        host = JobHost(server.home, client)
        job = host.start("until [ -e ~/go ]; do sleep 0.05; done; exit 7")
        waiting = thread.submit(job.wait)
        for n in range(3):
            eventually(lambda n=n: server.accepted_logins() > n)
            eventually(lambda: is_waited_for(server.home))
            wire.cut()
        (server.home / "go").touch()

        assert waiting.result().exit_status == 7


def test_unreachable_host_gives_state_unknown_with_the_time_last_seen(
    server: Sshd, config: SSHConfig
) -> None:
    with SSHClient(config) as client:
        job = JobHost(server.home, client).start("sleep 60", name="train")
        (before,) = jobs.list([client])
        client.close_link()
        server.revoke_all()
        status = job.status()
        waited = job.wait(patience=0)
        stopped = job.stop(1)
        (after,) = jobs.list([client])

    assert before.jobs[0].state is JobState.RUNNING
    assert (status.state, waited.state) == (JobState.UNKNOWN, JobState.UNKNOWN)
    assert abs((status.since or 0) - time.time()) < 60
    assert "refused" in status.reason
    assert not stopped.is_gone
    assert "refused" in str(stopped)
    assert after.error is not None
    assert [(j.name, j.state, j.is_ended) for j in after.jobs] == [
        ("train", JobState.UNKNOWN, False)
    ]
    assert (after.jobs[0].since or 0) <= time.time()


def test_host_never_reached_gives_no_jobs_and_a_reason() -> None:
    client = SSHClient(SSHConfig("127.0.0.1", 1, name="dead", use_control_master=False))

    (listed,) = jobs.list([client])

    assert listed.jobs == ()
    assert "refused" in (listed.error or "")
    with pytest.raises(UnknownJobError, match="not reached: dead") as raised:
        jobs.find("x", [client])
    assert raised.value.unasked == ("dead",)


def test_hosts_may_be_one_selector(
    write_hosts: WriteHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = write_hosts(a={"ssh_port": 1}, b={"ssh_port": 1}, mac={"ssh_port": 1})
    monkeypatch.setenv("RINGTASKS_HOSTS", str(hosts))

    assert [own.host_id for own in jobs.list("a,b")] == ["a", "b"]
    assert [own.host_id for own in jobs.overview("mac")] == ["mac"]
    with pytest.raises(UsageError, match="did you mean mac"):
        jobs.list("max")


def test_job_is_lost_after_a_reboot(host: JobHost) -> None:
    job = host.start("sleep 60")
    ended = host.start("true")
    ended.wait()

    host.reboot()

    assert job.status().describe() == "lost the host was rebooted"
    assert ended.status().state is JobState.SUCCEEDED


@pytest.mark.parametrize("end", ["reboot", "killed with its monitor"])
def test_stop_does_not_change_the_state_of_an_ended_job(host: JobHost, end: str) -> None:
    job = host.start("sleep 60")
    if end == "reboot":
        host.reboot()
    else:
        host.kill_monitor(job)
        os.kill(host.pid(job), signal.SIGKILL)
        eventually(lambda: not is_alive(host.pid(job)))
    known = job.status().describe()

    job.stop(0.5)

    assert known.startswith("lost ")
    assert job.status().describe() == known


def test_job_whose_monitor_was_killed_keeps_running_and_ends_as_lost(host: JobHost) -> None:
    job = host.start("sleep 60")
    host.kill_monitor(job)
    assert job.status().state is JobState.RUNNING

    os.kill(host.pid(job), signal.SIGKILL)
    eventually(lambda: not is_alive(host.pid(job)))

    assert job.status().describe() == "lost gone without a trace"
    assert job.wait(5).state is JobState.LOST


def test_reused_process_id_is_not_mistaken_for_the_job(host: JobHost) -> None:
    job = host.start("sleep 60")
    host.kill_monitor(job)
    os.kill(host.pid(job), signal.SIGKILL)
    foreign = subprocess.Popen(["sleep", "60"], start_new_session=True)
    theirs = str(host.pid(job))
    for name in ("pid", "process"):
        file = host.folder(job) / name
        file.write_text(file.read_text().replace(theirs, str(foreign.pid), 1))
    try:
        status = job.status()
        stopped = job.stop(0)

        assert status.state is JobState.LOST
        # What watched the log of the killed monitor is stopped, and nothing else.
        assert foreign.pid not in {process.pid for process in stopped.before}
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_job_with_a_deleted_directory_runs_and_is_lost_once_it_is_stopped(host: JobHost) -> None:
    job = host.start("sleep 60; true")
    pid = host.pid(job)
    # It is read from the folder.
    eventually(lambda: b"sleep 60; true" in Path(f"/proc/{pid}/cmdline").read_bytes())
    shutil.rmtree(host.folder(job))

    status = job.status()
    stopped = job.stop(1)

    gone = "its folder is gone from the host"
    assert (status.state, status.reason) == (JobState.RUNNING, f"although {gone}")
    assert not may_take_over(status, allow_split=True)
    ended = job.wait(5)
    assert (ended.state, ended.reason) == (JobState.LOST, gone)
    assert pid in [process.pid for process in stopped.before]
    assert stopped.is_gone
    assert not is_alive(pid)


def test_clock_set_back_changes_no_job_state(host: JobHost) -> None:
    job = host.start("sleep 60")
    file = host.folder(job) / "process"
    *identity, _ = file.read_text().split()
    file.write_text(" ".join([*identity, str(int(time.time()) + 86400)]) + "\n")

    status = job.status()

    assert (status.state, status.seconds) == (JobState.RUNNING, 0.0)


@pytest.fixture
def small_disk(server: Sshd) -> Iterator[Path]:
    """The home on a disk of 256 KiB."""
    mounting = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(server.home)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount")
    yield server.home
    end_jobs(server.home)
    subprocess.run(["umount", "-l", str(server.home)], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="space"):
        while True:
            filler.write(b"x" * 4096)


def test_full_disk_does_not_hide_the_exit_status_of_a_job(small_disk: Path, host: JobHost) -> None:
    job = host.start("until [ -e ~/filler ]; do sleep 0.05; done; sleep 0.5; exit 3")
    fill(small_disk)

    status = job.wait(20)

    assert (status.state, status.exit_status) == (JobState.FAILED, 3)
    assert status.ended_at is not None


def test_job_can_be_stopped_on_a_full_disk(small_disk: Path, host: JobHost) -> None:
    job = host.start("sleep 60")
    fill(small_disk)

    assert job.stop(1).is_gone
    assert job.status().is_ended


def test_stop_tells_that_it_could_not_be_recorded(small_disk: Path, host: JobHost) -> None:
    job = host.start("sleep 60")
    subprocess.run(["mount", "--bind", "-o", "ro", small_disk, small_disk], check=True)

    try:
        stopped = job.stop(1)
        state = job.status().state
    finally:
        subprocess.run(["umount", small_disk], check=True)

    assert stopped.is_gone
    assert "cannot be written to, so it will be listed as lost" in str(stopped)
    assert state is JobState.LOST


def test_start_reports_a_full_disk(small_disk: Path, host: JobHost) -> None:
    fill(small_disk)

    with pytest.raises(JobNotStartedError, match=r"not started: .*No space") as raised:
        host.start("true")

    assert (raised.value.is_unknown, raised.value.status) == (False, 1)


def test_unreachable_host_starts_no_job() -> None:
    client = SSHClient(SSHConfig("127.0.0.1", 1, name="dead", use_control_master=False))

    with pytest.raises(JobNotStartedError, match="refused") as raised:
        jobs.start(client, "true")

    assert (raised.value.status, raised.value.is_unknown) == (255, False)


@pytest.mark.parametrize("byte_count", [1, 60, 200, 500, 1000, 2000, 4000, 8000, 12000, 16000])
@pytest.mark.matrix(2)
def test_connection_cut_at_any_point_starts_one_job(
    server: Sshd, config: SSHConfig, byte_count: int
) -> None:
    with (
        Wire(server.address, server.port) as wire,
        SSHClient(replace(config, host=wire.address, port=wire.port)) as client,
        SSHClient(config) as other,
    ):
        client.run("true")
        wire.cut_after(byte_count)
        job = JobHost(server.home, client).start("echo ran >> ~/ran")
        status = job.wait(20)

        assert status.state is JobState.SUCCEEDED
        assert (server.home / "ran").read_text() == "ran\n"
        assert len(jobs.list([other])[0].jobs) == 1


@pytest.mark.parametrize("byte_count", [1, 500, 2000, 4000, 8000, 12000, 16000])
@pytest.mark.matrix(3)
def test_permanent_cut_at_any_point_is_reported_with_the_known_job_state(
    server: Sshd, config: SSHConfig, byte_count: int
) -> None:
    with (
        Wire(server.address, server.port) as wire,
        SSHClient(replace(config, host=wire.address, port=wire.port)) as client,
        SSHClient(config) as other,
    ):
        client.run("true")
        wire.cut_after(byte_count)
        wire.block()
        try:
            found, is_started = jobs.start(client, "echo ran >> ~/ran").id, True
        except JobNotStartedError as error:
            found, is_started = error.job, None if error.is_unknown else False
        else:
            eventually(lambda: (server.home / "ran").exists())
        there = {job.id for job in jobs.list([other])[0].jobs}

    assert there <= {found}
    if is_started is not None:
        assert there == ({found} if is_started else set())


def test_job_starts_when_its_predecessor_has_ended(host: JobHost) -> None:
    first = host.start("until [ -e ~/go ]; do sleep 0.05; done; echo first >> ~/order; exit 1")
    second = host.start("echo second >> ~/order", after=first.id)
    waiting = second.status()
    (host.home / "go").touch()
    ended = second.wait(20)

    assert (waiting.state, waiting.reason) == (JobState.QUEUED, f"for {first.id} to end")
    assert ended.state is JobState.SUCCEEDED
    assert (host.home / "order").read_text() == "first\nsecond\n"


def test_job_starts_when_its_predecessor_is_lost(host: JobHost) -> None:
    first = host.start("sleep 60")
    second = host.start("true", after=first.id)
    host.kill_monitor(first)
    os.kill(host.pid(first), signal.SIGKILL)

    assert second.wait(20).state is JobState.SUCCEEDED


def test_waiting_job_can_be_stopped_and_never_runs(host: JobHost) -> None:
    first = host.start("until [ -e ~/go ]; do sleep 0.05; done")
    second = host.start("echo ran > ~/ran", after=first.id)

    stopped = second.stop(1)
    status = second.wait(20)
    (host.home / "go").touch()
    first.wait(20)

    assert stopped.is_gone
    assert (status.state, status.exit_status) == (JobState.STOPPED, None)
    assert not (host.home / "ran").exists()


def test_waiting_job_is_lost_if_its_monitor_is_killed(host: JobHost) -> None:
    first = host.start("sleep 60")
    second = host.start("true", after=first.id)

    host.kill_monitor(second)

    assert second.status().state is JobState.LOST


def test_job_after_an_unknown_job_is_refused(host: JobHost) -> None:
    with pytest.raises(JobNotStartedError, match="there is no job abc on this host"):
        host.start("true", after="abc")

    assert not list((host.home / JOBS_FOLDER).iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": " "}, "command: is empty"),
        ({"name": ""}, "name: '' is empty"),
        ({"name": "a\x1bb"}, "control characters"),
        ({"name": "a,b"}, "means several jobs"),
        ({"name": "all"}, "means several jobs"),
        ({"gpus": -1}, "gpus: expected a whole number, at least 0, got -1"),
        ({"gpus": True}, "gpus"),
        ({"after": "a b"}, "after: expected the id of a job"),
        ({"log_file": ""}, "log_file: is empty"),
        ({"log_limit_bytes": 0}, "log_limit_bytes"),
    ],
)
def test_invalid_job_argument_is_raised_before_anything_is_sent(
    options: dict[str, Any], message: str
) -> None:
    client = SSHClient(SSHConfig("127.0.0.1", 9, name="nowhere"))

    with pytest.raises(ValueError, match=message):
        jobs.start(client, **{"command": "true", **options})

    assert client.health.total_failures == 0


def test_twenty_jobs_are_listed_by_one_command_in_start_order(host: JobHost) -> None:
    with ThreadPoolExecutor(4) as threads:
        started = list(threads.map(lambda n: host.start(f"exit {n}").id, range(20)))
    for job_id in started:
        jobs.Job(host.client, job_id).wait(20)
    sessions = host.client.run("true").success

    (listed,) = jobs.list([host.client])

    assert sessions
    assert {job.id: job.exit_status for job in listed.jobs} == {
        job_id: n for n, job_id in enumerate(started)
    }
    times = [job.started_at for job in listed.jobs]
    assert times == sorted(times)


def test_only_jobs_that_ended_long_ago_are_deleted(host: JobHost) -> None:
    old, new, running = host.start("true"), host.start("true"), host.start("sleep 60")
    lost = host.start("sleep 60")
    for job in (old, new):
        job.wait(20)
    host.kill_monitor(lost)
    os.kill(host.pid(lost), signal.SIGKILL)
    (host.folder(old) / "ended_at").write_text(f"{int(time.time()) - 1000}\n")
    left_over = host.home / JOBS_FOLDER / ".0123abcd.999999999"
    left_over.mkdir()
    os.utime(left_over, (1, 1))

    (pruned,) = jobs.prune([host.client], older_than=500)

    assert [job.id for job in pruned.jobs] == [old.id]
    left = {path.name for path in (host.home / JOBS_FOLDER).iterdir()}
    assert left == {new.id, running.id, lost.id}


def test_only_jobs_whose_folders_are_gone_are_reported_as_deleted(host: JobHost) -> None:
    held, other = host.start("true"), host.start("true")
    for job in (held, other):
        job.wait(20)
    busy = host.folder(held) / "busy"
    busy.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", busy], check=True)

    (pruned,) = jobs.prune([host.client], older_than=0)
    subprocess.run(["umount", busy], check=True)

    assert [job.id for job in pruned.jobs] == [other.id]
    assert "box: rm: cannot remove" in str(pruned.error)
    assert not host.folder(other).exists()


def test_log_at_another_path_is_kept_when_the_job_is_deleted(host: JobHost) -> None:
    job = host.start("echo kept", log_file="~/logs/run.log")
    job.wait(20)

    jobs.prune([host.client], older_than=0)

    assert (host.home / "logs/run.log").read_text() == "kept\n"
    assert not host.folder(job).exists()


@pytest.mark.parametrize("login_shell", LOGIN_SHELLS)
@pytest.mark.matrix(3)
def test_jobs_work_under_any_login_shell(
    make_sshd: MakeSshd, client_key: Path, require: Require, login_shell: str
) -> None:
    require(LOGIN_SHELLS[login_shell].split()[0])
    server = make_sshd(login_shell=login_shell)
    config = SSHConfig(
        server.address, server.port, server.user, str(client_key), use_control_master=False
    )
    with SSHClient(config) as client:
        host = JobHost(server.home, client)
        first = host.start("echo \"it's\" '!x'; exit 3", name="n'\"!", env={"V": "é"})
        second = host.start("sleep 60", after=first.id)
        eventually(lambda: second.status().state is JobState.RUNNING)
        stopped = second.stop(1)

        assert first.wait(20).describe() == "failed (3)"
        assert first.status().name == "n'\"!"
        assert b"".join(first.logs()) == b"it's !x\n"
        assert stopped.is_gone
        assert len(stopped.before) == 1
    end_jobs(server.home)


#: It forks twice and leaves for a session of its own, ignores TERM, and has children.
STUBBORN = r"""
trap '' TERM
(setsid sh -c '
  (setsid sh -c "sleep 61 & sleep 62; :" &)
  sleep 63; :
' &)
sleep 64 & sleep 65; :
"""


def test_stop_ends_every_process_of_a_job_that_daemonizes_and_ignores_sigterm(
    host: JobHost,
) -> None:
    job = host.start(STUBBORN)
    eventually(lambda: len(family(job.id)) == 5)
    before = marked(job.id)

    stopped = job.stop(0.5)

    assert stopped.is_gone
    assert {process.pid for process in stopped.before} >= set(family_of(before))
    assert [process.command for process in stopped.before].count("sleep") == 5
    assert stopped.after == ()
    assert not marked(job.id)
    assert job.status().state is JobState.STOPPED


def family(job_id: str) -> list[int]:
    return family_of(marked(job_id))


def family_of(pids: list[int]) -> list[int]:
    """Those that sleep for a minute."""
    found = []
    for pid in pids:
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if line.startswith(b"sleep\x006"):
            found.append(pid)
    return found


def test_stop_sends_sigterm_once_and_waits_for_the_grace_period(host: JobHost) -> None:
    saving = "trap 'echo asked; sleep 1; echo saved; exit 0' TERM"
    job = host.start(f"{saving}; echo up; while :; do sleep 0.05; done")
    eventually(lambda: host.log(job) == "up\n")

    stopped = job.stop(20)

    assert stopped.is_gone
    said = [line for line in host.log(job).split() if line != "Terminated"]  # of a sleep
    assert said == ["up", "asked", "saved"]
    assert job.status().describe().startswith("stopped by ")
    assert job.status().exit_status == 0


def test_processes_left_by_an_ended_job_can_be_stopped(host: JobHost) -> None:
    job = host.start("(setsid sleep 66 &); exit 0")
    assert job.wait(20).state is JobState.SUCCEEDED
    eventually(lambda: family(job.id))

    stopped = job.stop(1)

    assert [process.command for process in stopped.before] == ["sleep"]
    assert stopped.is_gone
    assert not family(job.id)
    assert job.status().state is JobState.SUCCEEDED


def test_stop_does_not_affect_other_jobs(host: JobHost) -> None:
    job, other = host.start("sleep 60"), host.start("sleep 60")

    job.stop(1)

    assert other.status().state is JobState.RUNNING


def test_second_stop_finds_no_process(host: JobHost) -> None:
    job = host.start("sleep 60")
    job.stop(1)

    again = job.stop(1)

    assert (again.before, again.is_gone) == ((), True)
    assert str(again) == "it was not running"


def test_an_unknown_option_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        jobs.start("localhost", "true", gpus=1.5)  # type: ignore[arg-type]  # that is the point


#: What ``/bin/sh`` is on the hosts: Debian, Red Hat, Alpine, macOS.
SHELLS = ["bash --posix", "bash", "busybox ash", "zsh --emulate sh"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.matrix(1)
def test_jobs_run_under_any_posix_shell(
    config: SSHConfig, server: Sshd, require: Require, shell: str
) -> None:
    require(shell.split()[0])
    with SSHClient(replace(config, shell=shell)) as client:
        live_through_everything(JobHost(server.home, client))


def test_jobs_run_on_a_host_with_only_busybox(
    make_sshd: MakeSshd, client_key: Path, tmp_path: Path, require: Require
) -> None:
    require("busybox")
    tools = tmp_path / "busybox"
    tools.mkdir()
    busybox = str(shutil.which("busybox"))
    applets = subprocess.check_output([busybox, "--list"], text=True).split()
    for applet in {"busybox", *applets}:
        (tools / applet).symlink_to(busybox)
    server = make_sshd(environ={"PATH": str(tools)})
    key = str(client_key)
    config = SSHConfig(
        server.address, server.port, server.user, key, shell="busybox ash", use_control_master=False
    )
    with SSHClient(config) as client:
        live_through_everything(JobHost(server.home, client))
    end_jobs(server.home)


def live_through_everything(host: JobHost) -> None:
    """Start, list, follow, queue, wait, stop."""
    first = host.start("echo one; until [ -e ~/go ]; do sleep 0.1; done; echo two; exit 3")
    second = host.start("(sleep 60 &); trap '' TERM; sleep 60; :", after=first.id, name="second")
    queued = second.status()
    with ThreadPoolExecutor(1) as thread:
        followed = thread.submit(lambda: b"".join(first.logs(follow=True)))
        (host.home / "go").touch()
        ended = first.wait(20)
        assert followed.result(20) == b"one\ntwo\n"
    eventually(lambda: second.status().state is JobState.RUNNING)
    eventually(lambda: len(marked(second.id)) >= 3)
    stopped = second.stop(0.5)

    assert queued.describe() == f"queued for {first.id} to end"
    assert (ended.state, ended.exit_status) == (JobState.FAILED, 3)
    assert b"".join(first.logs(tail=1)) == b"two\n"
    assert stopped.is_gone
    assert len(stopped.before) >= 3
    assert second.status().state is JobState.STOPPED
    assert [job.id for job in jobs.list([host.client])[0].jobs] == [first.id, second.id]


@pytest.mark.parametrize("program", ["exit 1", ":"])
@pytest.mark.parametrize("command", ["sleep 0", "sleep 0; :"])
def test_job_whose_command_the_host_cannot_read_is_not_started(
    make_sshd: MakeSshd, client_key: Path, tmp_path: Path, program: str, command: str
) -> None:
    (tmp_path / "cat").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "cat").chmod(0o755)
    server = make_sshd(environ={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    config = SSHConfig(server.address, server.port, server.user, str(client_key), name="box")

    error = "the command cannot be read"
    with SSHClient(config) as client, pytest.raises(JobNotStartedError, match=error):
        jobs.start(client, command)

    assert not any((server.home / JOBS_FOLDER).iterdir())
