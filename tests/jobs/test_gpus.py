"""GPUs are reserved on the host: never twice, and never for longer than the job is there."""

from __future__ import annotations

import collections
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig, jobs
from ringtasks.errors import JobNotStartedError
from ringtasks.jobs import Job, JobState
from ringtasks.jobs.request import JobRequest
from ringtasks.training.probe import probe_host
from tests.support.fixtures import MakeSshd, gpu_server, in_process, job_host
from tests.support.jobs import JobHost, is_alive, marked
from tests.support.nvidia import Gpus
from tests.support.waiting import eventually

PRINTS = 'echo "$CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER"'
HOLDS = "until [ -e ~/go ]; do sleep 0.05; done"

server = gpu_server
over_master = in_process
host = job_host


def reserved(host: JobHost) -> list[str]:
    return sorted(link.name for link in host.home.glob(".ringtasks/gpus/GPU-*"))


def test_job_gets_free_gpus_and_releases_them(host: JobHost, gpus: Gpus) -> None:
    gpus.occupy(0, pid=4711)

    job = host.start(f"{PRINTS}; {HOLDS}", gpus=2)
    running = job.status()
    held = reserved(host)
    (host.home / "go").touch()
    ended = job.wait(20)

    assert host.log(job) == "1,2 PCI_BUS_ID\n"
    assert (running.gpus, ended.gpus) == ((1, 2), (1, 2))
    assert held == [gpus.uuid(1), gpus.uuid(2)]
    assert ended.state is JobState.SUCCEEDED
    assert reserved(host) == []


def test_gpu_shortage_is_reported_with_the_holding_jobs(host: JobHost, gpus: Gpus) -> None:
    gpus.occupy(0, pid=4711)
    gpus.occupy(0, pid=4712)
    first = host.start("sleep 60", gpus=6)

    with pytest.raises(JobNotStartedError) as raised:
        host.start("true", gpus=2)

    said = str(raised.value)
    assert "free GPUs asked for: 2; there are 1 of 8" in said
    assert "GPU 0: process 4711, 4712;" in said
    assert f"GPU 1: job {first.id}" in said
    assert "--queue" in said
    assert raised.value.status == 1
    assert len(jobs.list([host.client])[0].jobs) == 1


@pytest.mark.parametrize("queue", [False, True])
def test_request_for_more_gpus_than_the_host_has_fails_without_waiting(
    host: JobHost, queue: bool
) -> None:
    with pytest.raises(JobNotStartedError, match="GPUs asked for: 9; the host has 8"):
        host.start("true", gpus=9, queue=queue)


@pytest.mark.parametrize("queue", [False, True])
def test_gpu_driver_failure_is_reported(host: JobHost, gpus: Gpus, queue: bool) -> None:
    gpus.fail("Failed to initialize NVML: Driver/library version mismatch")

    with pytest.raises(JobNotStartedError, match="version mismatch"):
        host.start("true", gpus=1, queue=queue)


def test_missing_nvidia_smi_is_reported(host: JobHost, gpus: Gpus) -> None:
    (gpus.bin / "nvidia-smi").unlink()

    with pytest.raises(JobNotStartedError, match="no nvidia-smi on the host"):
        host.start("true", gpus=1)


@pytest.mark.parametrize("end", ["exit 3", "kill -9 $$", "kill -TERM 0; sleep 9"])
@pytest.mark.matrix(2)
def test_gpus_are_released_however_the_job_ends(host: JobHost, end: str) -> None:
    host.start(end, gpus=8).wait(20)

    assert host.start("true", gpus=8).wait(20).state is JobState.SUCCEEDED


def test_stop_releases_gpus_and_reports_processes_that_still_use_their_memory(
    host: JobHost, gpus: Gpus
) -> None:
    job = host.start("sleep 60; true", gpus=2)
    gpus.occupy(0, pid=host.pid(job), memory_mib=40_000)
    gpus.occupy(1, pid=4711, memory_mib=512)
    gpus.occupy(2, pid=4712)

    stopped = job.stop(1)

    assert stopped.is_gone
    assert [(p.pid, p.gpu_memory_mib) for p in stopped.gpu_holders] == [
        (host.pid(job), 40_000),
        (4711, 512),
    ]
    assert "GPU memory is held by" in str(stopped)
    assert "4711 (of unknown origin)" in str(stopped)
    assert reserved(host) == []


def test_gpus_stay_reserved_for_a_live_job_after_its_monitor_was_killed(
    host: JobHost,
) -> None:
    job = host.start("sleep 60", gpus=8)
    host.kill_monitor(job)
    with pytest.raises(JobNotStartedError, match=f"job {job.id}"):
        host.start("true", gpus=1)

    os.kill(host.pid(job), signal.SIGKILL)
    eventually(lambda: not is_alive(host.pid(job)))
    eventually(lambda: not marked(job.id), timeout=10)  # what watched its log

    assert host.start("true", gpus=8).wait(20).state is JobState.SUCCEEDED


def test_running_job_with_a_deleted_directory_keeps_its_gpus(host: JobHost) -> None:
    job = host.start("sleep 60", gpus=8)
    command_line = Path(f"/proc/{host.pid(job)}/cmdline")
    eventually(lambda: command_line.read_bytes().startswith(b"sleep"))  # read from the folder
    shutil.rmtree(host.folder(job))
    with pytest.raises(JobNotStartedError, match="there are 0 of 8"):
        host.start("true", gpus=1)

    job.stop(1)

    assert host.start("true", gpus=8).wait(20).state is JobState.SUCCEEDED


@pytest.fixture
def container(host: JobHost, gpus: Gpus, make_container: MakeSshd) -> SSHConfig:
    """A container with process ids of its own; ``host`` has its home, hostname and GPUs."""
    path = f"{gpus.bin}:{os.environ['PATH']}"
    server = make_container(environ={"HOME": str(host.home), "PATH": path})
    key = host.client.config.key_path
    return SSHConfig(server.address, server.port, server.user, key, name="container")


def test_gpus_of_a_job_of_another_container_stay_reserved(
    host: JobHost, container: SSHConfig
) -> None:
    job = host.start("sleep 60", gpus=8)

    with SSHClient(container) as client:
        (seen,) = jobs.overview([client])
        with pytest.raises(JobNotStartedError) as refused:
            jobs.start(client, "true", gpus=1, any_memory=True)
        found = probe_host(client)

    assert f"GPU 0: job {job.id} of another container" in str(refused.value)
    assert [gpu.job for gpu in (*seen.gpus, *found.gpus)] == [job.id] * 16
    assert len(reserved(host)) == 8


def test_gpus_are_free_after_a_reboot(host: JobHost) -> None:
    host.start("sleep 60", gpus=8)
    for link in host.home.glob(".ringtasks/gpus/GPU-*"):
        job_id, pid, _, *start = str(link.readlink()).split(".")
        link.unlink()
        link.symlink_to(".".join([job_id, pid, "another-boot", *start]))

    assert host.start("true", gpus=8).wait(20).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    "dead", ["j.999999999.{boot}.5", "j.{pid}.{boot}.5", "j.{pid}.other.{start}"]
)
def test_gpu_lock_of_a_dead_process_is_broken(host: JobHost, dead: str) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    folder = host.home / ".ringtasks/gpus"
    folder.mkdir(parents=True)
    (folder / "lock").symlink_to(dead.format(boot=boot, pid=os.getpid(), start=start))

    job = host.start("true", gpus=1)

    assert job.wait(20).state is JobState.SUCCEEDED
    assert list(folder.iterdir()) == []


def test_process_killed_while_breaking_a_lock_blocks_no_later_job(host: JobHost) -> None:
    folder = host.home / ".ringtasks/gpus"
    dead = "j.999999999.no-such-boot.5"
    (folder / f"broken-{dead}").mkdir(parents=True)
    os.utime(folder / f"broken-{dead}", (time.time() - 120, time.time() - 120))
    (folder / "lock").symlink_to(dead)

    assert host.start("true", gpus=1).wait(20).state is JobState.SUCCEEDED


def test_gpu_lock_of_a_live_process_is_respected(host: JobHost) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    folder = host.home / ".ringtasks/gpus"
    folder.mkdir(parents=True)
    (folder / "lock").symlink_to(f"j.{os.getpid()}.{boot}.{start}")

    with ThreadPoolExecutor(1) as thread:
        starting = thread.submit(host.start, "true", gpus=1)
        time.sleep(1)
        assert not starting.done()
        (folder / "lock").unlink()
        assert starting.result().wait(20).state is JobState.SUCCEEDED


def test_queued_gpu_jobs_run_one_at_a_time_in_queue_order(host: JobHost) -> None:
    first = host.start(HOLDS, gpus=8)
    second = host.start("echo second >> ~/order; sleep 0.1", gpus=8, queue=True, name="second")
    eventually(lambda: second.status().state is JobState.QUEUED)
    second_began = int(time.time())
    eventually(lambda: int(time.time()) > second_began)  # tickets bear seconds
    third = host.start("echo third >> ~/order", gpus=1, queue=True)
    eventually(lambda: third.status().reason == "for 1 GPUs")
    waiting = third.status()
    (host.home / "go").touch()

    assert [job.wait(20).state for job in (first, second, third)] == [JobState.SUCCEEDED] * 3
    assert (waiting.state, waiting.reason) == (JobState.QUEUED, "for 1 GPUs")
    assert (host.home / "order").read_text() == "second\nthird\n"
    assert list((host.home / ".ringtasks/queue").iterdir()) == []


def test_job_killed_in_the_queue_does_not_block_later_jobs(host: JobHost) -> None:
    holder = host.start(HOLDS, gpus=8)
    dead = host.start("true", gpus=8, queue=True)
    eventually(lambda: list(host.home.glob(".ringtasks/queue/*")))
    host.kill_monitor(dead)
    alive = host.start("true", gpus=8, queue=True)
    (host.home / "go").touch()

    assert holder.wait(20).state is JobState.SUCCEEDED
    assert alive.wait(20).state is JobState.SUCCEEDED
    assert dead.status().state is JobState.LOST


def test_job_stopped_in_the_queue_is_removed_from_it(host: JobHost) -> None:
    host.start("sleep 60", gpus=8)
    queued = host.start("echo ran > ~/ran", gpus=8, queue=True)

    assert queued.stop(1).is_gone

    assert queued.status().state is JobState.STOPPED
    assert list((host.home / ".ringtasks/queue").iterdir()) == []


def test_temporary_driver_failure_does_not_end_the_wait_for_gpus(host: JobHost, gpus: Gpus) -> None:
    host.start(HOLDS, gpus=8)
    queued = host.start("true", gpus=8, queue=True)
    gpus.fail("NVML: busy")
    (host.home / "go").touch()
    before = gpus.failures
    eventually(lambda: gpus.failures > before + 1)
    still = queued.status().state
    gpus.fail(None)

    assert still is JobState.QUEUED
    assert queued.wait(20).state is JobState.SUCCEEDED


def test_job_after_another_one_waits_for_gpus(host: JobHost) -> None:
    first = host.start(HOLDS, gpus=8)
    second = host.start(PRINTS, gpus=8, after=first.id)
    (host.home / "go").touch()

    assert second.wait(20).state is JobState.SUCCEEDED
    assert host.log(second) == "0,1,2,3,4,5,6,7 PCI_BUS_ID\n"


#: Jobs at once.
COUNTS = [10, pytest.param(40, marks=pytest.mark.long)]


def started(config: SSHConfig, *, queue: bool) -> Callable[[int], Job | None]:
    def start(_: int) -> Job | None:
        with SSHClient(config) as client:
            try:
                return jobs.start(client, f"{PRINTS}; {HOLDS}", gpus=1, queue=queue)
            except JobNotStartedError as error:
                assert "there are 0 of 8" in str(error), error
                return None

    return start


@pytest.mark.timeout(240)
@pytest.mark.parametrize("count", COUNTS)
def test_many_concurrent_jobs_get_eight_gpus_once_each_and_the_rest_are_refused(
    host: JobHost, config: SSHConfig, count: int
) -> None:
    with ThreadPoolExecutor(count) as threads:
        found = list(threads.map(started(config, queue=False), range(count)))

    running = [job for job in found if job is not None]
    assert len(running) == 8
    listed = jobs.list([host.client])[0].jobs
    assert collections.Counter(job.state for job in listed) == {JobState.RUNNING: 8}
    assert sorted(gpu for job in listed for gpu in job.gpus) == list(range(8))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("count", COUNTS)
def test_many_queued_jobs_run_eight_at_a_time_until_all_have_run(
    host: JobHost, config: SSHConfig, count: int
) -> None:
    with ThreadPoolExecutor(count) as threads:
        found = list(threads.map(started(config, queue=True), range(count)))
    assert None not in found

    def states() -> dict[JobState, int]:
        return dict(collections.Counter(job.state for job in jobs.list([host.client])[0].jobs))

    eventually(lambda: states() == {JobState.RUNNING: 8, JobState.QUEUED: count - 8}, timeout=60)
    listed = jobs.list([host.client])[0].jobs
    gpus = [gpu for job in listed if job.state is JobState.RUNNING for gpu in job.gpus]
    assert sorted(gpus) == list(range(8))

    (host.home / "go").touch()
    eventually(lambda: states() == {JobState.SUCCEEDED: count}, timeout=120)
    assert reserved(host) == []


def test_repeated_start_finds_the_waiting_job(host: JobHost) -> None:
    host.start("sleep 60", gpus=8)
    script = JobRequest("echo ran >> ~/ran", gpus=8, queue=True).script("0123abcd", "me", "/bin/sh")

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: host.client.run(script), range(4)))

    assert [(answer.returncode, answer.stdout) for answer in answers] == [(0, "queued\n")] * 4
    waiting = [job.id for job in jobs.list([host.client])[0].jobs if job.state is JobState.QUEUED]
    assert waiting == ["0123abcd"]
    eventually(lambda: len(list(host.home.glob(".ringtasks/queue/*"))) == 1)


@pytest.mark.parametrize("milliseconds", range(0, 60, 5))
@pytest.mark.matrix(2)
def test_start_killed_midway_does_not_leave_gpus_reserved(
    tmp_path: Path, gpus: Gpus, milliseconds: int
) -> None:
    home = tmp_path / "far-home"
    home.mkdir()
    environ = {"HOME": str(home), "PATH": f"{gpus.bin}:{os.environ['PATH']}"}
    script = JobRequest("sleep 0.2", gpus=8).script("0123abcd", "me", "/bin/sh")

    def launch() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", script], env=environ, capture_output=True, text=True, timeout=30
        )

    dying = subprocess.Popen(
        ["sh", "-c", script], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    time.sleep(milliseconds / 1000)  # each value hits it somewhere else
    os.killpg(dying.pid, signal.SIGKILL)
    dying.wait()

    eventually(lambda: launch().returncode == 0)
    eventually(lambda: list(home.glob(".ringtasks/jobs/0123abcd/exit_status")))
    eventually(lambda: not list(home.glob(".ringtasks/gpus/*")))
