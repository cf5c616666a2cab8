"""``init`` in folders of new projects."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ringtasks.inventory.ssh_aliases import ssh_aliases
from tests.support.fixtures import Ringtasks


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()
    return folder


def write_ssh_config(text: str) -> None:
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "config").write_text(text)


def hosts_of(project: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = yaml.safe_load(
        (project / "hosts" / "distributed_hosts.yaml").read_text()
    )["hosts"]
    return found


def test_init_writes_no_settings_beside_those_of_another_suffix(
    project: Path, ringtasks: Ringtasks
) -> None:
    (project / "invoke.yml").write_text("deploy: {hosts: web}\n")
    (project / ".gitignore").write_bytes(b"\xff\nruns\n")

    done = ringtasks("init")

    assert done.returncode == 0, done.stderr
    assert "invoke.yml exists: left as it is" in done.stderr
    assert not (project / "invoke.yaml").exists()
    assert (project / ".gitignore").read_bytes().count(b"runs") == 1


@pytest.mark.parametrize(
    ("name", "told"),
    [("hosts", "hosts: File exists"), (".gitignore", ".gitignore: Is a directory")],
)
def test_init_names_what_is_in_its_way(
    project: Path, name: str, told: str, ringtasks: Ringtasks
) -> None:
    if name == "hosts":
        (project / name).touch()
    else:
        (project / name).mkdir()

    done = ringtasks("init")

    assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_init_leaves_no_unfinished_file(project: Path) -> None:
    program = Path(sys.executable).with_name("ringtasks")

    # As on a full disk: no byte can be written.
    done = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -f 0; exec "$0" init', program],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, "tasks.py: File too large" in done.stderr) == (2, True), done.stderr
    assert [path.name for path in project.iterdir()] == []


def test_init_writes_no_module_beside_a_package_of_tasks(
    project: Path, ringtasks: Ringtasks
) -> None:
    (project / "tasks").mkdir()
    (project / "tasks" / "__init__.py").touch()

    done = ringtasks("init")

    assert "tasks/__init__.py exists: left as it is" in done.stderr
    assert not (project / "tasks.py").exists()


def test_init_makes_a_working_project_in_an_empty_directory(
    project: Path, ringtasks: Ringtasks
) -> None:
    done = ringtasks("init")

    assert done.returncode == 0, done.stderr
    *_, note, last = done.stderr.splitlines()
    assert "no terminal to ask for some: 'demo' in hosts/distributed_hosts.yaml is" in note
    assert last == "ringtasks: next: ringtasks run --host demo --cmd hostname"
    ran = ringtasks(*last.removeprefix("ringtasks: next: ringtasks ").split())
    assert (ran.returncode, ran.stdout.strip()) == (0, os.uname().nodename), ran.stderr
    assert "demo" in ringtasks("hosts").stdout
    listed = subprocess.run(
        [sys.executable, "-m", "invoke", "--list"], capture_output=True, text=True, check=True
    )
    assert "deploy.run" in listed.stdout
    assert (project / ".gitignore").read_text() == "hosts/distributed_hosts.yaml\nruns/\n/*.svg\n"


def test_init_lists_hosts_of_ssh_config_and_the_tailnet(
    project: Path, tmp_path: Path, ringtasks: Ringtasks
) -> None:
    write_ssh_config(
        "Host box gpu-*\n  HostName 203.0.113.9\nHost=mac\nMatch all\n  User x\n"
        "Host github.com\nHost work\n HostName ssh.github.com\nHost forge\n  User git\n"
    )
    peers = {
        "a": {"DNSName": "box.t.ts.net.", "OS": "linux", "TailscaleIPs": ["100.64.0.1", "fd7a::1"]},
        "b": {"HostName": "trainer", "OS": "linux", "TailscaleIPs": ["100.64.0.2"]},
        "c": {"HostName": "phone", "OS": "iOS", "TailscaleIPs": ["100.64.0.3"]},
        "d": {"HostName": "-oProxyCommand=x", "OS": "linux", "TailscaleIPs": ["100.64.0.4"]},
        "e": "no machine", "f": {"HostName": "none", "OS": "linux", "TailscaleIPs": 7},
    }  # fmt: skip
    program = tmp_path / "bin" / "tailscale"
    program.write_text(f"#!/bin/sh\ncat <<'E'\n{json.dumps({'Peer': peers})}\nE\n")
    program.chmod(0o755)

    done = ringtasks("init")

    assert hosts_of(project) == {
        "box": {"ssh_host": "box", "tailscale_ip": "100.64.0.1"},
        "mac": {"ssh_host": "mac"},
        "trainer": {"tailscale_ip": "100.64.0.2"},
        "oProxyCommand-x": {"tailscale_ip": "100.64.0.4"},
    }
    assert done.stderr.splitlines()[-1] == "ringtasks: next: ringtasks check"
    assert ringtasks("hosts").returncode == 0


@pytest.mark.parametrize("answer", ["not json", "[]", '{"Peer": [1]}', '{"Peer": 7}', "null"])
def test_unexpected_tailscale_output_gives_no_hosts(
    project: Path, tmp_path: Path, answer: str, ringtasks: Ringtasks
) -> None:
    program = tmp_path / "bin" / "tailscale"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)

    assert ringtasks("init").returncode == 0
    assert hosts_of(project) == {"demo": {"embedded": True}}
    assert (project / "invoke.yaml").read_text().count("hosts: demo ") == 2


def test_init_changes_no_existing_file(project: Path, tmp_path: Path, ringtasks: Ringtasks) -> None:
    mine = {"tasks.py": "x = 1\n", "invoke.yaml": "run: {}\n", ".gitignore": "*.pyc\nruns/"}
    for name, text in mine.items():
        (project / name).write_text(text)
    (project / "hosts").mkdir()
    (project / "hosts" / "cluster_hosts.yaml").write_text("a: {ssh_host: h}\n")

    first, second = ringtasks("init"), ringtasks("init")

    assert first.returncode == second.returncode == 0
    assert (project / "tasks.py").read_text() == mine["tasks.py"]
    assert (project / "invoke.yaml").read_text() == mine["invoke.yaml"]
    ignored = (project / ".gitignore").read_text()
    assert ignored == "*.pyc\nruns/\nhosts/distributed_hosts.yaml\n/*.svg\n"
    assert [path.name for path in (project / "hosts").iterdir()] == ["cluster_hosts.yaml"]
    assert "tasks.py exists: left as it is" in first.stderr
    assert "nothing to write" in second.stderr


def test_init_does_not_write_through_a_symbolic_link(
    project: Path, tmp_path: Path, ringtasks: Ringtasks
) -> None:
    (project / "tasks.py").symlink_to(tmp_path / "elsewhere.py")

    assert ringtasks("init").returncode == 0
    assert not (tmp_path / "elsewhere.py").exists()


def test_init_prompts_for_hosts_at_a_terminal(project: Path, ringtasks: Ringtasks) -> None:
    leader, follower = pty.openpty()
    os.write(leader, b"root@203.0.113.9:30178\nbad name!\ntrainer\nno host:x\nmac.local\n\n")
    os.write(leader, b"203.0.113.8\n\nfd7a::1\nmac\n\n\n")
    done = ringtasks("init", stdin=follower)
    os.close(follower)
    os.close(leader)

    assert done.returncode == 0, done.stderr
    assert "expected a host name without spaces" in done.stderr
    assert hosts_of(project) == {
        "trainer": {"ssh_host": "203.0.113.9", "ssh_port": 30178, "ssh_user": "root"},
        "mac": {"ssh_host": "mac.local"},
        "box": {"ssh_host": "203.0.113.8"},
        "box-2": {"ssh_host": "fd7a::1"},
    }
    assert "mac is taken" in done.stderr


def test_init_reads_aliases_from_included_ssh_config_files(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        'Include more/* config\nHost "quoted" !not * a?b # comment\nHost open"\n'
        r"""Host a#b part"ed" back\slash 'a\'b' a\ b "c d" # ' """
    )
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "one").write_text("HOST inner\n")

    assert ssh_aliases(config) == ["inner", "quoted", "parted"]
    assert ssh_aliases(tmp_path / "missing") == []
