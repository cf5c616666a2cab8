"""``inv run``, as people and CI use it: the real program against a real sshd."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.faulty import Blackhole, Wire
from tests.support.fixtures import ROOT, Inv, Start, WriteHosts
from tests.support.runs import assert_refused, is_running
from tests.support.sshd import Sshd


def test_output_and_exit_status_pass_through_unchanged(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})

    done = inv("run", "--host", "a", "--cmd", r"printf 'o\377ut'; printf 'e\001rr' >&2; exit 7")

    assert (done.stdout, done.stderr, done.returncode) == (b"o\xffut", b"e\x01rr", 7)


def test_output_is_shown_while_the_command_runs(
    start: Start, write_hosts: WriteHosts, tmp_path: Path
) -> None:
    write_hosts(a={})
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    command = ("run", "--host", "a", "--cmd", f"echo first; cat {fifo}")

    with start(*command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"first\n"  # it still waits for the fifo
        fifo.write_text("second\n")
        assert running.stdout.read() == b"second\n"


def test_piped_stdin_is_passed_on_byte_for_byte(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})
    sent = bytes(range(256)) * 4000

    assert inv("run", "--host", "a", "--cmd", "cat", stdin=sent).stdout == sent


def test_run_ends_if_the_command_does_not_read_its_stdin(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})

    done = inv("run", "--host", "a", "--cmd", "echo done", stdin=b"x" * 5_000_000)

    assert done.stdout == b"done\n"


def test_the_environment_cwd_and_venv_reach_the_command(
    inv: Inv, write_hosts: WriteHosts, sshd: Sshd
) -> None:
    (sshd.home / "my app" / "venv" / "bin").mkdir(parents=True, exist_ok=True)
    (sshd.home / "my app" / "venv" / "bin" / "activate").write_text("export VENV=on\n")
    write_hosts(a={"ringrift_path": "~/my app", "venv_activate": "~/my app/venv"})

    done = inv(
        "run", "--host", "a", "--env", "A=1 '2'", "--env", "B=$HOME",
        "--cmd", 'pwd; echo "$A $B $VENV"',
    )  # fmt: skip

    assert done.stdout.decode().splitlines() == [f"{sshd.home}/my app", "1 '2' $HOME on"]


def test_variables_of_files_and_flags_reach_the_command_the_flags_last(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_hosts(a={})
    first, second = tmp_path / "first", tmp_path / ".env"
    first.write_bytes(b"\xef\xbb\xbf# of the project\r\nexport A='1 $HOME'\r\nB=2\r\n")
    second.write_text('B="two\nlines" # here\nC=c\nMINE\n')
    monkeypatch.setenv("MINE", "m")
    files = ["--env-file", str(first), "--env-file", str(second)]
    told = 'printf "%s|" "$A" "$B" "$C" "$MINE"'

    done = inv("run", "--host", "a", *files, "--env", "C=flag", "--cmd", told)

    assert done.stdout.decode() == "1 $HOME|two\nlines|flag|m|"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"A=1\nNOT_HERE\n", ":2: NOT_HERE is not set on this machine"),
        (b"A='hunter2\n", ":1: expected NAME=VALUE, with the quotes closed"),
        (b"A=\xff\xfe", ": is not UTF-8 text"),
        (b"1A=hunter2", "env: '1A' is not a variable name"),
        (None, ": cannot be read: No such file or directory"),
    ],
)
def test_unusable_env_file_is_refused_by_file_and_line_without_its_values(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path, text: bytes | None, reason: str
) -> None:
    write_hosts(a={})
    file = tmp_path / "variables"
    if text is not None:
        file.write_bytes(text)

    done = inv("run", "--host", "a", "--env-file", str(file), "--cmd", "true")

    assert (done.returncode, done.stdout) == (2, b"")
    assert reason in done.stderr.decode()
    assert b"hunter2" not in done.stderr


def test_cwd_overrides_the_hosts_work_dir(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={"work_dir": "/does/not/exist"})

    assert inv("run", "--host", "a", "--cwd", "/", "--cmd", "pwd").stdout == b"/\n"


def test_missing_work_dir_is_named_with_the_host(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={"work_dir": "/does/not/exist"}, b={})

    for arguments in (
        ["run", "--host", "a", "--cmd", "pwd"],
        ["run", "--host", "a,b", "--cmd", "pwd"],
        ["start", "--host", "a", "--cmd", "pwd"],
    ):
        assert re.search(rb"ringtasks: a: .*work_dir /does/not/exist", inv(*arguments).stderr)


def test_json_holds_the_fields_of_the_result_and_the_host(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(a={})

    done = inv("run", "--host", "a", "--json", "--cmd", "echo out; echo err >&2; exit 3")

    (line,) = done.stdout.splitlines()
    fields = json.loads(line)
    assert fields.pop("elapsed_ms") > 0
    assert fields == {
        "host_id": "a",
        "success": False,
        "returncode": 3,
        "stdout": "out\n",
        "stderr": "err\n",
        "command": "echo out; echo err >&2; exit 3",
        "host": "a",
        "transport_used": "direct",
        "timed_out": False,
        "error": None,
    }
    assert (done.returncode, done.stderr) == (3, b"")


@pytest.mark.parametrize(
    ("commands", "status"),
    [(["exit 0", "exit 0"], 0), (["exit 3", "exit 3"], 3), (["exit 3", "exit 0"], 3),
     (["exit 3", "exit 4"], 1)],
)  # fmt: skip
def test_several_hosts_share_one_exit_status(
    inv: Inv, write_hosts: WriteHosts, commands: list[str], status: int
) -> None:
    write_hosts(a={"work_dir": "/"}, b={"work_dir": "/tmp"})
    command = f"case $PWD in /) {commands[0]};; *) {commands[1]};; esac"

    assert inv("run", "--host", "@all", "--cmd", command).returncode == status


def test_each_line_is_prefixed_with_its_host_if_there_are_several(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(a={}, b={})

    done = inv("run", "--host", "a,b", "--cmd", r"printf 'one\ntwo'; printf '\033[2J' >&2")

    assert sorted(done.stdout.splitlines()) == [b"a: one", b"a: two", b"b: one", b"b: two"]
    assert b"\x1b" not in done.stderr


def test_timeout_ends_the_remote_processes_and_is_reported(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(a={"command_timeout": 1})
    command = "echo $$; sleep 61 & echo $!; trap '' TERM; sleep 62"

    done = inv("run", "--host", "a", "--timeout", "1", "--cmd", command)

    assert done.returncode == 124
    assert b"time limit of 1 s passed" in done.stderr
    assert b"terminated (verified)" in done.stderr
    assert b"raise --timeout (0: no limit), or use 'inv start'" in done.stderr
    assert done.stderr.count(b"for longer commands") == 1
    for pid in done.stdout.split():
        assert not is_running(int(pid))


@pytest.mark.matrix(1)
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "TERM"]
)
def test_interrupt_ends_the_remote_processes_and_is_reported(
    start: Start, write_hosts: WriteHosts, number: int, status: int
) -> None:
    write_hosts(a={})

    with start(
        *("run", "--host", "a", "--cmd", "echo $$; sleep 61 & echo $!; wait"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        pids = [int(running.stdout.readline()) for _ in range(2)]
        running.send_signal(number)
        said = running.stderr.read()

    assert running.returncode == status
    assert b"interrupted" in said
    assert b"terminated (verified)" in said
    assert b"Traceback" not in said
    assert [pid for pid in pids if is_running(pid)] == []


def test_closed_output_pipe_ends_the_remote_command(start: Start, write_hosts: WriteHosts) -> None:
    write_hosts(a={})
    argv = ("run", "--host", "a", "--cmd", "echo $$; exec yes")

    with start(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        pid = int(running.stdout.readline())
        running.stdout.close()
        said = running.stderr.read()

    assert running.returncode == 141
    assert said == b""
    assert not is_running(pid)


def test_retries_repeat_a_failed_command_and_are_reported(
    inv: Inv, write_hosts: WriteHosts, sshd: Sshd
) -> None:
    write_hosts(a={})
    (sshd.home / "tries").unlink(missing_ok=True)
    command = "echo x >> ~/tries; [ $(wc -l < ~/tries) = 2 ]"

    done = inv("run", "--host", "a", "--retries", "2", "--cmd", command)

    assert done.returncode == 0
    assert (sshd.home / "tries").read_text() == "x\nx\n"
    assert b"attempt 1 of 3 failed: exit status 1" in done.stderr


def test_unknown_outcome_is_reported_before_a_retry(
    inv: Inv, write_hosts: WriteHosts, sshd: Sshd
) -> None:
    with Wire(sshd.address, sshd.port) as wire:
        write_hosts(a={"ssh_host": wire.address, "ssh_port": wire.port})
        inv("run", "--host", "a", "--cmd", "true")
        # By then the log-in is over and the command was sent.
        wire.cut_after(wire.bytes_from_client - 40)
        done = inv("run", "--host", "a", "--retries", "1", "--cmd", "sleep 0.3; echo ok")

    assert done.returncode == 0
    assert done.stdout == b"ok\n"
    assert b"attempt 1 of 2 failed" in done.stderr
    assert b"outcome unknown" in done.stderr


def test_route_flag_selects_a_route(inv: Inv, write_hosts: WriteHosts, sshd: Sshd) -> None:
    write_hosts(a={"tailscale_ip": "127.0.0.2", "tailscale_port": sshd.port})

    for route in ("tailscale", "direct"):
        done = inv("run", "--host", "a", "--transport", route, "--json", "--cmd", "true")
        assert json.loads(done.stdout)["transport_used"] == route


def test_route_fallback_is_reported_on_stderr(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={"tailscale_ip": "127.0.0.1", "tailscale_port": 9})

    done = inv("run", "--host", "a", "--cmd", "echo hi")

    assert done.stdout == b"hi\n"
    assert done.stderr == b"ringtasks: a: tailscale refused; connected via direct\n"


def test_unreachable_host_is_reported_with_each_route_and_reason(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    with Blackhole() as hole:
        write_hosts(
            a={
                "ssh_port": 9,
                "tailscale_ip": hole.address,
                "tailscale_port": hole.port,
                "connect_timeout": 1,
            }
        )
        done = inv("run", "--host", "a", "--cmd", "true")

    assert (done.returncode, done.stdout) == (255, b"")
    said = done.stderr.decode()
    assert re.search(r"tailscale \(\S+\): timed out", said)
    assert re.search(r"direct \(127.0.0.1:9\): refused", said)


def test_pty_flag_gives_the_command_a_terminal(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})

    with_one = inv("run", "--host", "a", "--pty", "--env", "V=x y", "--cmd", 'tty; echo "$V"')
    without = inv("run", "--host", "a", "--cmd", "tty")

    assert re.fullmatch(rb"/dev/pts/\d+\r\nx y\r\n", with_one.stdout)
    assert without.stdout == b"not a tty\n"


def test_skip_unhealthy_skips_hosts_with_an_open_circuit(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(bad={"ssh_port": 9}, good={})
    for _ in range(3):
        inv("run", "--host", "bad", "--cmd", "true")

    done = inv("run", "--host", "@all", "--skip-unhealthy", "--cmd", "echo hi")

    assert done.stdout == b"hi\n"
    assert b"bad: skipped: direct: refused" in done.stderr
    assert done.returncode == 0


BAD_INPUT = {
    "unknown host": (["--host", "z"], "unknown host 'z'"),
    "near name": (["--host", "aa"], "did you mean a"),
    "unknown group": (["--host", "@z"], "unknown group '@z'"),
    "unknown route": (["--host", "a", "--transport", "carrier-pigeon"], "unknown route"),
    "route it has not": (["--host", "a", "--transport", "cloudflare"], "has no cloudflare route"),
    "no host": (["--host", ""], "--host is required"),
    "negative timeout": (["--host", "a", "--timeout", "-1"], "--timeout"),
    "timeout no number": (["--host", "a", "--timeout", "soon"], "--timeout"),
    "timeout unit": (
        ["--host", "a", "--timeout", "5x"],
        "--timeout: expected seconds or a duration such",
    ),
    "timeout nan": (["--host", "a", "--timeout", "nan"], "--timeout"),
    "negative retries": (["--host", "a", "--retries", "-2"], "--retries"),
    "bad selector": (["--host", "a,,b"], "selector"),
    "newline in a name": (["--host", "a\nb"], "selector"),
    "bad env name": (["--host", "a", "--env", "A-B=1"], "A-B"),
    "env without name": (["--host", "a", "--env", "=1"], "--env"),
    "inventory not there": (["--host", "a", "--inventory", "no.yaml"], "no.yaml"),
    "empty command": (["--host", "a", "--cmd", " "], "command"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_of_run_exits_2_with_one_line(
    inv: Inv, write_hosts: WriteHosts, case: str
) -> None:
    flags, expected = BAD_INPUT[case]
    write_hosts(a={}, b={})

    done = inv("run", *([] if "--cmd" in flags else ["--cmd", "true"]), *flags)

    assert_refused(done, expected)


BAD_FILES = {
    "empty": ("", "found nothing"),
    "broken": ("hosts: {a: [", "not YAML"),
    "port out of range": ("a: {ssh_host: h, ssh_port: 70000}", "expected a port from 1 to 65535"),
    "no mapping": ("- a\n- b\n", "expected a mapping"),
    "missing key file": ("a: {ssh_host: h, ssh_key: /no/such/key}", "no such file"),
    "unset variable": ("a: {ssh_host: h, ssh_key: '${NOT_SET}'}", "NOT_SET is not set"),
    "unset token": (
        "a: {cloudflare_tunnel: h, cloudflare_service_token_id: '${NOT_SET}'}",
        "NOT_SET is not set",
    ),
    "duplicate key": ("a: {ssh_host: h, ssh_host: i}", "given twice"),
    "no address": ("a: {ssh_user: u}", "has no address"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_hosts_file_is_one_line_and_status_2(
    inv: Inv, tmp_path: Path, case: str, cloudflared: object
) -> None:
    text, expected = BAD_FILES[case]
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "bad.yaml").write_text(text)

    done = inv("run", "--host", "a", "--cmd", "true")

    assert_refused(done, expected)


def test_the_readmes_first_command_shows_the_fallback(inv: Inv) -> None:
    done = inv("run", "--host", "demo", "--cmd", "hostname", RINGTASKS_HOSTS=str(ROOT / "hosts"))

    assert done.returncode == 0
    assert done.stdout.decode() == subprocess.check_output(["hostname"], text=True)
    assert b"demo: tailscale refused; connected via direct" in done.stderr
