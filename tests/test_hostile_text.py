"""No text of a host reaches a terminal, a CI runner or JSON as anything but text."""

from __future__ import annotations

import json
import re
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtasks.output.foreign_text import json_text, message, shown, shown_lines
from tests.support.fixtures import Inv, MakeSshd, WriteHosts
from tests.support.hostile_shell import Answers, HostileShell

TEXT = (
    "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eevil\u2066\u200b\r\n::error::forged\n  ::add-mask::x\n"
    "##[error]forged\n#\u0301#[group]x\n##vso[task.setvariable]x\nringtasks: good: deployed\n"
    "---------------\ngood (5)\n---------------\nfine\x00\x7f\x85\u2028::warning::y\n"
)
TASKS = (
    "run --host @all --cmd true",
    "run --host @all --fold --cmd true",
    "run --host @all --diff --cmd true",
    "run --host @all --json --cmd true",
    "jobs",
    "jobs --json",
    "wait j",
    "logs j",
    "stop j",
    "check",
    "put tasks.py x --timeout 9 --host @all",
    "get x there/ --timeout 9 --host @all",
    "sync hosts y --timeout 3 --host @all",
    "deploy.status",
    "deploy.check --json",
    "jobs.prune --host @all",
)
#: A host that never says that it is ready for a script is waited for 60 s.
SLOW_TASKS = ("start --host @all --cmd true", "status", "status --json")
#: Lines that ringtasks itself writes for GitHub's runner.
OWN_COMMANDS = ("group", "endgroup", "error", "add-mask")


def assert_harmless(printed: str, *, is_json: bool = False) -> None:
    for char in printed.replace("\n", "").replace("\t", ""):
        assert unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp"), repr(char)
    for line in printed.split("\n"):
        plain = "".join(char for char in line if " " <= char <= "~")
        assert not re.search(r"##(vso|teamcity)?\[", plain), line
        command = re.match(r"\s*::(\w+)", plain)
        assert command is None or (command[1] in OWN_COMMANDS and "forged" not in line), line
        assert not is_json or not line or json.loads(line)


@pytest.fixture
def shells(make_sshd: MakeSshd, write_hosts: WriteHosts, tmp_path: Path) -> list[HostileShell]:
    found = [HostileShell(tmp_path / f"answers{n}") for n in range(2)]
    ports = [make_sshd(config=shell.config).port for shell in found]
    write_hosts(
        **{
            f"evil{n}": {"ssh_port": port, "use_control_master": True}
            for n, port in enumerate(ports)
        }
    )
    deploy = f"{{hosts: '@all', path: {tmp_path}/srv, check: 'true', source: hosts}}"
    (tmp_path / "invoke.yaml").write_text(f"deploy: {deploy}\n")
    return found


@pytest.mark.parametrize(
    "tasks",
    [TASKS, pytest.param(SLOW_TASKS, marks=[pytest.mark.long, pytest.mark.timeout(400)])],
    ids=["quick", "slow"],
)
def test_no_task_passes_on_control_sequences_of_a_host(
    inv: Inv, shells: list[HostileShell], tasks: tuple[str, ...]
) -> None:
    for seed, task in enumerate(tasks):
        for number, shell in enumerate(shells):
            shell.answer(Answers(seed=2 * seed + number, stderr=TEXT))
        done = inv(*task.split(), timeout=120, GITHUB_ACTIONS="true")

        assert_told(done, is_json="--json" in task)


def assert_told(done: subprocess.CompletedProcess[bytes], *, is_json: bool) -> None:
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in err, err
    assert_harmless(out, is_json=is_json)
    assert_harmless(err)


@pytest.mark.parametrize(
    "task",
    [
        "why --host {}",
        "put tasks.py x --host {}",
        "start --cmd true --host @all",
        "--dry run --cmd true --host {}",
        "check --host {}",
    ],
)
def test_names_of_hosts_are_only_shown(inv: Inv, write_hosts: WriteHosts, task: str) -> None:
    name = "##[error]forged"
    write_hosts(**{name: {}, "b": {}})
    done = inv(*task.format(name).split(), GITHUB_ACTIONS="true")

    assert_told(done, is_json=False)
    assert "forged" in (done.stdout + done.stderr).decode()


texts = st.text() | st.lists(
    st.sampled_from(["#", "[", ":", "::", "\r", "\n", "\x1b", "x", "\u0301"])
).map("".join)


@given(texts)
def test_foreign_text_is_neutralised_in_every_output_format(text: str) -> None:
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("GITHUB_ACTIONS", "true")
        assert "\n" not in shown(text)
        for form in (shown(text), shown_lines(text), message(text), json_text({"x": text})):
            assert_harmless(form)
        assert json.loads(json_text({"x": text})) == {"x": text}


def test_continuation_lines_of_a_message_do_not_resemble_a_message() -> None:
    assert message("a: failed\nringtasks: b: deployed") == "a: failed\n  ringtasks: b: deployed"


def test_command_output_cannot_forge_a_section_heading(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={}, b={})
    forged = "-" * 15
    lines = f"printf '%s\\n' {forged} c {forged} fine"
    done = inv("run", "--host", "@all", "--fold", "--cmd", lines)

    heading = f"{forged}\na,b (2)\n{forged}\n"
    assert done.stdout.decode() == f"{heading}| {forged}\nc\n| {forged}\nfine\n"


def test_progress_bars_of_several_hosts_are_shown_in_their_final_state(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(a={}, b={})
    done = inv("run", "--host", "@all", "--cmd", "printf '10%%\\r20%%\\r30%%\\r\\nend'")

    assert sorted(done.stdout.decode().splitlines()) == ["a: 30%", "a: end", "b: 30%", "b: end"]
