"""The programs that read jobs, in the shells that hosts have: what cannot be read is not absent."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ringtasks import jobs
from ringtasks.jobs import JobState
from ringtasks.jobs.listing import prune_script
from ringtasks.jobs.logs import GOES_ON, NO_LOG, LogPlace, follow_script
from ringtasks.jobs.probe import parse_probe, probe_script, wait_script
from ringtasks.jobs.stop_job import stop_job_script
from ringtasks.remote import launcher
from ringtasks.remote.launcher import JOBS_FOLDER, launch_script
from ringtasks.remote.programs import Program
from ringtasks.ssh.link import STDOUT
from tests.support.shells import SHELLS, run_in

#: Root without the right to ignore modes, as any other user.
AS_USER = "setpriv --bounding-set=-dac_override,-dac_read_search"

Found = subprocess.CompletedProcess[bytes]


class Home:
    """A home with one job that has ended, and one whose process is gone."""

    def __init__(self, shell: str, home: Path) -> None:
        self.shell, self.path = shell, home
        self.jobs = home / JOBS_FOLDER
        for name in ("one", "two"):
            (self.jobs / name).mkdir(parents=True)
            (self.jobs / name / "monitor").write_text("4000000 another-boot 5 -\n")
            (self.jobs / name / "process").write_text("4000001 another-boot 6\n")
        (self.jobs / "one" / "exit_status").write_text("0\n")
        (self.jobs / "one" / "log").write_bytes(b"line\n" * 3000)

    def run(self, script: str, prefix: str = "") -> Found:
        return run_in(self.shell, f"{prefix}\n{script}", self.path)

    def states(self, prefix: str = "") -> dict[str, JobState]:
        found = self.run(probe_script(), prefix)
        assert found.returncode == 0, found
        return {job.id: job.state for job in parse_probe(found.stdout.decode(), "box").values()}


@pytest.fixture(params=SHELLS)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    return Home(request.param, tmp_path)


@pytest.mark.matrix(1)
def test_thousands_of_jobs_are_read(home: Home) -> None:
    for number in range(700):
        folder = home.jobs / f"{number:080}"
        folder.mkdir()
        for file in ("exit_status", "about", "command"):
            (folder / file).write_text("0\n")

    assert len(home.states("ulimit -s 512")) == 702  # execve(2): 128 KiB of arguments


def _unreadable_folder(home: Home) -> None:
    home.jobs.chmod(0)


def _unreadable_home(home: Home) -> None:
    home.path.chmod(0)


def _failing_grep(home: Home) -> None:
    (home.path / "bin").mkdir()
    (home.path / "bin" / "grep").write_text("#!/bin/sh\nexit 137\n")
    (home.path / "bin" / "grep").chmod(0o755)


@pytest.mark.parametrize("damage", [_unreadable_folder, _unreadable_home, _failing_grep])
def test_jobs_that_cannot_be_read_are_not_reported_as_gone(
    home: Home, damage: Callable[[Home], None]
) -> None:
    damage(home)
    home.shell = f"{AS_USER} {home.shell}"

    found = home.run(probe_script(), 'PATH="$HOME/bin:$PATH"')

    home.path.chmod(0o700)
    assert found.returncode != 0, found


@pytest.mark.parametrize("has_pid", [True, False])
def test_job_whose_exit_status_is_a_folder_is_not_reported_to_run(
    home: Home, has_pid: bool
) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (home.jobs / "two" / "process").write_text(f"4000001 {boot} 6\n")
    if has_pid:
        (home.jobs / "two" / "pid").write_text("4000001\n")
    (home.jobs / "two" / "exit_status").mkdir()

    assert home.states()["two"] is JobState.LOST


def test_job_whose_files_cannot_be_read_is_unknown(home: Home) -> None:
    (home.jobs / "two").chmod(0)
    (home.jobs / "one" / "exit_status").chmod(0)
    home.shell = f"{AS_USER} {home.shell}"

    # "test" of BusyBox does not ask the kernel what root may read.
    one = JobState.LOST if "busybox" in home.shell else JobState.UNKNOWN
    assert home.states() == {"one": one, "two": JobState.UNKNOWN}


def test_fifo_in_the_place_of_a_file_of_a_job_is_not_read(home: Home) -> None:
    decisive = {"about", "process", "pid", "monitor", "exit_status"}
    jobs_of_files = {
        file.replace(".", ""): file for file in (*decisive, "log", "log.first", "times")
    }
    for job, file in jobs_of_files.items():
        shutil.copytree(home.jobs / "two", home.jobs / job)
        (home.jobs / job / file).unlink(missing_ok=True)
        os.mkfifo(home.jobs / job / file)

    states = home.states()
    for job in jobs_of_files:
        home.run(wait_script(job, 0.1))
        home.run(follow_script(job, since=1, follow=False))
    home.run(stop_job_script("monitor", "me", 0))

    assert {job for job, state in states.items() if state is JobState.UNKNOWN} == decisive


def test_log_is_complete_whatever_unit_ls_counts_in(home: Home) -> None:
    found = home.run(follow_script("one"), "export BLOCK_SIZE=1K")

    assert (found.returncode, len(found.stdout)) == (0, 15000 + len("ringtasks-offset:0\n")), found


def test_log_that_was_truncated_and_has_outgrown_the_offset_begins_anew(home: Home) -> None:
    got: list[bytes] = []
    place = LogPlace(got.append)
    log = home.jobs / "one" / "log"

    def follow() -> bytes:
        script = follow_script("one", offset=place.offset, follow=False)
        known = "".join(f"export {name}={value}" for name, value in place.environment().items())
        place.take(STDOUT, home.run(script, known).stdout)
        place.restart()
        return got.pop()

    first = follow()
    log.write_bytes(first + b"grown\n")
    grown = follow()
    log.write_bytes(b"other\n" * 4000)
    anew = follow()
    (home.jobs / "one" / "log.first").write_text("20480\n")
    log.write_bytes(b"\0" * 20480 + b"other\n" * 1000)  # a hole as far as a few bytes of what came
    place.offset = 20481
    after_hole = follow()

    assert (first, grown) == (b"line\n" * 3000, b"grown\n")
    assert anew == b"other\n" * 4000
    assert b"the log was truncated" in got.pop()
    assert (after_hole, got) == ((b"other\n" * 1000)[1:], [])


def test_log_that_cannot_be_seen_is_not_reported_as_missing(home: Home) -> None:
    missing = home.run(follow_script("three"))
    (home.jobs / "one").chmod(0)
    home.shell = f"{AS_USER} {home.shell}"

    found = home.run(follow_script("one"))
    (home.jobs / "two" / "log").mkdir()
    folder = home.run(follow_script("two"))

    assert (missing.returncode, found.returncode) == (NO_LOG, 1), found
    assert found.stderr
    assert (folder.returncode, folder.stderr) == (1, b"ringtasks: the log is a folder\n")
    assert GOES_ON not in (missing.returncode, found.returncode)


_IDENTITY = "".join(
    Program(launcher.__file__, f"{name}.sh").text for name in ("identity", "machine")
)
_HAS_ENDED = _IDENTITY + Program(jobs.__file__, "has_ended.sh").text
_RESERVE = "".join(
    [_IDENTITY, *(Program(jobs.__file__, f"{name}.sh").text for name in ("holders", "reserve"))]
)


def test_process_that_cannot_be_read_has_not_ended(home: Home) -> None:
    (home.jobs / "three").mkdir()
    (home.jobs / "nameless").mkdir()
    (home.jobs / "nameless" / "log").touch()
    gone = "999999999 $rt_boot $rt_start"
    script = f"""{_HAS_ENDED}
        cd {home.jobs}; rt_identity - >three/monitor; set -- $rt_boot $rt_start
        ulimit -n 3
        rt_has_ended three && echo three; rt_has_ended two && echo two
        rt_has_ended ./nameless && echo nameless; rt_has_ended ./deleted && echo deleted
        rt_is_alive $$ $1 $2 && echo alive; rt_is_alive {gone} && echo absent
        true"""

    found = home.run(script)

    assert found.stdout == b"deleted\nalive\n", found


def test_job_that_could_not_be_followed_is_not_started(home: Home) -> None:
    (home.path / "bin").mkdir()
    (home.path / "bin" / "ps").write_text("#!/bin/sh\nexit 1\n")
    (home.path / "bin" / "ps").chmod(0o755)
    script = launch_script("0123abcd", "echo > ~/ran", None, "/bin/sh")
    home.shell = f"unshare --mount {home.shell}"

    found = home.run(script, 'mount -t tmpfs none /proc; PATH="$HOME/bin:$PATH"')

    assert found.returncode == 1, found
    assert b"there is no /proc, and ps(1) does not print it" in found.stderr
    assert not (home.path / "ran").exists()
    assert {path.name for path in home.jobs.iterdir()} == {"one", "two"}


def test_reservation_of_another_container_is_held(home: Home) -> None:
    """Its process ids are not those of this container; a restarted container has ended."""
    gpus = home.path / ".ringtasks" / "gpus"
    gpus.mkdir()
    script = f"""{_RESERVE}
        set -- $(rt_identity ""); rt_machine; rt_host=${{rt_machine#* }}
        for rt_id in here gone other restarted moved old; do mkdir -p {home.jobs}/$rt_id; done
        touch {home.jobs}/restarted/log
        echo "1 $2 5 $(stat -c %d .) pid:[7] $rt_host" >{home.jobs}/restarted/monitor
        echo "1 $2 5 - pid:[7] m c2" >{home.jobs}/moved/monitor
        rt_namespace
        ln -s here.$1.$2.$3.$rt_space {gpus}/GPU-0; ln -s gone.$1.$2.5.$rt_space {gpus}/GPU-1
        ln -s other.999999999.$2.5.7 {gpus}/GPU-2; ln -s restarted.1.$2.5.7 {gpus}/GPU-3
        ln -s moved.$1.$2.5.7 {gpus}/GPU-4; ln -s old.$1.$2.5 {gpus}/GPU-5
        rt_in_use() {{ for i in 0 1 2 3 4 5; do echo $i GPU-$i; done; }}
        rt_look
        ln -s other.1.$2.5.7 {gpus}/lock; touch -h -d @1 {gpus}/lock
        rt_me=me; rt_lock && echo locked"""

    found = home.run(script)

    said = found.stdout.decode().splitlines()
    assert [line.split()[0] for line in said] == [
        "taken", "free", "taken", "free", "taken", "free", "locked",
    ], found  # fmt: skip
    assert said[0] == "taken GPU 0: job here;"
    assert said[2] == (
        "taken GPU 2: job other of another container (pid:[7]), not seen from here: "
        f"if it is gone, rm {gpus}/GPU-2;"
    )
    assert found.stderr == b""


def test_prune_removes_only_what_starters_of_this_machine_left(home: Home) -> None:
    ids = {"elsewhere": ".a.999999997", "ended": ".b.999999998", "begun": ".c.999999999"}
    script = f"""{_IDENTITY}
        cd {home.jobs}; mkdir {" ".join(ids.values())}; rt_boot; rt_machine
        echo "999999997 another-boot 5 - pid:[7] other-machine c2" >{ids["elsewhere"]}/monitor
        echo "999999998 $rt_boot 5 - $rt_machine" >{ids["ended"]}/monitor
        mkdir .d.999999999; rt_identity "- $rt_machine" >.d.999999999/monitor
        {prune_script(["one"])}"""

    found = home.run(script)

    left = {path.name for path in home.jobs.iterdir()}
    assert found.returncode == 0, found
    assert left == {"two", ids["elsewhere"], ids["begun"], ".d.999999999"}
