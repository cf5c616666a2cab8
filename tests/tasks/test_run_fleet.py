"""``inv run`` on several hosts, as people and CI use it: the real program against a real sshd."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ringtasks.common import interruption
from ringtasks.health.store import HealthStore
from tests.support.faulty import Silent
from tests.support.fixtures import Inv, Start, WriteHosts
from tests.support.runs import assert_refused, is_running
from tests.support.sshd import Sshd

_DEADLINE = 20.0  # seconds

#: Differs from host to host: the folder is the host's ``work_dir``.
WHERE = "echo $PWD"


@pytest.fixture
def three(write_hosts: WriteHosts) -> Path:
    return write_hosts(
        gpu1={"work_dir": "/"}, gpu2={"work_dir": "/"}, gpu3={"work_dir": "/tmp"},
    )  # fmt: skip


def test_equal_outputs_are_shown_once_under_folded_host_names(inv: Inv, three: Path) -> None:
    done = inv("run", "--host", "@all", "--fold", "--cmd", WHERE)

    rule = "-" * 15
    assert done.stdout.decode() == (
        f"{rule}\ngpu[1-2] (2)\n{rule}\n/\n{rule}\ngpu3\n{rule}\n/tmp\n"
    )
    assert done.returncode == 0


def test_hosts_with_another_exit_status_form_a_group_with_its_own_heading(
    inv: Inv, three: Path
) -> None:
    done = inv("run", "--host", "@all", "--fold", "--cmd", "[ $PWD = / ] || exit 7")

    assert b"\ngpu3: exit status 7\n" in done.stdout
    assert done.returncode == 7


def test_outputs_that_differ_from_the_majority_are_shown_as_diffs(inv: Inv, three: Path) -> None:
    done = inv("run", "--host", "@all", "--diff", "--cmd", f"echo same; {WHERE}")

    assert done.stdout.decode().splitlines()[3:] == [
        "same", "/", "--- gpu[1-2] (2)", "+++ gpu3", "@@ -1,2 +1,2 @@", " same", "-/", "+/tmp",
    ]  # fmt: skip


def test_each_host_and_stream_has_an_output_file_with_unchanged_bytes(
    inv: Inv, three: Path, tmp_path: Path
) -> None:
    command = r"echo $PWD; printf '\377\033[2J' >&2"

    done = inv("run", "--host", "@all", "--outdir", "out/here", "--cmd", command)

    folder = tmp_path / "out" / "here"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "gpu1.out": b"/\n", "gpu2.out": b"/\n", "gpu3.out": b"/tmp\n",
        "gpu1.err": b"\xff\x1b[2J", "gpu2.err": b"\xff\x1b[2J", "gpu3.err": b"\xff\x1b[2J",
    }  # fmt: skip
    assert b"gpu3: /tmp\n" in done.stdout


def test_output_files_are_written_with_folded_output(inv: Inv, three: Path, tmp_path: Path) -> None:
    inv("run", "--host", "@all", "--outdir", "out", "--fold", "--cmd", WHERE)

    assert (tmp_path / "out" / "gpu3.out").read_bytes() == b"/tmp\n"


def test_output_file_replaces_links_and_pipes_of_other_users(
    inv: Inv, three: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "gpu1.out").symlink_to("../mine")
    os.mkfifo(tmp_path / "out" / "gpu2.out")
    os.link(tmp_path / "mine", tmp_path / "out" / "gpu3.out")

    inv("run", "--host", "@all", "--outdir", "out", "--cmd", "echo evil", timeout=15)

    assert (tmp_path / "mine").read_text() == "mine"
    for number in (1, 2, 3):
        file = tmp_path / "out" / f"gpu{number}.out"
        assert (file.is_symlink(), file.read_text()) == (False, "evil\n")


@pytest.mark.parametrize("flags", [[], ["--fold"], ["--diff"]], ids=["lines", "fold", "diff"])
def test_escape_sequences_of_a_host_never_reach_the_terminal(
    inv: Inv, three: Path, flags: list[str]
) -> None:
    command = r"printf 'a\033]0;title\007b\033[2Jc\r\n'; printf '\033[31m%s\n' $PWD >&2"

    done = inv("run", "--host", "@all", *flags, "--cmd", command)

    assert b"\x1b" not in done.stdout + done.stderr
    assert b"\r" not in done.stdout + done.stderr
    assert b"title" in done.stdout


def test_unterminated_line_is_not_mixed_with_a_line_of_another_host(inv: Inv, three: Path) -> None:
    command = "for i in 1 2 3 4 5; do printf part-$i-; sleep 0.02; done"

    done = inv("run", "--host", "@all", "--cmd", command)

    whole = b"part-1-part-2-part-3-part-4-part-5-"
    assert sorted(done.stdout.splitlines()) == [b"gpu%d: %s" % (n, whole) for n in (1, 2, 3)]


def test_json_lists_every_host_in_inventory_order(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(slow={"work_dir": "/"}, dead={"ssh_port": 9}, quick={"work_dir": "/tmp"})

    done = inv("run", "--host", "@all", "--json", "--cmd", "[ $PWD = /tmp ] || sleep 0.5")

    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["host_id"], one["returncode"]) for one in told] == [
        ("slow", 0), ("dead", 255), ("quick", 0),
    ]  # fmt: skip
    assert done.stderr == b""


def test_summary_counts_hosts_and_gives_failure_reasons(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={}, b={"ssh_port": 9}, c={"ssh_port": 9, "ssh_host": "127.0.0.2"})

    done = inv("run", "--host", "@all", "--cmd", "true")

    first, second, *_ = done.stderr.decode().splitlines()
    assert re.fullmatch(r"ringtasks: 3 hosts in \d+\.\d s: 1 succeeded, 2 unreachable", first)
    assert second == "ringtasks:   unreachable: b,c (2): direct: refused"
    assert done.returncode == 255


def test_route_fallbacks_of_all_hosts_are_reported_together(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(
        a1={"tailscale_ip": "127.0.0.1", "tailscale_port": 9},
        a2={"tailscale_ip": "127.0.0.1", "tailscale_port": 9},
    )

    done = inv("run", "--host", "@all", "--cmd", "true")

    assert b"ringtasks:   a[1-2] (2): tailscale refused; connected via direct\n" in done.stderr


def test_rerun_failed_runs_only_the_hosts_that_did_not_succeed(inv: Inv, three: Path) -> None:
    inv("run", "--host", "@all", "--cmd", "[ $PWD = /tmp ]")

    again = inv("run", "--rerun-failed", "--json", "--cmd", "true")
    once_more = inv("run", "--rerun-failed", "--cmd", "true")

    told = [json.loads(line)["host_id"] for line in again.stdout.splitlines()]
    assert told == ["gpu1", "gpu2"]
    assert_refused_alone(once_more, "succeeded on all hosts")


def test_rerun_failed_refuses_another_inventory(inv: Inv, three: Path, tmp_path: Path) -> None:
    staging, production = tmp_path / "staging.yaml", tmp_path / "production.yaml"
    for path in (staging, production):
        path.write_bytes(three.read_bytes())
    current = tmp_path / "current.yaml"
    current.symlink_to(staging)
    failing = ["run", "--cmd", "[ $PWD = /tmp ]"]
    inv(*failing, "--host", "@all", "--inventory", str(current))
    current.unlink()
    current.symlink_to(production)

    others = [inv(*failing, "--rerun-failed", "--inventory", str(p)) for p in (production, current)]
    same = inv(*failing, "--rerun-failed", "--inventory", str(staging), "--json")

    for other in others:
        assert (other.returncode, other.stdout) == (2, b"")
        told = f"used another inventory; to use it again: --inventory {staging}"
        assert told.encode() in other.stderr
    assert [json.loads(line)["host_id"] for line in same.stdout.splitlines()] == ["gpu1", "gpu2"]


def test_rerun_failed_refuses_a_host_at_another_address(inv: Inv, three: Path) -> None:
    failing = ["run", "--cmd", "[ $PWD = /tmp ]"]
    inv(*failing, "--host", "@all")
    hosts = yaml.safe_load(three.read_text())
    hosts["hosts"]["gpu2"]["ssh_port"] += 1
    three.write_text(yaml.safe_dump(hosts))

    moved = inv(*failing, "--rerun-failed")
    hosts["hosts"]["gpu2"]["ssh_port"] -= 1
    hosts["hosts"]["gpu2"]["role"] = "new"
    three.write_text(yaml.safe_dump(hosts))
    three.rename(three.with_name("renamed.yaml"))
    same = inv(*failing, "--rerun-failed", "--json")

    assert (moved.returncode, moved.stdout) == (2, b"")
    assert b"--rerun-failed: gpu2 had another address in the last 'run'" in moved.stderr
    assert b"name the hosts: --host gpu1,gpu2" in moved.stderr
    assert len(same.stdout.splitlines()) == 2


def test_named_run_is_kept_when_another_run_is_recorded(inv: Inv, three: Path) -> None:
    inv("run", "--name", "my run", "--host", "@all", "--cmd", "[ $PWD = /tmp ]")
    inv("run", "--host", "@all", "--cmd", "[ $PWD = / ]")

    last = inv("run", "--rerun-failed", "--json", "--cmd", "true")
    again = inv("run", "--rerun-failed", "--name", "my run", "--json", "--cmd", "true")
    unknown = inv("run", "--rerun-failed", "--name", "other", "--cmd", "true")

    assert [json.loads(line)["host_id"] for line in again.stdout.splitlines()] == ["gpu1", "gpu2"]
    assert [json.loads(line)["host_id"] for line in last.stdout.splitlines()] == ["gpu3"]
    assert (unknown.returncode, unknown.stdout) == (2, b"")
    assert b"no 'run --name other' on several hosts is remembered yet" in unknown.stderr


def test_rerun_failed_can_be_limited_by_host(inv: Inv, three: Path) -> None:
    inv("run", "--host", "@all", "--cmd", "[ $PWD = /tmp ]")

    again = inv("run", "--rerun-failed", "--host", "!gpu1", "--json", "--cmd", "true")

    assert [json.loads(line)["host_id"] for line in again.stdout.splitlines()] == ["gpu2"]


def test_run_on_one_host_does_not_replace_the_remembered_failures(inv: Inv, three: Path) -> None:
    inv("run", "--host", "@all", "--cmd", "[ $PWD = /tmp ]")
    inv("run", "--host", "gpu3", "--cmd", "true")

    again = inv("run", "--rerun-failed", "--json", "--cmd", "true")

    assert len(again.stdout.splitlines()) == 2


def test_run_dry_run_shows_hosts_routes_and_script_and_sends_nothing(
    inv: Inv, three: Path, sshd: Sshd
) -> None:
    before = sshd.accepted_logins()

    done = inv("run", "--host", "@all", "--dry-run", "--env", "A=secret", "--cmd", "echo 'x'")

    said = done.stdout.decode()
    assert re.search(r"^gpu1 +direct 127\.0\.0\.1:\d+ +ssh ", said, re.MULTILINE)
    assert "gpu[1-2] (2):\n" in said
    assert "cd '/tmp' || exit 1" in said
    assert "export A='***'" in said
    assert "secret" not in said + done.stderr.decode()
    assert (done.returncode, sshd.accepted_logins()) == (0, before)
    assert HealthStore().load() == {}


def test_run_dry_run_can_be_json(inv: Inv, three: Path) -> None:
    done = inv("run", "--host", "gpu1", "--dry-run", "--json", "--cmd", "true")

    (told,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert told["host_id"] == "gpu1"
    assert told["routes"][0].startswith("direct 127.0.0.1:")
    assert "eval 'true'" in told["script"]


def test_a_local_script_runs_with_its_arguments_on_every_host(
    inv: Inv, three: Path, tmp_path: Path
) -> None:
    (tmp_path / "s.py").write_text("#!/usr/bin/env python3\nimport sys; print(sys.argv[1:])\n")

    done = inv("run", "--host", "@all", "--script", "s.py", "--arg", "a b", "--arg=-x", "--json")

    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["stdout"] for one in told] == ["['a b', '-x']\n"] * 3
    assert told[0]["command"] == "s.py 'a b' -x"


def test_local_script_output_of_one_host_is_unchanged(
    inv: Inv, three: Path, tmp_path: Path
) -> None:
    (tmp_path / "s").write_text("cat; exit 4")

    done = inv("run", "--host", "gpu1", "--script", "s", stdin=b"\xff\x1b")

    assert (done.stdout, done.returncode) == (b"\xff\x1b", 4)


def test_piped_stdin_reaches_every_host_of_a_run(inv: Inv, three: Path) -> None:
    sent = b"x" * 500_000 + b"\n"

    done = inv("run", "--host", "@all", "--cmd", "wc -c", stdin=sent)

    assert sorted(done.stdout.splitlines()) == [b"gpu%d: 500001" % n for n in (1, 2, 3)]


def test_endless_stdin_does_not_keep_the_run_from_ending(start: Start, three: Path) -> None:
    with start(
        *RUN, "--cmd", "echo done", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert len(running.stdout.read().splitlines()) == 3
        assert running.wait(20) == 0


def test_run_in_batches_stops_at_the_failure_limit(inv: Inv, three: Path) -> None:
    done = inv("run", "--host", "@all", "--serial", "1", "--max-failures", "1", "--cmd", "exit 5")

    assert done.returncode == 5
    assert b"3 hosts" in done.stderr
    assert b": 1 failed, 2 skipped" in done.stderr
    assert b"skipped: gpu[2-3] (2): not started: 1 failure before" in done.stderr


def test_pick_selects_the_healthiest_hosts_and_shows_a_single_one_verbatim(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(bad={"ssh_port": 9}, good={}, unknown={})
    inv("run", "--host", "bad,good", "--cmd", "true")

    done = inv("run", "--host", "@all", "--pick", "1", "--cmd", r"printf '\377'")

    assert (done.stdout, done.stderr, done.returncode) == (b"\xff", b"", 0)


def test_run_that_skips_every_host_fails(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={"ssh_port": 9}, b={"ssh_port": 9})
    for _ in range(3):
        inv("run", "--host", "@all", "--cmd", "true")

    done = inv("run", "--host", "@all", "--skip-unhealthy", "--cmd", "true")

    assert done.returncode == 255
    assert b"2 skipped" in done.stderr


@pytest.mark.matrix(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "TERM"])
def test_interrupt_ends_the_remote_processes_and_reports_every_host(
    start: Start, three: Path, number: int
) -> None:
    with start(
        *RUN, "--fanout", "2", "--cmd", "echo $$; sleep 61",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stderr is not None
        pids = [int(running.stdout.readline().split()[1]) for _ in range(2)]
        running.send_signal(number)
        said = running.stderr.read().decode()

    assert running.returncode == 128 + number
    assert "2 failed, 1 skipped" in said
    assert "interrupted; the remote processes were terminated (verified)" in said
    assert "Traceback" not in said
    assert [pid for pid in pids if is_running(pid)] == []


def test_second_interrupt_exits_at_once(start: Start, three: Path) -> None:
    command = "echo $$; trap '' TERM; while :; do sleep 0.2; done"
    with start(
        *RUN, "--fanout", "2", "--cmd", command,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stderr is not None
        pids = [int(running.stdout.readline().split()[1]) for _ in range(2)]
        running.send_signal(signal.SIGINT)
        assert b"stopping; Ctrl-C again exits at once" in running.stderr.readline()
        time.sleep(interruption.REPEAT_TIME)
        running.send_signal(signal.SIGINT)  # the processes ignore TERM: to stop them takes 2 s
        said = running.stderr.read().decode()
        assert running.wait(10) == 130
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # the first Ctrl-C may have got there
            os.kill(pid, signal.SIGKILL)

    # On a busy machine the time for the report passes.
    assert (
        "2 outcome unknown" in said or "exited at once: the commands may still be running" in said
    )
    assert "Traceback" not in said


def test_unreachable_hosts_do_not_delay_an_interrupt(start: Start, write_hosts: WriteHosts) -> None:
    with Silent() as silent:
        place = {"ssh_host": silent.address, "ssh_port": silent.port, "connect_timeout": 60}
        write_hosts(a=place, b=place)
        with start(
            *RUN, "--cmd", "true", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as running:
            assert running.stderr is not None
            deadline = time.monotonic() + _DEADLINE
            while silent.connections < 2:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            running.send_signal(signal.SIGINT)
            said = running.stderr.read()

    assert running.returncode == 130, said
    assert b"skipped: a,b (2): interrupted before it was reached" in said


def test_closed_output_pipe_ends_the_commands_of_all_hosts(start: Start, three: Path) -> None:
    with start(
        *RUN, "--cmd", "echo $$; exec yes",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stderr is not None
        pids: set[int] = set()
        while len(pids) < 3:
            word = running.stdout.readline().split()[1]
            pids |= {int(word)} if word.isdigit() else set()
        running.stdout.close()
        said = running.stderr.read()

    assert running.returncode == 141
    assert b"Traceback" not in said
    assert [pid for pid in pids if is_running(pid)] == []


def test_a_terminal_shows_progress_and_colours_and_a_pipe_does_not(
    inv: Inv, start: Start, three: Path
) -> None:
    plain = inv("run", "--host", "@all", "--cmd", "sleep 1.5; echo x")

    on_terminal = in_terminal(start, "--cmd", "sleep 1.5; echo x")

    assert re.search(rb"0/3 hosts, 1 s", on_terminal)
    assert re.search(rb"\x1b\[\d+mgpu1:\x1b\[0m x\r\n", on_terminal)
    assert b"\x1b" not in plain.stdout + plain.stderr
    assert b"0/3" not in plain.stderr


def test_a_run_of_less_than_a_second_shows_no_progress(start: Start, three: Path) -> None:
    runs = (in_terminal(start, "--cmd", "true") for _ in range(5))  # a busy machine is slow
    assert any(b"/3 hosts" not in printed for printed in runs)


def in_terminal(start: Start, *flags: str) -> bytes:
    """Return the output of the program on a terminal."""
    terminal, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm"}
    with start(*RUN, *flags, stdin=theirs, stdout=theirs, stderr=theirs, env=env):
        os.close(theirs)
        shown = b"".join(_read_all(terminal))
    os.close(terminal)
    return shown


def _read_all(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # EIO: the other side is closed
            return
        if not piece:
            return
        yield piece


RUN = ("run", "--host", "@all")


BAD_INPUT = {
    "fanout 0": (["--fanout", "0"], "--fanout: expected a whole number, at least 1"),
    "fanout no number": (["--fanout", "many"], "--fanout"),
    "serial 0": (["--serial", "0"], "--serial: expected a whole number from 1, or 1% to 100%"),
    "serial 0%": (["--serial", "0%"], "--serial"),
    "failures over 100 %": (["--max-failures", "101%"], "--max-failures: expected"),
    "serial of one host": (["--host", "gpu1", "--serial", "x"], "--serial: expected"),
    "pick 0": (["--pick", "0"], "--pick"),
    "script not there": (["--script", "no.sh"], "--script: no.sh: No such file"),
    "argument without script": (["--arg", "x"], "--arg is for --script"),
    "outdir is a file": (["--outdir", "tasks.py"], "--outdir: tasks.py: File exists"),
    "nothing to run again": (["--rerun-failed"], "no 'run' on several hosts is remembered"),
    "no host matched": (["--host", "gpu*,!gpu*"], "no host matches"),
    "fold and diff": (["--fold", "--diff"], "--fold, --diff and --json"),
    "fold and json": (["--fold", "--json"], "--fold, --diff and --json"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_of_a_fleet_run_exits_2_with_one_line(inv: Inv, three: Path, case: str) -> None:
    flags, expected = BAD_INPUT[case]
    command = [] if "--script" in flags else ["--cmd", "true"]
    host = [] if "--host" in flags else ["--host", "@all"]

    assert_refused(inv("run", *host, *command, *flags), expected)


def test_command_and_script_together_are_a_usage_error(inv: Inv, three: Path) -> None:
    done = inv("run", "--host", "@all", "--cmd", "true", "--script", "s")

    assert_refused(done, "--cmd and --script: give one of them")


def test_run_on_one_host_imports_no_fleet_only_module(inv: Inv, three: Path) -> None:
    done = inv("run", "--host", "gpu1", "--cmd", "true", PYTHONPROFILEIMPORTTIME="1")

    loaded = done.stderr.decode()
    assert "ringtasks.client.ssh_client" in loaded
    for heavy in ("rich", "ClusterShell", "ringtasks.fleet", "ringtasks.output.fleet_report"):
        assert not re.search(rf"\| +{re.escape(heavy)}(\.|$)", loaded, re.MULTILINE), heavy


def assert_refused_alone(done: subprocess.CompletedProcess[bytes], expected: str) -> None:
    assert (done.returncode, done.stdout) == (2, b"")
    assert expected in done.stderr.decode()
