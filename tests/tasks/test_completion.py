"""Completion of our command lines, in the real shells."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ringtasks.output import candidates
from tests.support.fixtures import Inv

PROGRAM = Path(sys.executable).with_name("ringtasks")
HOSTS = """\
hosts:
  gpu01: {ssh_host: h}
  gpu02: {ssh_host: h}
  mac: {ssh_host: h}
groups:
  fast: [gpu01]
  full: [gpu01, gpu02]
"""
#: Line -> its candidates. The last word is completed.
LINES = {
    "ringtasks doct": ["doctor"],
    "ringtasks run --host gp": ["gpu01", "gpu02"],
    "ringtasks run --host mac,gpu": ["mac,gpu01", "mac,gpu02"],
    "ringtasks run --host gpu01,gpu": ["gpu01,gpu02"],
    "ringtasks run -H @f": ["@fast", "@full"],
    "ringtasks run --cmd 'echo a b' --host m": ["mac"],
    "ringtasks logs tra": ["train", "train-20261123-191500"],
    "ringtasks logs 0123": ["0123456789abcdef"],
    "ringtasks logs ol": ["old"],
    "ringtasks logs la": ["last"],
    "ringtasks logs pru": [],
    "ringtasks train --attach tr": ["train-20261123-191500"],
    "ringtasks ray.submit --attach tr": [],
    "ringtasks plot train-": ["train-20261123-191500"],
    "ringtasks forward --transport cl": ["cloudflare"],
    "ringtasks run --rerun": ["--rerun-failed"],
    "ringtasks train --no-pre": ["--no-preflight"],
    "ringtasks stop train ja": [],
    "ringtasks stop train jobs.p": ["jobs.prune"],
    "ringtasks run --cmd gp": [],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "hosts.yaml").write_text(HOSTS)
    run = tmp_path / "runs" / "train-20261123-191500"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    jobs = Path(os.environ["XDG_STATE_HOME"]) / "ringtasks" / "jobs"
    jobs.mkdir(parents=True)
    job = {"id": "0123456789abcdef", "name": "train", "group": run.name, "command": "x"}
    ended = {"id": "89abcdef01234567", "name": "old"}
    content = {"version": 1, "at": 1.0, "jobs": [job], "ended": [ended]}
    (jobs / "gpu01.json").write_text(json.dumps(content))
    (tmp_path / "runs" / "pruned").mkdir()
    (tmp_path / "runs" / "pruned" / "run.json").write_text("{}")
    (jobs / "damaged.json").write_text("[")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{PROGRAM.parent}:{os.environ['PATH']}")
    return tmp_path


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made = tmp_path_factory.mktemp("completion")

    def write(shell: str) -> Path:
        path = made / shell
        if not path.exists():
            path.write_bytes(subprocess.check_output([PROGRAM, "completion", shell]))
        return path

    return write


@pytest.mark.matrix(8)
@pytest.mark.parametrize("line", LINES)
def test_fish_completion_offers_the_expected_words(
    folder: Path, script: Callable[[str], Path], line: str
) -> None:
    quoted = line.replace("'", "\\'")
    code = f"source {script('fish')}; complete -C '{quoted}'"

    done = subprocess.check_output(["fish", "--no-config", "-c", code], text=True)

    assert sorted(done.split()) == LINES[line]


@pytest.mark.parametrize("line", LINES)
def test_bash_completion_offers_the_expected_words(
    folder: Path, script: Callable[[str], Path], line: str
) -> None:
    quoted = line.replace("'", "'\\''")
    code = (
        f"source {script('bash')}; COMP_LINE='{quoted}'; COMP_POINT=${{#COMP_LINE}}; "
        f"_ringtasks_ringtasks ringtasks {line.split()[-1]}; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )

    done = subprocess.check_output(["bash", "--norc", "-c", code], text=True)

    assert sorted(done.split()) == LINES[line]


KEYS = {
    "ringtasks run --host ma\t": "--host mac ",
    "ringtasks run --host @fa\t": "--host @fast ",
    "ringtasks logs 01\t": "logs 0123456789abcdef ",
    "ringtasks run --host=gpu01,ma\t": "--host=gpu01,mac ",
    "ringtasks put hosts/ho\t": "put hosts/hosts.yaml",
}


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.matrix(2)
def test_tab_key_completes_in_a_terminal(
    folder: Path, script: Callable[[str], Path], shell: str, keys: str
) -> None:
    start = {
        "bash": ["bash", "--norc", "--noprofile", "-i"],
        "zsh": ["zsh", "-f", "-i"],
    }[shell]
    setup = {"bash": "", "zsh": "autoload -U compinit; compinit -D; "}[shell]
    with Terminal(start) as terminal:
        terminal.type(f"{setup}source {script(shell)}; echo read''y\n")
        terminal.wait_for("ready")
        terminal.type(keys)
        terminal.wait_for(KEYS[keys])


@pytest.mark.parametrize(
    "name",
    [
        "a;id", "a|id", "a&id", "a>x", "a(x)", "a*", "a~\u202e", "a\x9b2J", "a$(id)", "a`id`",
        "a!rm", "--host=@all", "~root",
    ],
)  # fmt: skip
def test_name_that_a_shell_would_obey_is_not_offered(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    jobs = [{"id": "4567", "name": name}, {"id": "4567", "name": "abc"}]
    cache = Path(os.environ["XDG_STATE_HOME"]) / "ringtasks" / "jobs" / "evil.json"
    cache.write_text(json.dumps({"version": 1, "at": 1.0, "jobs": jobs}))
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("RINGTASKS_COMPLETION_TABLE", "logs job")
        candidates.main("ringtasks logs ")

    offered = capsys.readouterr().out.splitlines()
    assert "abc" in offered
    assert name not in offered


class Terminal:
    """A shell on a terminal of its own."""

    def __init__(self, command: list[str]) -> None:
        self._leader, follower = pty.openpty()
        environ = {**os.environ, "TERM": "xterm", "PS1": "$ ", "COLUMNS": "200"}
        self._shell = subprocess.Popen(
            command, stdin=follower, stdout=follower, stderr=follower, env=environ,
            start_new_session=True,
        )  # fmt: skip
        os.close(follower)
        self._printed = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._leader)

    def type(self, text: str) -> None:
        os.write(self._leader, text.encode())

    def wait_for(self, expected: str) -> None:
        deadline = time.monotonic() + 20
        while expected not in self._shown():
            assert time.monotonic() < deadline, self._printed
            if select.select([self._leader], [], [], 0.2)[0]:
                self._printed += os.read(self._leader, 4096).decode("utf-8", "replace")

    def _shown(self) -> str:
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._printed).replace("\r", "")
        while "\b" in text:
            text = re.sub(r"[^\x08]?\x08", "", text, count=1)
        return text


def test_completed_hosts_are_cached_until_a_file_changes(folder: Path) -> None:
    words = ["inv", "run", "--host", "m"]
    table = "run - --host=host"
    assert list(candidates.candidates(table, words) or ()) == ["mac"]
    code = (
        "import sys; from ringtasks.output import candidates; "
        f"print(*candidates.candidates({table!r}, {words!r}), 'yaml' in sys.modules)"
    )

    cached = subprocess.check_output([sys.executable, "-c", code], text=True)
    with (folder / "hosts" / "hosts.yaml").open("a") as file:
        file.write("  more: [mac]\n")
    words[-1] = "@m"
    renewed = list(candidates.candidates(table, words) or ())

    assert cached.split() == ["mac", "False"]
    assert renewed == ["@more"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_hosts_of_a_large_inventory_are_completed(
    folder: Path, script: Callable[[str], Path], shell: str
) -> None:
    entries = "".join(f"  box{n:04}: {{ssh_host: h, gpu: H100, role: x}}\n" for n in range(500))
    (folder / "hosts" / "hosts.yaml").write_text(f"hosts:\n{entries}")
    line = "ringtasks run --host box049"
    code = {
        "bash": f"COMP_LINE='{line}'; COMP_POINT=27; _ringtasks_ringtasks ringtasks box049; "
        'printf "%s\\n" "${COMPREPLY[@]}"',
        "zsh": f"words=({line}); CURRENT=4; PREFIX=box049; "
        "compadd() { shift; printf '%s\\n' \"$@\"; }; _ringtasks_ringtasks",
        "fish": f"complete -C '{line}'",
    }[shell]
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    start = "compdef() { :; }; " if shell == "zsh" else ""

    for _ in range(2):  # the second time the hosts are cached
        command = [shell, *options, "-c", f"{start}source {script(shell)}; {code}"]
        printed = subprocess.check_output(command, text=True)

        assert sorted(printed.split()) == [f"box{n:04}" for n in range(490, 500)]


def test_completion_imports_little_and_connects_to_no_host(folder: Path) -> None:
    code = (
        "import sys; from ringtasks.output import candidates; "
        "list(candidates.candidates('logs job', ['inv', 'logs', 't'])); "
        "print(*(m for m in ('invoke', 'fabric', 'paramiko', 'yaml', 'rich', 'subprocess') "
        "if m in sys.modules), len(sys.modules) < 150)"
    )

    assert subprocess.check_output([sys.executable, "-I", "-c", code], text=True) == "True\n"


def test_completion_with_a_broken_hosts_file_prints_nothing(folder: Path, inv: Inv) -> None:
    (folder / "hosts" / "hosts.yaml").write_text("hosts: {a: [")
    command = [
        sys.executable,
        "-m",
        "ringtasks.output.candidates",
        "ringtasks run --host g",
    ]

    done = subprocess.run(
        command, capture_output=True, check=False,
        env={**os.environ, "RINGTASKS_COMPLETION_TABLE": "run - --host=host"},
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert inv("completion", "csh").returncode == 2
