"""Scripts are real: each test hands one to the shells that remote hosts have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtasks.remote.marks import Mark, MarkedOutput
from ringtasks.remote.script import (
    RUN_ID_VARIABLE,
    Script,
    encode,
    quote,
)
from ringtasks.remote.stop_run import stop_run_script
from tests.support.shells import SHELLS
from tests.support.waiting import eventually

LOGIN_SHELLS = {
    "bash": ["bash"],
    "dash": ["dash"],
    "zsh": ["zsh"],
    "fish": ["fish"],
    "BusyBox ash": ["busybox", "ash"],
    "tcsh": ["tcsh"],
}

# Every byte but NUL; those that are not UTF-8 as surrogate escapes (PEP 383).
any_text = st.binary(max_size=60).map(
    lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)


def run_in(
    login_shell: list[str], script: Script, *, stdin: bytes = b"", home: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """As sshd would: the login shell gets the line, or a constant one and the script on stdin."""
    line = script.line(script_shell(login_shell))
    if line is None:
        return run_by_payload(login_shell, script, stdin=stdin, home=home)
    return run_line(login_shell, line, stdin, home)


def run_by_payload(
    login_shell: list[str], script: Script, *, stdin: bytes = b"", home: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    line = script.start_line(script_shell(login_shell))
    return run_line(login_shell, line, script.payload() + stdin, home)


def run_line(
    login_shell: list[str], line: str, stdin: bytes, home: Path | None
) -> subprocess.CompletedProcess[bytes]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(home or "/")}
    argv = [*login_shell, "-c", line]
    return subprocess.run(argv, input=stdin, capture_output=True, env=environ, timeout=20)


def script_shell(login_shell: list[str]) -> str:
    return "busybox ash" if login_shell[0] == "busybox" else "/bin/sh"


def output_of(done: subprocess.CompletedProcess[bytes], script: Script) -> bytes:
    answer = MarkedOutput(script.mark, has_end=script.is_own)
    output = answer.take(done.stdout) + answer.rest()
    assert answer.pid is not None, done
    return output


@pytest.fixture(params=LOGIN_SHELLS, scope="module")
def login_shell(request: pytest.FixtureRequest, require: object) -> list[str]:
    argv = LOGIN_SHELLS[request.param]
    require(argv[0])  # type: ignore[operator]
    return argv


@settings(max_examples=15, deadline=None)
@given(text=any_text)
def test_any_text_arrives_byte_for_byte_as_an_environment_value(
    login_shell: list[str], text: str
) -> None:
    script = Script('printf %s "$VALUE"', env={"VALUE": text})

    assert output_of(run_in(login_shell, script), script) == encode(text)


@settings(max_examples=15, deadline=None)
@given(text=any_text)
def test_any_text_arrives_byte_for_byte_as_a_quoted_argument(
    login_shell: list[str], text: str
) -> None:
    script = Script(f"printf %s {quote(text)}")

    assert output_of(run_in(login_shell, script), script) == encode(text)
    assert output_of(run_by_payload(login_shell, script), script) == encode(text)


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ('echo "a  b"', b"a  b\n"),
        ("echo 'it is'", b"it is\n"),
        ("echo a; echo b && echo c | tr c d", b"a\nb\nd\n"),
        ('echo "$HOME" `echo x` $((1 + 2))', b"/ x 3\n"),
        ("echo '!x' \"!y\"", b"!x !y\n"),
        ("printf '%s\\n' 'a\\\\b'", b"a\\\\b\n"),
        ("cat <<'END'\nhere $x\nEND", b"here $x\n"),
    ],
)
def test_command_behaves_alike_in_the_exec_request_and_on_stdin(
    login_shell: list[str], command: str, printed: bytes
) -> None:
    script = Script(command)

    assert output_of(run_in(login_shell, script), script) == printed
    assert output_of(run_by_payload(login_shell, script), script) == printed


def test_plain_command_is_readable_in_the_process_list() -> None:
    assert "python3 train.py --lr 0.1" in str(Script("python3 train.py --lr 0.1").line())


def test_secret_or_long_values_are_not_in_the_exec_request() -> None:
    assert Script("true", env={"TOKEN": "x"}).line() is None
    assert Script("echo " + "x" * 100_000).line() is None


@settings(max_examples=12, deadline=None)
@given(name=any_text.filter(lambda name: "/" not in name and name not in ("", ".", "..")))
def test_any_directory_name_is_safe_as_cwd(
    login_shell: list[str], tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    home = tmp_path_factory.mktemp("home")
    folder = os.fsencode(home) + b"/" + encode(name)
    Path(os.fsdecode(folder)).mkdir()
    Path(os.fsdecode(folder), "here").write_text("found")
    script = Script("cat here", cwd=f"~/{name}")

    assert output_of(run_in(login_shell, script, home=home), script) == b"found"


@pytest.mark.parametrize("name", ["-", "-P", "--", "~x", "a b", "$HOME", "*"])
def test_a_relative_cwd_is_taken_literally(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    script = Script("pwd", cwd=name)
    argv = ["sh", "-c", script.start_line()]

    done = subprocess.run(argv, input=script.payload(), capture_output=True, cwd=tmp_path)

    assert output_of(done, script).decode().strip() == str(tmp_path / name)


def test_stdin_after_the_script_reaches_the_command(login_shell: list[str]) -> None:
    script = Script("cat; exit 7")
    stdin = bytes(range(256)) * 400

    done = run_in(login_shell, script, stdin=stdin)

    assert output_of(done, script) == stdin
    assert done.returncode == 7


def test_environment_applies_to_the_command_and_not_to_cd(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    script = Script('pwd; echo "$HOME"', cwd="~/real", env={"HOME": "/other", "CDPATH": "/"})

    done = run_in(["sh"], script, home=tmp_path)

    assert output_of(done, script).decode().split() == [str(tmp_path / "real"), "/other"]


def test_truncated_payload_runs_nothing(login_shell: list[str], tmp_path: Path) -> None:
    script = Script(f"touch {tmp_path}/ran")
    payload = script.payload()

    for size in range(0, len(payload), 7):
        argv = [*login_shell, "-c", script.start_line(script_shell(login_shell))]
        subprocess.run(argv, input=payload[:size], capture_output=True, timeout=20)

    assert not (tmp_path / "ran").exists()


def test_process_list_shows_no_caller_data(tmp_path: Path) -> None:
    script = Script("cat /proc/[0-9]*/cmdline", env={"TOKEN": "s3cr3t-value"})

    seen = output_of(run_in(["sh"], script), script)

    assert b"s3cr3t-value" not in seen
    assert b"printf %b" in seen


def test_missing_cwd_prevents_the_command() -> None:
    script = Script("echo ran", cwd="/does/not/exist")

    done = run_in(["sh"], script)

    assert output_of(done, script) == b""
    assert done.returncode == 1
    assert b"/does/not/exist" in done.stderr


@pytest.mark.parametrize(
    "venv",
    ["{0}", "{0}/bin/activate", "source {0}/bin/activate", ". {0}/bin/activate",
     "source {0}/bin/activate && export MORE=1", "~/my venv"],
)  # fmt: skip
def test_virtual_environment_with_any_name_is_activated(tmp_path: Path, venv: str) -> None:
    folder = tmp_path / "my venv" if "~" in venv else tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "activate").write_text("VIRTUAL_ENV=active; export VIRTUAL_ENV\n")
    script = Script('echo "$VIRTUAL_ENV"', venv=venv.format(folder))

    done = run_in(["dash"], script, home=tmp_path)

    assert output_of(done, script) == b"active\n", done.stderr


def test_a_syntax_error_in_the_command_is_the_commands_failure() -> None:
    script = Script("echo 'unfinished")

    done = run_in(["sh"], script)

    assert done.returncode == 2
    assert output_of(done, script) == b""


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"command": ""}, "command"),
        ({"command": " \n"}, "command"),
        ({"command": "a\0b"}, "command"),
        ({"command": "a", "cwd": "\0"}, "cwd"),
        ({"command": "a", "env": {"A": "\0"}}, "env: A"),
        ({"command": "a", "env": {"A-B": ""}}, "env: 'A-B'"),
        ({"command": "a", "env": {"A=B": ""}}, "env: 'A=B'"),
        ({"command": "a", "env": {"": ""}}, "env: ''"),
        ({"command": "a", "run_id": "a b"}, "run_id"),
    ],
)
def test_value_that_no_shell_can_hold_is_refused_by_name(
    fields: dict[str, object], names: str
) -> None:
    with pytest.raises(ValueError, match=names):
        Script(**fields)  # type: ignore[arg-type]


def test_script_repr_shows_no_secret() -> None:
    assert "s3cr3t" not in repr(Script("true", env={"TOKEN": "s3cr3t"}))


def test_terminal_bootstrap_contains_no_quote() -> None:
    line = Script("true").start_line(pty=True)

    assert "'" not in line.split("-c '", 1)[1][:-1]


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:            # a grandchild that leaves the group, as a daemon does
    os.setsid()
    if os.fork() == 0:
        print("up", flush=True)
    time.sleep(60)
time.sleep(60)
"""


def test_stop_ends_a_process_tree_that_ignores_sigterm_and_left_its_group(tmp_path: Path) -> None:
    program = tmp_path / "stubborn.py"
    program.write_text(STUBBORN)
    script = Script(f"{quote(sys.executable)} {quote(str(program))}", run_id="r1")
    running = subprocess.Popen(
        ["sh", "-c", script.start_line()], stdin=-1, stdout=-1, start_new_session=True
    )
    assert running.stdin is not None
    assert running.stdout is not None
    assert running.stdout.readline() == script.mark.printed + b"%d\n" % running.pid
    running.stdin.write(script.payload())
    running.stdin.close()
    assert running.stdout.readline() == b"up\n"
    marked = processes_with(f"{RUN_ID_VARIABLE}=r1")
    assert len(marked) >= 3

    stopped = subprocess.run(
        ["sh"],
        input=stop_run_script(running.pid, "r1", 0.3).encode(),
        capture_output=True,
        timeout=20,
    )

    assert stopped.stdout == b"", stopped
    assert running.wait(5) in (-signal.SIGKILL, -signal.SIGTERM)
    running.stdout.close()
    assert [pid for pid in marked if is_running(pid)] == []


@pytest.mark.parametrize("shell", SHELLS)
def test_stop_ends_an_orphan_with_another_group_session_and_environment(
    tmp_path: Path, shell: str
) -> None:
    # It ignores TERM; its parent, of the run's group, does not.
    orphan = f"trap '' TERM; echo $$ > {tmp_path}/orphan; while :; do sleep 0.1; done"
    run = subprocess.Popen(
        ["sh", "-c", f"setsid env -i /bin/sh -c {quote(orphan)} & sleep 60"],
        start_new_session=True,
    )
    eventually(lambda: (tmp_path / "orphan").exists() and (tmp_path / "orphan").read_text())
    pid = int((tmp_path / "orphan").read_text())

    stopped = subprocess.run(
        shell.split(),
        input=stop_run_script(run.pid, "r2", 0.3).encode(),
        capture_output=True,
        timeout=30,
    )

    assert (stopped.stdout, stopped.stderr) == (b"", b"")
    assert run.wait(5) == -signal.SIGTERM
    assert not is_running(pid)


@pytest.mark.parametrize("has_end", [False, True])
@pytest.mark.parametrize("size", [1, 7, 99])
def test_mark_of_a_script_that_was_not_read_is_known_in_pieces(has_end: bool, size: int) -> None:
    mark = Mark("w", 4, 5)
    answer = MarkedOutput(mark, has_end=has_end, is_sent_later=True)
    came = mark.printed + b"12\n" + mark.printed + b"unread\n"

    output = [answer.take(came[at : at + size]) for at in range(0, len(came), size)]

    assert (b"".join(output), answer.rest(), answer.is_unread) == (b"", b"", True)


def processes_with(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environ = (folder / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in environ.split(b"\0"):
            found.append(int(folder.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
