"""Keywords of another release of ssh (IgnoreUnknown) are ignored exactly if ssh ignores them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ringtasks import Connection, SSHClient, SSHConfig
from ringtasks.errors import UsageError
from tests.support.fixtures import Inv, WriteHosts
from tests.support.sshd import Sshd


def write_config(text: str, sshd: Sshd, key: Path) -> Path:
    path = Path.home() / ".ssh" / "config"
    path.parent.mkdir(mode=0o700)
    path.write_text(
        f"{text}\nHost box\n  HostName {sshd.address}\n  Port {sshd.port}\n  IdentityFile {key}\n"
    )
    return path


@pytest.mark.parametrize(
    "lines",
    [
        "IgnoreUnknown UseKeychain\nHost *\n  UseKeychain yes",
        "IgnoreUnknown=Other*,usekey????\nHost box\n  UseKeychain yes",
        "Host box\n  IgnoreUnknown UseKeychain\nHost other\n  UseKeychain yes",
        "UseKeychain yes\nIgnoreUnknown UseKeychain",
        "IgnoreUnknown Other\nIgnoreUnknown UseKeychain\nUseKeychain yes",
        "Host other\n  IgnoreUnknown UseKeychain\nHost *\n  UseKeychain yes",
    ],
    ids=["for all", "patterns", "in the host's block", "too late", "first counts", "other host"],
)
def test_unknown_keyword_is_ignored_exactly_if_ssh_ignores_it(
    lines: str, sshd: Sshd, client_key: Path, use_control_master: bool
) -> None:
    file = write_config(lines, sshd, client_key)
    asked = subprocess.run(["ssh", "-F", file, "-G", "box"], capture_output=True, check=False)
    is_ignored = asked.returncode == 0

    with SSHClient(SSHConfig("box", use_control_master=use_control_master)) as client:
        if is_ignored:
            assert client.run("echo in").stdout == "in\n"
        else:
            with pytest.raises(UsageError, match=rf"{file}: line \d: .*: usekeychain"):
                client.run("echo in")


def test_every_task_ignores_or_names_an_unknown_keyword(
    inv: Inv, write_hosts: WriteHosts, sshd: Sshd, client_key: Path, tmp_path: Path
) -> None:
    known = write_config("IgnoreUnknown UseKeychain\nUseKeychain yes", sshd, client_key)
    hosts_file = str(write_hosts(box={"ssh_host": "box", "ssh_port": None, "ssh_key": None}))
    tasks = [
        ["run", "--host", "box", "--cmd", "true"],
        ["check", "--host", "box"],
        ["check", "--host", "box", "--fresh"],
        ["put", hosts_file, str(tmp_path / "copy"), "--host", "box"],
    ]

    statuses = [inv(*task).returncode for task in tasks]
    with Connection("box") as connection:
        ran = connection.run("echo in", hide=True)
    known.write_text(known.read_text().replace("IgnoreUnknown", "#"))
    refused = [inv(*task) for task in tasks]

    assert (statuses, ran.stdout) == ([0, 0, 0, 0], "in\n")
    assert [done.returncode for done in refused] == [2, 2, 2, 2]
    for done in refused:
        assert b"line 2: Bad configuration option: usekeychain" in done.stdout + done.stderr
