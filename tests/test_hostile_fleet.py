"""Three hosts of a fleet answer what no honest host answers: the others are not affected.

A fleet of five hosts in the usual run, of twenty in the long one.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.fixtures import Inv, MakeSshd, WriteHosts
from tests.support.hostile_shell import Answers, HostileShell

EVIL = ("evil1", "evil2", "evil3")
ANSWERS = (Answers(numbers="9" * 5000), Answers(numbers="²"), Answers(numbers="nan"))


RELEASE = "20250101T000000Z-abcdef0-1234"
#: A task, and what it says about a host if all is well.
TASKS = {
    ("run", "--cmd", "echo 1"): ": 1$",
    ("start", "--cmd", "true", "--name", "j"): ": started",
    ("jobs",): "(running|succeeded)",
    ("status",): "GiB free",
    ("put", "x", "there"): "1 file",
    ("sync", "tree", "tree"): "1 file",
    ("deploy.status",): RELEASE,
    ("deploy.check",): "would work",
}


@pytest.fixture
def shells(tmp_path: Path) -> list[HostileShell]:
    found = [HostileShell(tmp_path / f"answers{n}") for n in range(len(EVIL))]
    for shell, answers in zip(found, ANSWERS, strict=True):
        shell.answer(answers)
    return found


@pytest.fixture(params=[2, pytest.param(17, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def good(
    request: pytest.FixtureRequest,
    make_sshd: MakeSshd,
    write_hosts: WriteHosts,
    shells: list[HostileShell],
    tmp_path: Path,
) -> list[str]:
    """The names of the honest hosts of the fleet."""
    evil = [make_sshd(config=shell.config) for shell in shells]
    # The hostile ones are first, so that a failure of theirs would come before the others' turn.
    hosts = {
        name: {"ssh_port": server.port, "use_control_master": True}
        for name, server in zip(EVIL, evil, strict=True)
    }
    numbers = range(1, request.param + 1)
    addresses = [f"127.0.0.{number}" for number in numbers]
    # sshd listens at 16 addresses at most.
    servers = [make_sshd(addresses=part) for part in (addresses[:9], addresses[9:]) if part]
    names = [f"good{number}" for number in numbers]
    for number, name in zip(numbers, names, strict=True):
        hosts[name] = {
            "ssh_host": f"127.0.0.{number}",
            "ssh_port": servers[(number - 1) // 9].port,
            "use_control_master": True,
            "work_dir": str(tmp_path / "work" / name),
        }
        (tmp_path / "work" / name).mkdir(parents=True)
    write_hosts(**hosts)
    return names


def test_hostile_answers_do_not_affect_the_commands_of_other_hosts(
    inv: Inv, tmp_path: Path, good: list[str]
) -> None:
    """One login for all tasks: they share the control masters."""
    (tmp_path / "x").write_text("x")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "y").write_text("y")
    (tmp_path / "invoke.yaml").write_text(
        f"deploy: {{hosts: '@all', path: '{tmp_path}/srv/{{host}}', check: 'true'}}"
    )
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com"]
    subprocess.run([*git, "init", "-q", tmp_path], check=True)
    subprocess.run([*git, "-C", tmp_path, "commit", "-qm", "x", "--allow-empty"], check=True)
    for host in (*good, *EVIL):
        folder = tmp_path / "srv" / host / "releases" / RELEASE
        folder.mkdir(parents=True)
        (folder / ".ringtasks-release").touch()
        (tmp_path / "srv" / host / "current").symlink_to(f"releases/{RELEASE}")
    for (name, *arguments), expected in TASKS.items():
        done = inv(name, *arguments, "--host", "@all", timeout=300)

        said = (done.stdout + done.stderr).decode()
        print(said[:3000])
        assert "Traceback" not in said
        assert len(said) < 30_000
        for host in good:
            assert re.search(rf"\b{host}\b.*{expected}", said, re.MULTILINE), said
