"""The agent that ssh_config names is forwarded, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringtasks import Connection, SSHClient, SSHConfig
from tests.support.agents import Agent
from tests.support.sshd import Sshd, make_key

LISTED = "timeout 10 ssh-add -l 2>&1 || echo status $?"


@pytest.mark.matrix(3)
@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ("ForwardAgent yes", "all"),
        ("ForwardAgent {limited}", "limited"),
        ("ForwardAgent $RT_LIMITED", "limited"),
        ("IdentityAgent {limited}\nForwardAgent yes", "limited"),
        ("IdentityAgent none\nForwardAgent yes", "Could not open a connection"),
        ("ForwardAgent {limited}.none", "status"),
    ],
)
def test_agent_that_ssh_config_names_is_forwarded_in_process(
    sshd: Sshd,
    client_key: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: str,
    shown: str,
) -> None:
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    with Agent(tmp_path / "all") as everything, Agent(tmp_path / "limited") as limited:
        everything.add(make_key(tmp_path / "key", "-t", "ed25519", "-N", "", "-C", "all"))
        limited.add(make_key(tmp_path / "other", "-t", "ed25519", "-N", "", "-C", "limited"))
        monkeypatch.setenv("SSH_AUTH_SOCK", everything.path)
        monkeypatch.setenv("RT_LIMITED", limited.path)
        (folder / "config").write_text(
            f"Host box\nHostName {sshd.address}\nPort {sshd.port}\nIdentityFile {client_key}\n"
            + lines.format(limited=limited.path)
        )
        with SSHClient(SSHConfig("box", use_control_master=False)) as client:
            ran = client.run(LISTED, timeout=20).stdout
        with Connection("box", forward_agent=True) as connection:
            by_fabric = connection.run(LISTED, hide=True, in_stream=False).stdout

    others = {"all", "limited"} - {shown}
    for listed in (ran, by_fabric):
        assert shown in listed
        assert not any(f" {other} (" in listed for other in others)
