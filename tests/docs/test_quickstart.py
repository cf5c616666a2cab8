"""The programs of docs/quickstart.md run, and print what the page says."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringtasks import close_all_clients_sync
from ringtasks.remote.launcher import JOBS_FOLDER
from tests.support.faulty import Refusing
from tests.support.fixtures import MakeSshd, WriteHosts
from tests.support.sshd import Sshd

PAGE = (Path(__file__).parents[2] / "docs" / "quickstart.md").read_text()

SECTIONS = [
    "Basic use", "Fallback", "Health", "Background job", "Manual SSHConfig",
    "Config from a HostConfig", "Retry", "Timeout", "Folder: cwd", "Environment: env", "Transfers",
    "Connectivity", "Best client",
]  # fmt: skip


def programs() -> Iterator[tuple[str, str, str]]:
    """(section and number, program, what it prints) of every program of the page."""
    for section in PAGE.split("\n## ")[1:]:
        title = section.partition("\n")[0]
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        followed = itertools.zip_longest(blocks, blocks[1:], fillvalue=("", ""))
        found = [(code, then) for (kind, code), then in followed if kind == "python"]
        for number, (code, (kind, text)) in enumerate(found, 1):
            yield f"{title} {number}", code, text if kind == "text" else ""


PROGRAMS = list(programs())


@pytest.fixture
def fleet(
    make_sshd: MakeSshd,
    write_hosts: WriteHosts,
    client_key: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Sshd]:
    """The page's three hosts: the first has a dead route, the last is switched off."""
    server = make_sshd()
    (Path.home() / ".ssh").mkdir(mode=0o700)
    shutil.copy(client_key, Path.home() / ".ssh" / "id_ed25519")
    common = {
        "ssh_host": server.address, "ssh_port": server.port, "ssh_key": "~/.ssh/id_ed25519",
    }  # fmt: skip
    with Refusing() as dead:
        refused = {"tailscale_ip": dead.address, "tailscale_port": dead.port}
        hosts = write_hosts(
            runpod_h100={**common, **refused},
            lambda_a100=common,
            vast_3090={**common, "ssh_host": dead.address, "ssh_port": dead.port},
        )
        monkeypatch.setenv("RINGTASKS_HOSTS", str(hosts))
        monkeypatch.chdir(tmp_path)
        yield server
        close_all_clients_sync()
    for file in server.home.glob(f"{JOBS_FOLDER}/*/pid"):
        if not (file.parent / "exit_status").exists():
            os.killpg(int(file.read_text()), signal.SIGKILL)


@pytest.mark.parametrize(
    ("program", "printed"),
    [pytest.param(program, printed, id=name) for name, program, printed in PROGRAMS],
)
def test_quickstart_commands_print_the_documented_output(
    fleet: Sshd, capsys: pytest.CaptureFixture[str], program: str, printed: str
) -> None:
    # The one address, port and user that stand in a program are of no real host.
    here = {"203.0.113.10": fleet.address, "30178": str(fleet.port), '"root"': f'"{fleet.user}"'}
    for documented, real in here.items():
        program = program.replace(documented, real)

    exec(compile(program, "docs/quickstart.md", "exec"), {"__name__": "__main__"})

    assert capsys.readouterr().out == printed


def test_every_interface_has_a_quickstart_section_with_a_program() -> None:
    assert [name.rpartition(" ")[0] for name, _, _ in PROGRAMS if name.endswith(" 1")] == SECTIONS
    assert len(PROGRAMS) == PAGE.count("```python")


def test_every_quickstart_program_is_followed_by_its_output() -> None:
    for name, program, printed in PROGRAMS:
        assert ("print(" in program) is bool(printed), name
