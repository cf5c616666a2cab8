"""A job belongs to the machine that runs it, by whatever name or home it is seen."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pytest

from ringtasks import SSHClient, SSHConfig, jobs
from ringtasks.errors import AmbiguousJobError, JobNotStartedError
from ringtasks.jobs import JobState, JobStatus
from ringtasks.jobs.machine import Machine, Origin
from ringtasks.jobs.names import each_once, pick_all
from ringtasks.remote.programs import Program
from ringtasks.remote.script import quote
from tests.support.fixtures import Inv, MakeSshd, WriteHosts, own_server
from tests.support.jobs import JobHost, is_alive, reboot
from tests.support.processes import proc_files
from tests.support.shells import SHELLS
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

server = own_server

HERE = Machine("boot", "pid:[1]", "m1", "gpu1", "one")
#: The process ids of another container.
_OTHER = HERE._replace(process_ids="pid:[2]")

#: A job's machine as HERE sees it; the state of the job's lock.
ORIGINS = {
    "the same": (HERE, "-", Origin.HERE),
    "the same under another name": (HERE._replace(name="two"), "-", Origin.HERE),
    "the same, without namespaces": (HERE._replace(process_ids=""), "-", Origin.HERE),
    "started before machines were recorded": (Machine("boot"), "-", Origin.HERE),
    "rebooted": (_OTHER._replace(boot="b"), "-", Origin.EARLIER),
    "rebooted, machines not recorded": (Machine("b"), "-", Origin.EARLIER),
    "its container was restarted": (_OTHER, "free", Origin.EARLIER),
    "another container with this hostname": (_OTHER, "-", Origin.ELSEWHERE),
    "another container, still running": (_OTHER, "held", Origin.ELSEWHERE),
    "another machine with these names": (HERE._replace(boot="b"), "held", Origin.ELSEWHERE),
    "another container of the kernel": (_OTHER._replace(hostname="c2"), "free", Origin.ELSEWHERE),
    "another container without a machine id": (
        _OTHER._replace(machine_id="", hostname="c2"), "free", Origin.ELSEWHERE,
    ),
    "another machine": (Machine("b", "pid:[1]", "m2", "gpu2", "two"), "free", Origin.ELSEWHERE),
    "another machine with this hostname": (
        HERE._replace(boot="b", machine_id="m2"), "free", Origin.ELSEWHERE,
    ),
    "a copy of the image": (HERE._replace(boot="b", hostname="gpu2"), "free", Origin.ELSEWHERE),
    "a copy of the image with this hostname": (
        HERE._replace(boot="b", name="two"), "free", Origin.ELSEWHERE,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("machine", "lock", "origin"), ORIGINS.values(), ids=ORIGINS)
def test_job_origin_is_derived_from_its_machine(
    machine: Machine, lock: str, origin: Origin
) -> None:
    assert machine.origin(HERE, lock) is origin


@pytest.mark.parametrize("shell", SHELLS)
def test_remote_shell_code_applies_the_same_origin_rule(tmp_path: Path, shell: str) -> None:
    words = [word or "-" for word in HERE[1:4]]
    programs = (MACHINE.with_name("identity.sh"), MACHINE, HAS_ENDED)
    text = "".join(Program(__file__, str(program)).text for program in programs)
    text += f"rt_boot() {{ rt_boot={HERE.boot}; }}\n"
    text += f"rt_machine() {{ rt_machine={quote(' '.join(words))}; }}\n"
    name = quote('"host": "one"')
    held: list[TextIO] = []
    for number, (machine, lock, _) in enumerate(ORIGINS.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        known = " ".join(word or "-" for word in machine[1:4])
        number_of_disk = "-" if lock == "-" else tmp_path.stat().st_dev
        (folder / "monitor").write_text(f"7 {machine.boot} 5 {number_of_disk} {known}\n")
        if lock == "held":
            held.append((folder / "monitor").open())
            fcntl.flock(held[-1], fcntl.LOCK_EX)
        (folder / "about").write_text(json.dumps({"host": machine.name} if machine.name else {}))
        text += f"rt_is_elsewhere {folder} {name} && echo {number}\n"

    found = subprocess.run(
        [*shell.split(), "-c", text], capture_output=True, text=True, check=False
    )

    elsewhere = [n for n, (*_, o) in enumerate(ORIGINS.values()) if o is Origin.ELSEWHERE]
    assert found.stderr == ""
    assert list(map(int, found.stdout.split())) == elsewhere


MACHINE = Path(jobs.__file__).parent.parent / "remote" / "machine.sh"
HAS_ENDED = Path(jobs.__file__).with_name("has_ended.sh")

#: Runs a command as on another machine: a boot and a hostname of its own, this home.
_ELSEWHERE = """\
#!/bin/sh
exec unshare --mount --uts sh -c '
  mount --bind "$1" /proc/sys/kernel/random/boot_id && hostname two || exit
  exec sh -c "$SSH_ORIGINAL_COMMAND"
' sh {boot}
"""


@pytest.fixture
def two(server: Sshd, make_sshd: MakeSshd, tmp_path: Path) -> Sshd:
    """Another machine, which shares the home of ``server``."""
    (tmp_path / "boot").write_text(f"{uuid.uuid4()}\n")
    program = tmp_path / "elsewhere"
    program.write_text(_ELSEWHERE.format(boot=tmp_path / "boot"))
    program.chmod(0o755)
    return make_sshd(config=[f"ForceCommand {program}"], environ={"HOME": str(server.home)})


@pytest.fixture
def clients(config: SSHConfig, two: Sshd) -> Iterator[tuple[SSHClient, SSHClient]]:
    other = replace(config, host=two.address, port=two.port, name="two")
    with SSHClient(replace(config, name="one")) as first, SSHClient(other) as second:
        yield first, second


def test_job_of_another_machine_is_listed_and_not_changed(
    clients: tuple[SSHClient, SSHClient], server: Sshd
) -> None:
    one, two = clients
    host = JobHost(server.home, one)
    job = host.start("echo hi; sleep 60", name="n")
    seen = jobs.Job(two, job.id)

    shown = seen.status()
    stopped = seen.stop(0.1)
    pruned = jobs.prune([two], 0)
    with pytest.raises(JobNotStartedError, match="belongs to another machine"):
        jobs.start(two, "true", after=job.id)

    assert (shown.describe(), shown.runs_on, shown.is_ended) == ("runs on one", "one", False)
    assert not stopped.is_gone
    assert f"inv stop {job.id} --host one" in str(stopped)
    assert pruned[0].jobs == ()
    assert is_alive(host.pid(job))
    assert job.status().state is JobState.RUNNING
    assert jobs.find("n", [two, one]).host == "one"
    assert b"".join(seen.logs()) == b"hi\n"


def watchers(home: Path) -> set[str]:
    """The process ids of the sleeps between two looks at the logs of a home."""
    found = set()
    for file in proc_files("cmdline"):
        with contextlib.suppress(OSError):
            is_sleep = file.read_bytes() == b"sleep\x005\x00"
            if is_sleep and f"HOME={home}\0".encode() in file.with_name("environ").read_bytes():
                found.add(file.parent.name)
    return found


@pytest.mark.parametrize(("log_file", "group"), [(None, "-"), ("~/out.log", "")])
def test_job_of_another_container_is_lost_only_if_none_of_its_processes_runs(
    make_container: MakeSshd, server: Sshd, config: SSHConfig, log_file: str | None, group: str
) -> None:
    """The containers have one kernel, hostname and name; the second began after the job."""
    same = {"environ": {"HOME": str(server.home)}, "host_key": server.host_key}
    command = f"kill -9 {group}$(cut -d' ' -f1 ~/.ringtasks/jobs/*/monitor); exec sleep 60"
    first = make_container(**same)
    with SSHClient(replace(config, port=first.port)) as client:
        job = jobs.start(client, command, log_file=log_file)
        eventually(lambda: job.status().state is JobState.RUNNING)
    if log_file:  # its lock is that of the process that watches the log
        first_looks = watchers(server.home)
        eventually(lambda: watchers(server.home) - first_looks, timeout=20)
    second = make_container(**same)
    with SSHClient(replace(config, port=second.port)) as client:
        seen = jobs.Job(client, job.id)
        shown, waited, stopped = seen.status(), seen.wait(0.5), seen.stop(0.1)
        pruned = jobs.prune([client], 0)
        first.stop()
        lost = seen.status()

    assert shown.describe() == waited.describe() == "runs on another machine"
    assert str(stopped).endswith("cannot be stopped from here")
    assert pruned[0].jobs == ()
    assert lost.describe() == "lost gone, as after a restart of its container"


def test_wait_covers_a_job_of_another_machine(
    clients: tuple[SSHClient, SSHClient], server: Sshd
) -> None:
    one, two = clients
    job = JobHost(server.home, one).start("until [ -e ~/go ]; do sleep 0.05; done; exit 3")
    seen = jobs.Job(two, job.id)

    early = seen.wait(0.2)
    (server.home / "go").touch()
    late = seen.wait(20)
    pruned = jobs.prune([two], 0)

    assert early.runs_on == "one"
    assert (late.state, late.exit_status) == (JobState.FAILED, 3)
    assert pruned[0].jobs == ()
    assert job.status().state is JobState.FAILED


def test_queue_does_not_remove_tickets_of_another_machine(
    clients: tuple[SSHClient, SSHClient], server: Sshd
) -> None:
    job = JobHost(server.home, clients[0]).start("sleep 60")
    ticket = server.home / f".ringtasks/queue/1.{job.id}"
    ticket.parent.mkdir(parents=True)
    ticket.write_text((server.home / f".ringtasks/jobs/{job.id}/monitor").read_text())
    come = Program(jobs.__file__, "turn.sh").render(
        rt_id="x", rt_after="", rt_count=1, rt_queue=1, rt_percent="5", rt_mib="500"
    )
    includes = Program(str(MACHINE), "identity.sh").text + Program(str(MACHINE), "machine.sh").text

    clients[1].run(f"{includes}{come}rt_reserve() {{ :; }}; rt_ticket=none; rt_come x")

    assert ticket.exists()


def test_only_the_own_machine_reports_its_job_as_lost_after_a_reboot(
    clients: tuple[SSHClient, SSHClient], server: Sshd
) -> None:
    one, two = clients
    host = JobHost(server.home, one)
    job = host.start("sleep 60")
    os.kill(host.pid(job), signal.SIGKILL)
    eventually(lambda: job.status().is_ended)
    (host.folder(job) / "exit_status").unlink()
    reboot(server.home)

    both = [own for found in jobs.list([two, one]) for own in found.jobs]

    assert [own.describe() for own in both] == ["runs on one", "lost the host was rebooted"]
    assert [own.host_id for own in each_once(both)] == ["one"]
    assert [len(own.jobs) for own in jobs.prune([two, one], 0)] == [0, 1]


@pytest.fixture
def names(server: Sshd, write_hosts: WriteHosts) -> Sshd:
    """The inventory knows one machine under three names."""
    own = {"ssh_host": server.address, "ssh_port": server.port}
    write_hosts(one=own, two=own, three=own)
    return server


def test_machine_with_several_host_names_lists_each_job_once(inv: Inv, names: Sshd) -> None:
    job_id = (
        inv("start", "--host", "two", "--name", "n", "--cmd", "sleep 60").stdout.decode().strip()
    )

    listed = inv("jobs", "--json")
    stopped = inv("stop", f"n,{job_id},{job_id[:8]}", "--grace", "0.1")
    pruned = inv("jobs.prune", "--host", "@all", "--older-than", "0")

    found = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [(job["id"], job["host_id"], job["state"]) for job in found] == [
        (job_id, "two", "running")
    ]
    assert stopped.returncode == 0, stopped
    assert b"on two: terminated (verified)" in stopped.stderr
    assert stopped.stderr.count(b"on two: ") == 1
    assert pruned.stderr.count(b"1 job deleted") == 1
    assert pruned.stderr.count(b"0 jobs deleted") == 2


def test_job_name_started_on_several_hosts_selects_all_of_them(inv: Inv, names: Sshd) -> None:
    command = (
        'echo "$0"; mkdir ~/one 2>/dev/null && exit 3; mkdir ~/two 2>/dev/null && exit 3; exit 0'
    )
    inv("start", "--host", "one", "--name", "sw", "--cmd", "exit 5")  # an earlier one
    started = inv("start", "--host", "@all", "--name", "sw", "--cmd", command)

    waited = inv("wait", "sw")
    logs = inv("logs", "sw", "-f")
    listed = inv("jobs", "--json")

    assert started.returncode == 0, started
    ids = b",".join(line.split()[1] for line in started.stdout.splitlines())
    assert b"follow them all with: inv logs " + ids + b" -f" in started.stderr
    assert waited.returncode == 3
    assert waited.stderr.count(b"failed (3)") == 2
    assert waited.stderr.count(b"succeeded") == 1
    assert logs.returncode == 0
    assert sorted(line.partition(b":")[0] for line in logs.stdout.splitlines()) == [
        b"one/sw", b"three/sw", b"two/sw",
    ]  # fmt: skip
    assert len(listed.stdout.splitlines()) == 4


def job(job_id: str, host: str, state: JobState, batch: str | None, at: float | None) -> JobStatus:
    return JobStatus(job_id, host, state, name="sw", batch=batch, batch_size=2, started_at=at)


def test_job_name_selects_its_last_start_and_running_jobs_on_other_hosts() -> None:
    known = [
        job("a1", "a", JobState.FAILED, "x", 1.0),
        job("b1", "b", JobState.RUNNING, "x", 1.0),
        job("c1", "c", JobState.RUNNING, None, 2.0),
        job("d2", "d", JobState.SUCCEEDED, "y", 3.0),
        job("e2", "e", JobState.RUNNING, "y", 3.0),
    ]

    ended = [replace(own, state=JobState.FAILED) for own in known]

    assert [own.id for own in pick_all("sw", known)] == ["d2", "e2", "b1", "c1"]
    assert [own.id for own in pick_all("sw", ended)] == ["d2", "e2"]


def test_two_running_jobs_of_one_host_and_name_are_ambiguous() -> None:
    known = [job(f"{n}", "a", JobState.RUNNING, None, 1.0) for n in range(2)]

    with pytest.raises(AmbiguousJobError):
        pick_all("sw", known)


def test_wait_for_jobs_of_an_unreachable_host_fails(
    inv: Inv, names: Sshd, write_hosts: WriteHosts, tmp_path: Path
) -> None:
    inv("start", "--host", "one,two", "--name", "sw", "--cmd", "true")
    own = {"ssh_host": names.address, "ssh_port": names.port}
    # "two" is asked for by another machine, which has no memory of it.
    folder = names.home / ".ringtasks/jobs"
    second = next(f for f in folder.iterdir() if '"host": "two"' in (f / "about").read_text())
    eventually(lambda: (second / "exit_status").exists())
    second.rename(names.home / "away")
    gone, of_one, by_id = (
        inv("wait", *what)
        for what in (["sw"], ["sw", "--host", "one"], [next(folder.iterdir()).name])
    )
    write_hosts(one=own, two={**own, "ssh_port": 9})

    waited = inv("wait", "sw", XDG_STATE_HOME=str(tmp_path / "other-state"))

    assert [done.returncode for done in (waited, gone, of_one, by_id)] == [255, 255, 0, 0]
    assert b"1 of 2 jobs are known; the others may be on hosts that could not be" in waited.stderr
    assert b"1 of 2 jobs are known; the others were not started, or their fold" in gone.stderr
