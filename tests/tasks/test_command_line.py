"""The command line: flags after a task, letters, unquoted commands, the name of the program."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from ringtasks.tasks import namespace
from ringtasks.tasks.lazy import SHORT_FLAGS
from tests.support.fixtures import Inv, WriteHosts
from tests.support.inv_program import PROGRAMS, InvProgram


@pytest.fixture(params=PROGRAMS)
def typed(request: pytest.FixtureRequest, inv: Inv, tmp_path: Path, inv_program: InvProgram) -> Inv:
    """Runs each of the two programs; ``inv`` has written tasks.py for its own."""

    def run(*arguments: str, **_: object) -> subprocess.CompletedProcess[bytes]:
        return inv_program.call([request.param, *arguments], cwd=tmp_path)

    run.name = request.param  # type: ignore[attr-defined]  # for the tests
    return run


@pytest.mark.parametrize(
    "words",
    [
        ["stop", "--help"], ["put", "--help"], ["put", "here", "-h"], ["run", "-h"],
        ["run", "--host", "a", "--cmd", "true", "-h"], ["logs", "train", "-f", "--help"],
        ["run", "--cmd", "true", "deploy.status", "--help"], ["jobs", "-h"],
    ],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.matrix(6)
def test_help_after_a_task_name_shows_its_help(typed: Inv, words: list[str]) -> None:
    done = typed(*words)

    task = "deploy.status" if "deploy.status" in words else words[0]
    assert done.returncode == 0, done.stderr
    assert f" {task} [--options]".encode() in done.stdout
    assert b"Options:" in done.stdout


def test_flag_value_is_not_taken_as_a_help_request(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})

    done = inv("run", "--host", "a", "--cmd", "--help")

    assert b"Options:" not in done.stdout
    assert done.returncode == 127


def test_short_flag_has_the_same_meaning_in_every_task() -> None:
    meanings: dict[str, set[str]] = defaultdict(set)
    for context in namespace.to_contexts():
        for argument in context.args.values():
            long = [name for name in argument.names if len(name) > 1]
            for letter in (name for name in argument.names if len(name) == 1):
                meanings[letter].update(long)

    assert dict(meanings) == {letter: {flag} for flag, letter in SHORT_FLAGS.items()}
    assert SHORT_FLAGS == {
        "cmd": "c", "env": "e", "follow": "f", "host": "H", "inventory": "i", "json": "j",
        "number": "n", "pty": "p", "timeout": "t",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "quoted"),
    [
        (["--cmd", "git", "push", "--host", "a"], "'git push'"),
        (["--host", "a", "--cmd=git", "push"], "'git push'"),
        (["--host", "a", "-c", "ls", "-la", "/tmp"], "'ls -la /tmp'"),
        (["--host", "a", "--cmd", "rm", "--force", "x"], "'rm --force x'"),
        (["--host", "a", "--cmd=ls", "-l"], "'ls -l'"),
        (["--cmd", "python", "--version", "--host", "a"], "'python --version'"),
    ],
    ids=["before a flag", "with =", "flags", "long flag", "list", "version"],
)
@pytest.mark.matrix(6)
def test_unquoted_command_gives_a_hint_and_runs_nothing(
    typed: Inv, write_hosts: WriteHosts, words: list[str], quoted: str
) -> None:
    write_hosts(a={})

    done = typed("run", *words)

    assert f"quote it: --cmd {quoted}" in done.stderr.decode()
    assert (done.returncode, done.stdout) == (1 if typed.name == "inv" else 2, b"")  # type: ignore[attr-defined]


def test_a_task_after_an_unquoted_command_runs_and_gives_a_hint(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(a={})

    hinted = inv("run", "--host", "a", "--cmd", "echo", "hosts")
    quoted = inv("run", "--host", "a", "--cmd", "echo x", "hosts")

    assert b"'hosts' is taken for a task" in hinted.stderr
    assert b"quote it: --cmd 'echo hosts'" in hinted.stderr
    assert b"taken for a task" not in quoted.stderr
    assert b"not tried" in hinted.stdout or b"reached " in hinted.stdout


@pytest.mark.parametrize(
    ("words", "quoted"),
    [
        (["--cmd", "df", "-h"], "'df -h'"),
        (["--cmd", "seq", "-w", "3"], "'seq -w 3'"),
        (["--cmd", "uname", "-r"], "'uname -r'"),
        (["--cmd", "ps", "-e"], "'ps -e'"),
        (["--cmd", "ps", "-e", "--json"], "'ps -e'"),
        (["--cmd", "ps", "-e", "f"], "'ps -e f'"),
        (["--cmd", "ps", "-p", "1"], "'ps -p 1'"),
        (["--cmd", "date", "-i"], "'date -i'"),
    ],
)
@pytest.mark.matrix(3)
def test_a_letter_after_an_unquoted_command_gives_a_hint(
    inv: Inv, write_hosts: WriteHosts, words: list[str], quoted: str
) -> None:
    write_hosts(a={})

    hinted = inv("run", "--host", "a", *words)
    is_meant = inv("run", "--host", "a", "--cmd", "echo x", "-w")

    said = hinted.stderr.decode()
    is_own = words[2] in ("-e", "-p", "-i")
    assert f"is taken for a flag of the {'task' if is_own else 'program'}" in said
    assert f"quote it: --cmd {quoted}" in said
    assert (is_meant.stdout, is_meant.stderr) == (b"x\n", b"")


@pytest.mark.parametrize(
    "words", [["-p"], ["-e", "A=1"], ["-t", "9"], ["-p", "hosts"]], ids=" ".join
)
def test_a_letter_of_the_task_that_has_its_value_gives_no_hint(
    inv: Inv, write_hosts: WriteHosts, words: list[str]
) -> None:
    write_hosts(a={})

    done = inv("run", "--host", "a", "--cmd", "true", *words)

    assert b"taken for" not in done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words",
    [["plot", "last"], ["put", "--help"], ["logs", "x"]],
    ids=" ".join,
)
def test_hints_use_the_program_name_that_was_typed(
    typed: Inv, write_hosts: WriteHosts, tmp_path: Path, words: list[str]
) -> None:
    write_hosts(a={})

    # A new process: some texts are made when their module is imported.
    argv = [*PROGRAMS[typed.name], *words]  # type: ignore[attr-defined]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, timeout=30, check=False)

    other = next(name for name in PROGRAMS if name != typed.name)  # type: ignore[attr-defined]
    said = (done.stdout + done.stderr).decode()
    assert re.search(rf"'{typed.name}\s", said)  # type: ignore[attr-defined]
    assert not re.search(rf"'{other}\s", said)


def test_no_stdin_flag_leaves_the_input_of_a_shell_loop(
    tmp_path: Path, inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(a={}, b={})
    run = f"{sys.executable} -m invoke run --host a --no-stdin --cmd 'cat; echo done'"
    both = f"{sys.executable} -m invoke run --host a,b --no-stdin --cmd cat"

    done = subprocess.run(
        ["/bin/sh", "-c", f"while read -r line; do {run}; {both}; done"],
        cwd=tmp_path, input=b"1\n2\n", capture_output=True, timeout=30, check=True,
    )  # fmt: skip

    assert done.stdout == b"done\ndone\n"


def test_every_short_flag_belongs_to_a_task_parameter() -> None:
    flags = {
        parameter.replace("_", "-")
        for name in namespace.task_names
        for parameter in inspect.signature(namespace[name].body).parameters
    }

    assert set(SHORT_FLAGS) <= flags


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("why box-a", "--host box-a:"),
        ("run box-a --cmd true", "--host box-a:"),
        ("check --json @pair", "--host @pair:"),
        ("status all", "--host @all:"),
        ("logs job box-* -f", "--host box-*:"),
        ("run --host box-a hostname", "--cmd hostname:"),
        ("run ls -la --host box-a", "--cmd 'ls -la':"),
        ("start --host box-a ls -l /", "--cmd 'ls -l /':"),
        ("box-a ls -l", "--host box-a: '{} run --host box-a --cmd 'ls -l''?"),
        ("@pair status", "--host @pair: '{} status --host @pair'?"),
    ],
)
@pytest.mark.matrix(3)
def test_host_or_command_without_a_flag_is_refused_with_the_flag(
    typed: Inv, write_hosts: WriteHosts, tmp_path: Path, words: str, meant: str
) -> None:
    file = write_hosts(**{"box-a": {}, "box-b": {}})
    file.write_text(f"{file.read_text()}\ngroups: {{pair: [box-a, box-b]}}\n")

    done = typed(*words.split())
    other = typed("why", "nosuch")

    name = typed.name  # type: ignore[attr-defined]  # set by the fixture
    assert f"is not a task; did you mean {meant.replace('{}', name)}" in done.stderr.decode()
    assert (done.returncode != 0, done.stdout) == (True, b"")
    assert b"did you mean" not in other.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("run --host a --host b --cmd x", "--host is given twice; join the hosts by commas"),
        ("run --host a --cmd", "Flag --cmd needed value and was not given one!"),
        ("sync a b --host a --exclude", "Flag --exclude needed value and was not given one!"),
        ("put a.pt b.pt out --host a", "out: put takes one SRC and one DST; "),
        ("rnu --cmd true", "rnu is not a task; did you mean run?"),
        ("deploy.stats", "deploy.stats is not a task; did you mean deploy.status"),
        ("help run", "help is not a task; see '{} --list' and '{} TASK --help'"),
        ("--host a run --cmd ls", "the flags of a task follow it: '{} run --host'"),
        ("hosts --json=1", "--json takes no value: --json=1"),
        ("put - x --host a", "standard input is /dev/stdin"),
        ("put -x y --host a", "-x is not a flag of put; the file of that name is ./-x"),
        ("run --host a -- ls -la", "not used by run; did you mean --cmd 'ls -la'?"),
        ("put --host a -- -y x", "not used by put; a path that begins with - is written ./-"),
    ],
)
@pytest.mark.matrix(7)
def test_mistyped_command_line_gets_the_words_that_were_meant(
    typed: Inv, tmp_path: Path, words: str, told: str
) -> None:
    (tmp_path / "-x").touch()

    done = typed(*words.split())

    name = typed.name  # type: ignore[attr-defined]  # set by the fixture
    assert told.replace("{}", name) in done.stderr.decode()
    assert (done.returncode, done.stdout) == ({"inv": 1, "ringtasks": 2}[name], b"")


def test_host_in_the_place_of_a_job_or_a_path_is_refused_with_the_flag(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(box={"ssh_port": 9})
    cases = {
        "stop all": "'inv stop all --host @all'",
        "logs @all": "@all: no such job; it selects hosts: give '--host @all'",
        "stop box": "box: no such job; it selects hosts: give '--host box'",
        "put tasks.py box:x": "for 'box:x' give --host box, and the path x",
        "get box: there": "for 'box:' give --host box, and the path .",
        "put tasks.py box:x --host box": "'box:x': --host names the host: give the path x",
    }

    for words, expected in cases.items():
        done = inv(*words.split())
        assert (done.returncode, expected in done.stderr.decode()) == (2, True), done.stderr
