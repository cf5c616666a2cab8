"""``inv start``, ``jobs``, ``logs``, ``wait``, ``stop`` and ``status``, as users see them."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ringtasks.common.durations import ago, duration, lasting, moment
from ringtasks.errors import UsageError
from ringtasks.jobs import Gpu
from ringtasks.jobs.host_status import parse_overview
from ringtasks.output.candidates import candidates
from ringtasks.remote.gpus import parse_gpus
from ringtasks.remote.launcher import JOBS_FOLDER
from tests.support.fixtures import Inv, Start, WriteHosts, gpu_server
from tests.support.jobs import end_jobs, is_waited_for, reboot
from tests.support.nvidia import Gpus
from tests.support.processes import proc_files
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

NOW = 1_795_458_000.0

server = gpu_server


@pytest.fixture
def gpus(tmp_path: Path) -> Gpus:
    return Gpus(tmp_path / "gpus", count=2)


@pytest.fixture
def box(server: Sshd, write_hosts: WriteHosts) -> Sshd:
    """The inventory knows one host, ``box``."""
    write_hosts(box={"ssh_host": server.address, "ssh_port": server.port})
    return server


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stdout.decode() + done.stderr.decode()


def completed_jobs() -> list[str]:
    """The words that a shell offers for a job."""
    return list(candidates("logs job", ["inv", "logs", ""]) or ())


def test_job_tasks_cover_start_status_logs_and_deletion(inv: Inv, box: Sshd) -> None:
    command = "echo one; until [ -e ~/go ]; do sleep 0.05; done; echo two; exit 3"
    started = inv("start", "--host", "box", "--name", "train", "--cmd", command)
    completed = [completed_jobs()]
    running = inv("jobs")
    early = inv("logs", "train")
    (box.home / "go").touch()
    waited = inv("wait", "train")
    late = inv("logs", "train", "-n", "1")
    ended = inv("jobs")
    completed.append(completed_jobs())
    pruned = inv("jobs.prune", "--host", "@all", "--older-than", "0")
    completed.append(completed_jobs())

    job_id = started.stdout.decode().strip()
    assert re.fullmatch(r"[0-9a-f]{16}", job_id)
    assert completed == [["train", job_id, "last", "all"]] * 2 + [["last", "all"]]
    assert re.search(rf"{job_id[:8]} +train +box +running", running.stdout.decode())
    assert early.stdout == b"one\n"
    assert (waited.returncode, waited.stdout) == (3, b"")
    assert f"job {job_id[:8]} (train) on box: failed (3)" in waited.stderr.decode()
    assert late.stdout == b"two\n"
    assert "failed (3)" in ended.stdout.decode()
    assert b"1 job deleted" in pruned.stderr
    assert inv("wait", "train").returncode == 2


def test_jobs_json_has_the_published_fields(inv: Inv, box: Sshd) -> None:
    job_id = inv("start", "--host", "box", "--cmd", "true").stdout.decode().strip()
    inv("wait", job_id)

    listed = inv("jobs", "--json")

    (fields,) = [json.loads(line) for line in listed.stdout.splitlines()]
    assert list(fields)[:10] == [
        "id", "name", "host_id", "state", "exit_status", "pid", "started_at", "ended_at",
        "command", "log_file",
    ]  # fmt: skip
    assert (fields["id"], fields["host_id"], fields["state"]) == (job_id, "box", "succeeded")
    assert (fields["exit_status"], fields["command"]) == (0, "true")
    assert isinstance(fields["pid"], int)


def test_job_that_ended_a_day_ago_is_listed_only_with_all(inv: Inv, box: Sshd) -> None:
    job_id = inv("start", "--host", "box", "--cmd", "true").stdout.decode().strip()
    inv("wait", job_id)
    folder = box.home / ".ringtasks/jobs" / job_id
    (folder / "ended_at").write_text(f"{int(time.time()) - 90_000}\n")

    assert job_id[:8] not in said(inv("jobs"))
    assert job_id[:8] in said(inv("jobs", "--all"))


@pytest.mark.parametrize("command", ["wait", "logs"])
def test_following_and_waiting_tasks_end_with_the_job(inv: Inv, box: Sshd, command: str) -> None:
    said_slowly = r"printf 'a\0\r1%%\rb'; sleep 0.5; echo c"
    inv("start", "--host", "box", "--name", "n", "--cmd", said_slowly)

    done = inv(command, "n", *(["-f"] if command == "logs" else []))

    assert done.returncode == 0
    if command == "logs":
        assert done.stdout == b"a\0\r1%\rbc\n"


def test_known_job_is_found_without_asking_the_other_hosts(
    inv: Inv, server: Sshd, write_hosts: WriteHosts
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.setblocking(False)
        write_hosts(
            box={"ssh_host": server.address, "ssh_port": server.port},
            silent={"ssh_port": other.getsockname()[1], "connect_timeout": 2},
        )
        job_id = inv("start", "--host", "box", "--cmd", "echo one").stdout.decode().strip()
        for name in (job_id, job_id[:8]):
            done = inv("logs", name, "-f")
            assert (done.returncode, done.stdout) == (0, b"one\n"), done.stderr
        inv("start", "--host", "box", "--name", "long", "--cmd", "echo two; exec sleep 50")
        eventually(lambda: inv("logs", "long").stdout == b"two\n")
        with pytest.raises(BlockingIOError):
            other.accept()

        assert inv("logs", "0" * 16).returncode == 255  # it may be on the silent host
        other.accept()[0].close()


def test_logs_of_several_jobs_are_labelled_and_progress_bars_collapsed(inv: Inv, box: Sshd) -> None:
    for name in ("one", "two"):
        bar = r"printf '1%%\r50%%\r100%%\n'"
        inv("start", "--host", "box", "--name", name, "--cmd", f"{bar}; printf '\\033[31m {name}'")
        inv("wait", name)

    done = inv("logs", "one,two")

    assert sorted(done.stdout.decode().splitlines()) == [
        "box/one: 100%",
        "box/one: \N{REPLACEMENT CHARACTER}[31m one",
        "box/two: 100%",
        "box/two: \N{REPLACEMENT CHARACTER}[31m two",
    ]


def test_all_running_jobs_are_followed_together(start: Start, inv: Inv, box: Sshd) -> None:
    for name in ("one", "two"):
        command = f"echo {name}; until [ -e ~/go ]; do sleep 0.05; done; echo end"
        inv("start", "--host", "box", "--name", name, "--cmd", command)
    early = inv("logs", "all")

    following = start("logs", "all", "--host", "box", "-f", stdout=subprocess.PIPE)
    assert following.stdout is not None
    lines = [following.stdout.readline().decode() for _ in range(2)]
    inv("run", "--host", "box", "--cmd", "touch ~/go")
    lines += following.communicate(timeout=20)[0].decode().splitlines(keepends=True)

    assert sorted(early.stdout.decode().splitlines()) == ["box/one: one", "box/two: two"]
    assert sorted(lines[:2]) == ["box/one: one\n", "box/two: two\n"]
    assert sorted(lines[2:]) == ["box/one: end\n", "box/two: end\n"]


def test_ctrl_c_ends_following_and_not_the_job(start: Start, inv: Inv, box: Sshd) -> None:
    started = inv("start", "--host", "box", "--name", "n", "--cmd", "echo up; sleep 60")
    job = started.stdout.strip()
    following = start("logs", "n", "-f", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert following.stdout is not None
    assert following.stdout.readline() == b"up\n"

    following.send_signal(signal.SIGINT)
    _, stderr = following.communicate(timeout=20)

    assert following.returncode == 130
    assert b"follow it with: inv logs " + job + b" -f" in started.stderr
    assert b"reattach with: inv logs " + job + b" -f" in stderr
    assert b"Traceback" not in stderr
    assert "running" in said(inv("jobs"))


def test_ctrl_c_ends_the_wait_and_not_the_job(start: Start, inv: Inv, box: Sshd) -> None:
    started = inv("start", "--host", "box", "--name", "n", "--cmd", "sleep 60")
    waiting = start("wait", "n", stderr=subprocess.PIPE)
    eventually(lambda: is_waited_for(box.home))

    waiting.send_signal(signal.SIGINT)
    _, stderr = waiting.communicate(timeout=20)

    assert waiting.returncode == 130
    assert b"reattach with: inv wait " + started.stdout.strip() in stderr
    assert b"Traceback" not in stderr
    assert "running" in said(inv("jobs"))


def test_wait_timeout_exits_124_and_the_job_keeps_running(inv: Inv, box: Sshd) -> None:
    inv("start", "--host", "box", "--name", "n", "--cmd", "sleep 60")

    done = inv("wait", "n", "--timeout", "500ms")

    assert done.returncode == 124
    assert "running" in said(inv("jobs"))


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [
        ("true", 0, "succeeded"),
        ("exit 7", 7, "failed (7)"),
        ("kill -9 $$", 137, "killed (SIGKILL)"),
    ],
)
def test_wait_exits_with_the_status_of_the_job(
    inv: Inv, box: Sshd, command: str, status: int, told: str
) -> None:
    inv("start", "--host", "box", "--name", "n", "--cmd", command)

    done = inv("wait", "n")

    assert done.returncode == status
    assert told in said(done)


def test_wait_for_a_lost_job_fails(inv: Inv, box: Sshd) -> None:
    job_id = inv("start", "--host", "box", "--cmd", "sleep 60").stdout.decode().strip()
    end_jobs(box.home)

    done = inv("wait", job_id)

    assert done.returncode == 1
    assert "lost gone without a trace" in said(done)


def test_wait_tells_that_only_another_machine_records_the_end(inv: Inv, box: Sshd) -> None:
    job_id = inv("start", "--host", "box", "--cmd", "sleep 60").stdout.decode().strip()
    end_jobs(box.home)
    monitor = box.home / JOBS_FOLDER / job_id / "monitor"
    monitor.write_text(" ".join([*monitor.read_text().split()[:6], "old-name"]) + "\n")
    reboot(box.home)

    done = inv("wait", job_id, "--timeout", "0")

    assert done.returncode == 124
    assert "runs on old-name, which shares this home and alone records its end" in said(done)


def test_stop_means_the_job_that_has_not_ended(inv: Inv, box: Sshd) -> None:
    inv("start", "--host", "box", "--cmd", "true", "--name", "train-1")
    inv("wait", "train-1")
    inv("start", "--host", "box", "--cmd", "sleep 60", "--name", "train-2")

    stopped, again = inv("stop", "train"), inv("stop", "train")

    assert (stopped.returncode, b"train-2" in stopped.stderr) == (0, True)
    assert b"several jobs" in again.stderr


def test_stop_task_shows_evidence_that_the_job_ended(inv: Inv, box: Sshd) -> None:
    inv("start", "--host", "box", "--name", "n", "--cmd", "sleep 61 & sleep 62; true")

    done = inv("stop", "n", "--grace", "1")

    assert done.returncode == 0
    ended, _, _ = said(done).partition("; processes of unknown origin")  # those of other tests
    assert ended.count("(sleep)") == 2
    assert "terminated (verified)" in said(done)
    assert re.search(r"stopped by \S+@\S+", said(inv("jobs")))
    assert inv("wait", "n").returncode == 143


def test_all_jobs_of_hosts_that_were_not_reached_are_unknown(
    inv: Inv, box: Sshd, write_hosts: WriteHosts
) -> None:
    known = {"ssh_host": box.address, "ssh_port": box.port}
    write_hosts(box=known, down={**known, "ssh_port": 9})
    started = [
        inv("start", "--host", "box", "--name", name, "--cmd", "sleep 60").stdout.decode().strip()
        for name in ("other", "one", "two")
    ]

    stopped = [inv("stop", *what) for what in (["one"], ["all", "--host", "@all"])]
    none_left = inv("wait", "all")
    others = ["one", "--host", "@all,!down"]
    by_name, by_id, of_box = (inv("wait", *what) for what in (["one"], [started[1]], others))

    assert [done.returncode for done in stopped] == [255, 255]
    assert [said(done).count("terminated (verified)") for done in stopped] == [1, 2]
    for done in (*stopped, by_name):
        assert "not reached, so unknown: the jobs of down" in said(done)
        assert "or leave them out: --host '@all,!down'" in said(done)
    assert none_left.returncode == 255
    assert "on the hosts that answered; not reached: down" in said(none_left)
    assert [done.returncode for done in (by_name, by_id, of_box)] == [1, 143, 143]


def test_jobs_of_an_unreachable_host_are_unknown_and_never_failed(inv: Inv, box: Sshd) -> None:
    inv("start", "--host", "box", "--name", "ended", "--cmd", "true")
    inv("wait", "ended")
    inv("start", "--host", "box", "--name", "n", "--cmd", "sleep 60")
    inv("jobs")
    box.revoke_all()

    shown, as_json = inv("jobs"), inv("jobs", "--json")
    waited, stopped = inv("wait", "n", "--patience", "0"), inv("stop", "n")
    unknown = inv("wait", "no-such")
    log, last, ended = inv("logs", "n"), inv("logs", "last"), inv("logs", "ended")

    assert shown.returncode == as_json.returncode == 255
    assert re.search(r"n +box +unknown since \d\d:\d\d", shown.stdout.decode())
    assert "failed" not in shown.stdout.decode()
    assert json.loads(as_json.stdout)["state"] == "unknown"
    assert json.loads(as_json.stdout)["exit_status"] is None
    assert (waited.returncode, stopped.returncode, unknown.returncode) == (255, 255, 255)
    assert b"not reached: box" in unknown.stderr
    assert (log.returncode, last.returncode, ended.returncode) == (255, 255, 255)
    assert re.search(r"at its last answer, \d\d:\d\d, it had not ended; its log", said(log))
    assert re.search(r"last: job \w{16} \(n\) on box; not reached", said(last))
    assert re.search(r"at its last answer, \d\d:\d\d, that job had ended \(\w{16}\)", said(ended))
    assert "none accepted" in said(log)
    assert "none accepted" in said(ended)


def test_job_started_after_a_named_job_waits_for_its_end(inv: Inv, box: Sshd) -> None:
    first = "until [ -e ~/go ]; do sleep 0.05; done; echo first >> ~/order"
    second = ("--name", "second", "--after", "first", "--cmd", "echo second >> ~/order")
    inv("start", "--host", "box", "--name", "first", "--cmd", first)
    done = inv("start", "--host", "box", *second)
    listed = said(inv("jobs"))
    (box.home / "go").touch()

    assert done.returncode == 0, said(done)
    assert re.search(r"second +box +queued for \S+ to end", listed)
    assert inv("wait", "first,second").returncode == 0
    assert (box.home / "order").read_text() == "first\nsecond\n"


def test_start_with_busy_gpus_fails_or_waits(inv: Inv, box: Sshd) -> None:
    held = "until [ -e ~/go ]; do sleep 0.05; done"
    inv("start", "--host", "box", "--name", "first", "--gpus", "2", "--cmd", held)
    refused = inv("start", "--host", "box", "--gpus", "1", "--cmd", "true")
    queued = inv(
        "start", "--host", "box", "--name", "next", "--gpus", "1", "--queue", "--cmd", "true"
    )
    (box.home / "go").touch()

    assert (refused.returncode, refused.stdout) == (1, b"")
    assert "there are 0 of 2" in refused.stderr.decode()
    assert queued.returncode == 0
    assert inv("wait", "next").returncode == 0


@pytest.mark.parametrize("flags", [("--env", "TOKEN=hunter2"), ("--env-file", ".env")])
def test_secret_in_the_job_environment_is_never_shown(
    inv: Inv, box: Sshd, tmp_path: Path, flags: tuple[str, str]
) -> None:
    (tmp_path / ".env").write_text("TOKEN=hunter2\n")
    done = inv("start", "--host", "box", "--cmd", 'echo "n$TOKEN"; sleep 60', *flags)
    assert b"nhunter2" in inv("logs", done.stdout.decode().strip()).stdout

    shown = said(done) + said(inv("jobs", "--json")) + said(inv("status", "--json"))
    assert "hunter2" not in shown
    for file in proc_files("cmdline"):
        try:
            assert b"hunter2" not in file.read_bytes()
        except OSError:
            continue


def test_job_of_an_embedded_host_outlives_the_process(inv: Inv, write_hosts: WriteHosts) -> None:
    demo = {"embedded": True, "ssh_host": None, "ssh_port": None}
    write_hosts(demo=demo)
    wait = "until [ -e go ]; do sleep 0.05; done; echo step 1 loss=2"

    assert inv("start", "--host", "demo", "--name", "train", "--cmd", wait).returncode == 0
    assert "running" in inv("jobs").stdout.decode()
    assert inv("run", "--host", "demo", "--cmd", "touch go").returncode == 0
    assert inv("wait", "last").returncode == 0
    assert inv("logs", "train").stdout == b"step 1 loss=2\n"
    assert json.loads(inv("plot", "train", "--json").stdout)["value"] == 2
    assert b"did you mean train?" in inv("logs", "trains").stderr

    write_hosts(demo=demo, idle=demo, box={})
    assert inv("logs", "last").stdout == b"step 1 loss=2\n"
    assert inv("wait", "train").returncode == 0
    assert b"demo" not in inv("jobs", "--all", "--host", "@all").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["start", "--host", "box"], "--cmd is required"),
        (["start", "--cmd", "true"], "--host is required"),
        (["start", "--host", "box", "--cmd", "true", "--gpus", "x"], "--gpus: expected"),
        (["start", "--host", "box", "--cmd", "true", "--name", "a,b"], "means several jobs"),
        (["start", "--host", "box", "--cmd", "true", "--after", "nope"], "nope: no such job"),
        (
            ["logs", "all", "--host", "box"],
            "no job is running on these hosts; 'inv jobs --all' shows",
        ),
        (["logs", "x", "--number", "-1"], "--number: expected"),
        (["logs", ""], "expected the id or the name of a job, got ''"),
        (["wait", "nope"], "nope: no such job: 'inv jobs --all'"),
        (["stop", "all"], "needs --host"),
        (["jobs.prune", "--host", "box", "--older-than", "long"], "--older-than: expected"),
        (["jobs.prune"], "--host is required"),
    ],
)
def test_usage_error_of_job_tasks_exits_2_with_a_message(
    inv: Inv, box: Sshd, arguments: list[str], told: str
) -> None:
    done = inv(*arguments)

    assert (done.returncode, done.stdout) == (2, b"")
    assert told in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_jobs_watch_runs_until_ctrl_c(start: Start, inv: Inv, box: Sshd) -> None:
    inv("start", "--host", "box", "--name", "n", "--cmd", "sleep 60")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    watching = start("jobs", "--watch", "--json", **pipes)
    assert watching.stdout is not None
    first, second = watching.stdout.readline(), watching.stdout.readline()

    watching.send_signal(signal.SIGINT)
    _, stderr = watching.communicate(timeout=20)

    assert json.loads(first)["state"] == json.loads(second)["state"] == "running"
    assert (watching.returncode, stderr) == (0, b"")


def test_status_shows_gpus_memory_disk_and_jobs_of_a_host(inv: Inv, box: Sshd, gpus: Gpus) -> None:
    gpus.set(1, memory_used=40_000, utilization_gpu=90)
    gpus.occupy(1, pid=4711)
    inv("start", "--host", "box", "--cmd", "sleep 60")

    shown, as_json = inv("status"), inv("status", "--json")

    assert b"box: not free: GPU 1: process 4711\n" in shown.stderr
    text = shown.stdout.decode()
    assert "2 NVIDIA H100 80GB HBM3: 1 free" in text
    assert "45 %" in text
    assert "1 running" in text
    (fields,) = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [gpu["pids"] for gpu in fields["gpus"]] == [[], [4711]]
    assert 0 < fields["memory_available"] < fields["memory_total"]
    assert 0 < fields["disk_available"] < fields["disk_total"]
    assert abs(fields["clock"] - time.time()) < 60


@pytest.mark.parametrize("trouble", ["missing", "fails"])
def test_status_of_a_host_without_a_gpu_driver_shows_everything_else(
    inv: Inv, box: Sshd, gpus: Gpus, trouble: str
) -> None:
    if trouble == "missing":
        (gpus.bin / "nvidia-smi").unlink()
    else:
        gpus.fail("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")

    done = inv("status", "--json")

    fields = json.loads(done.stdout)
    assert (done.returncode, fields["gpus"], fields["error"]) == (0, [], None)
    assert fields["memory_total"] > 0


def test_status_reports_an_unreachable_host(inv: Inv, box: Sshd) -> None:
    box.revoke_all()

    done = inv("status")

    assert done.returncode == 255
    assert "not reached" in done.stdout.decode()
    assert "refused" in done.stderr.decode()


MACHINE = """\
gpu 1, GPU-b, NVIDIA H100, the second, 81559, [N/A], [Not Supported]
gpu 0, GPU-a, NVIDIA H100, 81559, 12, 97
gpu nonsense
app GPU-a, 12, 400
app GPU-a, 13, [N/A]
tool nvidia-smi 14
said WARNING: infoROM is corrupted
clock 1010
disk map auto home 488245288 100 244000000 51% /System/Volumes/Data home
{memory}
cpus 10
load {load}
ringtasks-jobs:
ringtasks-boot:b
ringtasks-now:1010
ringtasks-asked:
"""


@pytest.mark.parametrize(
    ("memory", "load", "expected"),
    [
        (
            "MemTotal:       1000 kB\nMemAvailable:    400 kB",
            "0.52 0.58 0.59 1/977 4242",
            (1_024_000, 409_600, 0.52),
        ),
        (
            "memsize: 17179869184\nMach Virtual Memory Statistics: (page size of 16384 bytes)\n"
            "Pages free:                    100.\nPages active:   7.\nPages inactive:  20.\n"
            "Pages speculative:  3.",
            "{ 1.25 1.50 1.75 }",
            (17_179_869_184, 123 * 16_384, 1.25),
        ),
        ("", "", (None, None, None)),
    ],
    ids=["Linux", "macOS", "neither"],
)
def test_host_output_is_parsed_into_its_status_overview(
    memory: str, load: str, expected: tuple[Any, ...]
) -> None:
    lines = "\n".join(f"memory {line}" for line in memory.split("\n"))

    own = parse_overview(MACHINE.format(memory=lines, load=load), "box")

    assert (own.memory_total, own.memory_available, own.load) == expected
    assert (own.disk_total, own.disk_available) == (488245288 * 1024, 244000000 * 1024)
    assert (own.cpus, own.clock) == (10, 1010.0)
    assert [gpu.pids for gpu in own.gpus] == [(12, 13), ()]
    assert own.gpus[1] == Gpu(1, "GPU-b", "NVIDIA H100, the second", 81559, fault="[N/A]")
    assert own.gpu_message == "nvidia-smi ended with exit status 14: WARNING: infoROM is corrupted"


def test_gpu_is_free_if_no_process_and_no_job_uses_it() -> None:
    rows = "".join(f"{n}, GPU-{n}, H100, 80000, {n * 2000}, 1\n" for n in range(4))

    found = parse_gpus(rows, "GPU-0, 12, 1\n", {"GPU-1": "j"})

    assert [gpu.in_use for gpu in found] == [
        "process 12", "job j", "", "6000 MiB in use by no visible process",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("7d", 604_800), ("1w", 604_800)],
)
def test_durations_are_parsed(text: str, seconds: float) -> None:
    assert duration("--since", text) == seconds


@pytest.mark.parametrize("text", ["", "x", "10y", "-5m", "1h2m"])
def test_invalid_duration_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--since: expected a duration"):
        duration("--since", text)


def test_times_are_parsed_in_the_local_time_zone() -> None:
    today = time.strftime("%Y-%m-%d", time.localtime(NOW))
    clock = time.strftime("%H:%M:%S", time.localtime(NOW - 60))
    later = time.strftime("%H:%M:%S", time.localtime(NOW + 60))

    assert moment("-s", "10m", NOW) == NOW - 600
    assert moment("-s", clock, NOW) == NOW - 60
    assert moment("-s", later, NOW) == NOW + 60 - 86400
    assert moment("-s", f"{today}T00:00", NOW) <= NOW
    with pytest.raises(UsageError, match="expected 10m, 14:02"):
        moment("-s", "yesterday", NOW)
    with pytest.raises(UsageError, match="expected 10m, 14:02"):
        moment("-s", "25:00", NOW)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0, "0 s"), (59, "59 s"), (60, "1 min"), (7500, "2 h 5 min"), (90_000, "1 d 1 h")],
)
def test_durations_are_formatted(seconds: float | None, text: str) -> None:
    assert lasting(seconds) == text


def test_time_in_the_future_is_shown_as_just_now() -> None:
    assert ago(2000.0, 1000.0) == "0 s ago"
    assert ago(None, 1000.0) == ""


def test_run_task_imports_no_job_module() -> None:
    code = (
        "import ringtasks.tasks, ringtasks.client, sys;"
        "print([name for name in sys.modules if name.startswith('ringtasks.jobs')])"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_job_started_by_the_library_is_listed_by_the_program(
    inv: Inv, box: Sshd, client_key: Path
) -> None:
    import asyncio

    from ringtasks import SSHClient, SSHConfig

    config = SSHConfig(box.address, box.port, box.user, str(client_key), use_control_master=False)
    with SSHClient(config) as client:
        asyncio.run(client.run_background("echo unnamed; exit 4"))

    listed = eventually(lambda: ended(inv("jobs", "--json")))

    assert (listed["name"], listed["state"], listed["exit_status"]) == (None, "failed", 4)
    assert inv("logs", listed["id"]).stdout == b"unnamed\n"


def ended(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any] | None:
    fields: dict[str, Any] = json.loads(done.stdout)
    return fields if fields["exit_status"] is not None else None
