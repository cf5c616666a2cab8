"""``inv ssh-config``: OpenSSH's own clients reach the hosts with it."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ringtasks.client.route_plan import load
from ringtasks.health.store import HealthStore
from tests.support.fixtures import Inv, WriteHosts
from tests.support.sshd import Sshd

DEAD_TAILNET = {"tailscale_ip": "127.0.0.1", "tailscale_port": 9}

WriteConfig = Callable[..., Path]


@pytest.fixture
def write_config(inv: Inv, tmp_path: Path) -> WriteConfig:
    """Writes what the task prints to a file for ``ssh -F``."""

    def write(*flags: str) -> Path:
        done = inv("ssh-config", *flags)
        assert done.returncode == 0, done.stderr
        path = tmp_path / "ssh_config"
        path.write_bytes(done.stdout)
        return path

    return write


def run(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(words, capture_output=True, timeout=60, check=False, **options)


def test_each_ssh_client_program_reaches_a_host_whose_first_route_is_dead(
    write_hosts: WriteHosts, write_config: WriteConfig, sshd: Sshd, tmp_path: Path
) -> None:
    write_hosts(a=DEAD_TAILNET)
    config = str(write_config())
    sent, there = tmp_path / "sent", tmp_path / "there"
    sent.write_text("content")
    there.mkdir()
    repository = tmp_path / "repo"
    git = ("git", "-c", "user.name=n", "-c", "user.email=e@x", "-C", str(repository))
    run("git", "init", "-q", str(repository))
    run(*git, "commit", "-q", "--allow-empty", "-m", "first")
    shell = f"ssh -F {config}"
    environment = {**os.environ, "GIT_SSH_COMMAND": shell}

    done = {
        "ssh": run("ssh", "-F", config, "a", "printf reached"),
        "scp": run("scp", "-F", config, sent, f"a:{there}/scp"),
        "sftp": run(
            "sftp", "-F", config, "-b", "-", "a", input=f"put {sent} {there}/sftp".encode()
        ),
        "rsync": run("rsync", "-e", shell, sent, f"a:{there}/rsync"),
        "git": run("git", "clone", "-q", f"a:{repository}", there / "git", env=environment),
    }

    assert {name: each.returncode for name, each in done.items()} == dict.fromkeys(done, 0), done
    assert done["ssh"].stdout == b"reached"
    assert [(there / name).read_text() for name in ("scp", "sftp", "rsync")] == ["content"] * 3
    assert (there / "git" / ".git" / "HEAD").exists()
    assert HealthStore().get("a").transports["direct"].total_successes == 5


def test_routes_are_known_before_the_first_connection(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path
) -> None:
    hosts = write_hosts(a=DEAD_TAILNET, b={"proxy_jump": "a"})

    dry = inv("--dry", "ssh-config", "--install")
    assert load(str(hosts), "a") is None
    done = inv("ssh-config", "--install")

    assert (dry.returncode, done.returncode) == (0, 0), done.stderr
    known = load(str(hosts), "a")
    assert known is not None
    assert known.routes[0] == ("tailscale", "127.0.0.1", 9)
    assert load(str(hosts), "b") is None  # it needs more than a connection


def test_pins_apply_to_both_ssh_and_the_tasks(
    inv: Inv, write_hosts: WriteHosts, write_config: WriteConfig
) -> None:
    write_hosts(a={})
    config = write_config()
    assert run("ssh", "-F", config, "a", "true").returncode == 0  # the first contact

    assert inv("run", "--host", "a", "--cmd", "true").returncode == 0
    pins = Path(os.environ["XDG_STATE_HOME"]) / "ringtasks" / "known_hosts"
    name, kind, _ = pins.read_text().split(maxsplit=2)
    assert name == "a"
    other = Path(os.environ["HOME"]) / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    pins.write_text(f"a {Path(f'{other}.pub').read_text()}")

    refused = run("ssh", "-F", config, "a", "true")

    assert (kind, refused.returncode) == ("ssh-ed25519", 255)
    assert b"verification failed" in refused.stderr


@pytest.mark.parametrize("is_right", [True, False], ids=["the right key", "another key"])
def test_a_key_in_the_hosts_file_is_the_only_one_accepted(
    write_hosts: WriteHosts, write_config: WriteConfig, sshd: Sshd, client_key: Path, is_right: bool
) -> None:
    other = " ".join(Path(f"{client_key}.pub").read_text().split()[:2])
    write_hosts(a={"ssh_host_key": sshd.host_public_key if is_right else other})

    done = run("ssh", "-F", write_config(), "a", "true")

    assert done.returncode == (0 if is_right else 255), done.stderr


def test_an_open_connection_is_shared_until_the_routes_change(
    inv: Inv, write_hosts: WriteHosts, write_config: WriteConfig, sshd: Sshd
) -> None:
    write_hosts(a={"use_control_master": True})
    config = write_config()
    assert inv("run", "--host", "a", "--cmd", "true").returncode == 0
    before = sshd.accepted_logins()

    warm = run("ssh", "-F", config, "a", "printf reached")

    assert (warm.stdout, sshd.accepted_logins()) == (b"reached", before)
    write_hosts(a={"use_control_master": True, "ssh_host": "127.0.0.1", "ssh_port": 9})
    assert inv("run", "--host", "a", "--cmd", "true").returncode == 255
    moved = run("ssh", "-F", config, "a", "true")
    assert moved.returncode == 255
    assert b"refused" in moved.stderr


@pytest.mark.parametrize("task", ["hosts", "why", "ssh-config", "run at the old place"])
def test_connection_to_a_former_address_is_not_used_after_a_look(
    inv: Inv, write_hosts: WriteHosts, write_config: WriteConfig, sshd: Sshd, task: str
) -> None:
    warm = {"use_control_master": True}
    hosts = write_hosts(a=warm)
    config, text = write_config(), hosts.read_text()
    assert inv("run", "--host", "a", "--cmd", "true").returncode == 0
    write_hosts(a={**warm, "ssh_host": "127.0.0.1", "ssh_port": 9})

    if task == "run at the old place":
        assert inv("run", "--host", "a", "--cmd", "true").returncode == 255
        hosts.write_text(text)
        before = sshd.accepted_logins()
        assert inv("run", "--host", "a", "--cmd", "true").returncode == 0
        assert run("ssh", "-F", config, "a", "printf reached").stdout == b"reached"
        assert sshd.accepted_logins() == before  # the link leads there again
        return
    done = inv(*([task, "--host", "a", "--json"] if task == "why" else [task]))
    refused = run("ssh", "-F", config, "a", "true")

    assert (done.returncode, refused.returncode) == (0, 255), done.stderr
    assert b"refused" in refused.stderr
    if task == "why":
        former = json.loads(done.stdout)["former_master"]
        assert former["address"] == f"{sshd.address}:{sshd.port}"
        assert json.loads(inv("why", "--host", "a", "--json").stdout)["former_master"] is None


def test_why_tells_of_a_connection_to_a_former_address(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={"use_control_master": True})
    assert inv("run", "--host", "a", "--cmd", "true").returncode == 0
    write_hosts(a={"use_control_master": True, "ssh_port": 9})

    assert b"ssh a: used an open connection with other routes" in inv("why", "--host", "a").stdout


def test_another_user_does_not_get_the_open_connection(
    inv: Inv, write_hosts: WriteHosts, write_config: WriteConfig
) -> None:
    write_hosts(a={"use_control_master": True})
    config = write_config()
    assert inv("run", "--host", "a", "--cmd", "true").returncode == 0

    done = run("ssh", "-F", config, "-o", "BatchMode=yes", "no-such-user@a", "printf reached")

    assert (done.returncode, done.stdout) == (255, b"")


def test_address_is_resolved_for_each_connection(
    write_hosts: WriteHosts, write_config: WriteConfig
) -> None:
    write_hosts(a={"ssh_host": "127.0.0.1", "ssh_port": 9})
    config = write_config()
    write_hosts(a={})

    assert run("ssh", "-F", config, "a", "printf reached").stdout == b"reached"


def test_prefix_is_added_to_each_host_name(
    write_hosts: WriteHosts, write_config: WriteConfig
) -> None:
    write_hosts(a={})
    config = write_config("--prefix", "box-")

    assert run("ssh", "-F", config, "box-a", "printf reached").stdout == b"reached"


HOSTILE: dict[str, dict[str, Any]] = {
    "-oProxyCommand": {},
    "a*": {},
    "semi;touch$IFS'ran'": {},
    "x@y": {},
    "../up": {},
    "per%cent": {},
    "quo'te\"": {},
    "user": {"ssh_user": "x\"y'$(touch${IFS}ran)"},
    "token": {"ssh_user": "%h"},
    "dollar": {"ssh_key": "/k/${HOME}\\ x"},
}


def test_hostile_names_and_values_are_omitted(
    inv: Inv, tmp_path: Path, sshd: Sshd, client_key: Path
) -> None:
    common = {"ssh_host": sshd.address, "ssh_port": sshd.port, "ssh_key": str(client_key)}
    hosts = {name: {**common, **own} for name, own in HOSTILE.items()}
    file = tmp_path / "hosts" / "hosts.yaml"
    file.parent.mkdir()
    file.write_text(
        yaml.safe_dump({"hosts": {**hosts, "good": common, "demo": {"embedded": True}}})
    )

    done = inv("ssh-config", "--host", "@all,demo")
    config = tmp_path / "ssh_config"
    config.write_bytes(done.stdout)
    reached = run("ssh", "-F", config, "good", "printf reached", cwd=tmp_path)

    named = [line for line in done.stdout.decode().splitlines() if line.startswith("Host ")]
    assert [line for line in named if line not in ("Host dollar", "Host good")] == []
    assert done.stderr.count(b"left out") >= len(HOSTILE) - 1
    assert b"left out: demo: an embedded host runs only while a task does" in done.stderr
    assert reached.stdout == b"reached", reached.stderr
    assert not (tmp_path / "ran").exists()


def test_name_of_another_machine_that_only_a_source_gives_is_omitted(
    inv: Inv, tmp_path: Path
) -> None:
    listed = {name: {"ssh_host": "h"} for name in ("github.com", "8.8.8.8", "localhost", "gpu-1")}
    (tmp_path / "list.json").write_text(
        json.dumps({**listed, "h.example": {"ssh_host": "h.example"}})
    )
    file = tmp_path / "hosts.yaml"
    source = "sources: [{from: command, command: cat list.json}]"
    file.write_text(f"hosts: {{own.example: {{ssh_host: h}}}}\n{source}\n")

    done = inv("ssh-config", "--inventory", str(file))
    prefixed = inv("ssh-config", "--inventory", str(file), "--prefix", "box-")

    def names(text: bytes) -> list[str]:
        lines = text.decode().splitlines()
        return [line.removeprefix("Host ") for line in lines if line.startswith("Host ")]

    assert names(done.stdout) == ["own.example", "gpu-1", "h.example"]
    assert done.stderr.count(b"add --prefix") == 3
    assert len(names(prefixed.stdout)) == 6


def test_a_hosts_file_in_a_folder_with_any_name_works(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path
) -> None:
    folder = tmp_path / "a 100% $(touch ran) 'quoted' \"folder\""
    folder.mkdir()
    file = Path(shutil.move(write_hosts(a={}), folder))
    config = tmp_path / "ssh_config"
    config.write_bytes(inv("ssh-config", "--inventory", str(file)).stdout)

    done = run("ssh", "-F", config, "a", "printf reached", cwd=tmp_path)

    assert done.stdout == b"reached", done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("prefix", ["b*", "a b", "-", "x\n"])
def test_prefix_that_ssh_could_misread_is_refused(
    inv: Inv, write_hosts: WriteHosts, prefix: str
) -> None:
    write_hosts(a={})
    assert inv("ssh-config", "--install").returncode == 0
    file = Path(os.environ["HOME"]) / ".ssh" / "ringtasks_config"
    before = file.read_bytes()

    done = inv("ssh-config", "--install", f"--prefix={prefix}")

    assert done.returncode == 2
    assert b"--prefix" in done.stderr
    assert file.read_bytes() == before


def test_install_has_a_dry_run_is_idempotent_and_can_be_undone(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path
) -> None:
    write_hosts(a={})
    folder = Path(os.environ["HOME"]) / ".ssh"
    folder.mkdir(mode=0o700)
    kept = tmp_path / "dotfiles"
    kept.write_text("Host other\n  User x\n")
    kept.chmod(0o640)
    (folder / "config").symlink_to(kept)

    dry = inv("--dry", "ssh-config", "--install")
    assert kept.read_text().startswith("Host other")
    first, second = inv("ssh-config", "--install"), inv("ssh-config", "--install")

    assert b"adds the line: Include" in dry.stderr
    assert b"Host a\n" in first.stdout
    assert b"nothing to change" in second.stderr
    lines = kept.read_text().splitlines()
    assert lines == [f"Include {folder}/ringtasks_config", "", "Host other", "  User x"]
    assert kept.stat().st_mode & 0o777 == 0o640
    assert run("ssh", "-F", folder / "config", "a", "printf reached").stdout == b"reached"
    assert inv("ssh-config", "--remove").returncode == 0
    assert kept.read_text() == "Host other\n  User x\n"
    assert sorted(path.name for path in folder.iterdir()) == ["config"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"User x\r\nHost b\r\n  User y\r\n", None),
        (b"Host b\n  User y", None),
        (b"# none\n\xff\n", None),
        (b"Host b\n  INCLUDE\n  User y\n", b"Host b\n  User y\n"),
        (b"# ours\nINCLUDE\nHost b\n", b"# ours\nHost b\n"),
    ],
    ids=["empty", "CRLF", "no line end", "not UTF-8", "of one host only", "already there"],
)
def test_include_line_is_for_all_hosts_and_the_rest_stays(
    inv: Inv, write_hosts: WriteHosts, before: bytes, after: bytes | None
) -> None:
    write_hosts(a={})
    config = Path(os.environ["HOME"]) / ".ssh" / "config"
    config.parent.mkdir(mode=0o700)
    include = f"Include {config.parent}/ringtasks_config".encode()
    before = before.replace(b"INCLUDE", include)
    config.write_bytes(before)

    assert inv("ssh-config", "--install").returncode == 0
    installed = config.read_bytes()
    assert inv("ssh-config", "--install").returncode == 0

    assert config.read_bytes() == installed
    assert installed.count(include) == 1
    assert installed.splitlines().index(include) <= 1
    assert inv("ssh-config", "--remove").returncode == 0
    expected = before if after is None else after
    assert (config.read_bytes() if config.exists() else b"") == expected


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("include {own}", ""),
        ("  INCLUDE = {own}  # ours", ""),
        ("Include ~/.ssh/ringtasks_config", ""),
        ("Include ringtasks_config", ""),
        ('include "{own}"', ""),
        ("Include other ringtasks_config", None),
        ("Include ~/.ssh/*_config", None),
    ],
)
def test_an_include_line_in_any_form_is_kept(
    inv: Inv, write_hosts: WriteHosts, line: str, after: str | None
) -> None:
    write_hosts(a={})
    config = Path(os.environ["HOME"]) / ".ssh" / "config"
    config.parent.mkdir(mode=0o700)
    line = line.format(own=config.parent / "ringtasks_config") + "\n"
    config.write_text(f"{line}Host b\n")

    done = inv("ssh-config", "--install")
    installed = config.read_text()
    removed = inv("ssh-config", "--remove")

    assert (done.returncode, removed.returncode) == (0, 0), done.stderr
    assert installed == f"{line}Host b\n"
    assert config.read_text() == (line if after is None else after) + "Host b\n"


def test_install_warns_if_ssh_does_not_read_the_file(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})
    home, real = os.environ["HOME"], pwd.getpwuid(os.getuid()).pw_dir

    other = inv("ssh-config", "--install")
    dry = inv("--dry", "ssh-config", "--install", HOME=real)

    warning = f"warning: ssh reads {real}/.ssh/config, since it does not look at HOME"
    assert f"{warning}, which is {home}: use 'ssh -F {home}/.ssh/config'" in other.stderr.decode()
    assert b"warning: ssh reads" not in dry.stderr


def test_a_read_only_configuration_is_left_alone(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={})
    config = Path(os.environ["HOME"]) / ".ssh" / "config"
    config.parent.mkdir(mode=0o700)
    config.write_text("Host b\n")
    config.chmod(0o444)

    done = inv("ssh-config", "--install")

    assert done.returncode == 255
    assert b"is read-only; adds the line: Include" in done.stderr
    assert config.read_text() == "Host b\n"


def test_rehearsed_failures_reach_ssh(
    write_hosts: WriteHosts, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_hosts(a={})
    config = write_config()
    assert run("ssh", "-F", config, "a", "true").returncode == 0
    before = HealthStore().path.read_bytes()

    monkeypatch.setenv("RINGTASKS_REHEARSE", "direct=down")
    refused = run("ssh", "-F", config, "a", "true")
    monkeypatch.setenv("RINGTASKS_REHEARSE", "direct=cut:2s")
    cut = run("ssh", "-F", config, "a", "sleep 30")

    assert (refused.returncode, cut.returncode) == (255, 255)
    assert refused.stderr.count(b"ringtasks: REHEARSAL: direct=down (RINGTASKS_REHEARSE") == 1
    assert cut.stderr.count(b"REHEARSAL: direct=cut:2s") == 1
    assert b"ringtasks: a: REHEARSAL: the connection over direct is cut after 2 s" in cut.stderr
    assert HealthStore().path.read_bytes() == before


def test_a_client_as_vs_code_remote_ssh_works(
    write_hosts: WriteHosts, write_config: WriteConfig
) -> None:
    write_hosts(a=DEAD_TAILNET)
    config = str(write_config())
    with socket.create_server(("127.0.0.1", 0)) as free:
        dynamic = free.getsockname()[1]
    script = b"echo begun; read line; echo got $line\n"
    words = [
        "ssh", "-F", config, "-T", "-D", str(dynamic), "-R", "0:127.0.0.1:9",
        "-o", "ConnectTimeout=15", "a", "sh",
    ]  # fmt: skip
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(script)
        process.stdin.flush()
        assert process.stdout.readline() == b"begun\n"

        with socket.create_connection(("127.0.0.1", dynamic), 10) as proxy:
            proxy.sendall(b"\5\1\0")  # SOCKS5, no authentication (RFC 1928)
            greeting = proxy.recv(2)
        process.stdin.write(b"later\n")
        process.stdin.close()

        assert (greeting, process.stdout.readline()) == (b"\5\0", b"got later\n")
        assert process.wait(20) == 0


def test_name_of_an_installed_block_that_the_inventory_lost_is_unknown(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(a={}, ghost={})
    assert inv("ssh-config", "--install").returncode == 0
    write_hosts(a={})
    config = Path(os.environ["HOME"]) / ".ssh" / "config"

    done = inv("run", "--host", "ghost", "--cmd", "true")
    typed = run("ssh", "-F", config, "ghost", "true")

    assert (done.returncode, typed.returncode) == (2, 255)
    assert b"unknown host 'ghost'" in done.stderr
    assert b"unknown host 'ghost'" in typed.stderr


def test_alias_that_runs_connect_by_hand_does_not_run_itself(
    tmp_path: Path, sshd: Sshd, client_key: Path
) -> None:
    folder = Path(os.environ["HOME"]) / ".ssh"
    folder.mkdir()
    program = Path(sys.executable).with_name("ringtasks")
    config = folder / "config"
    config.write_text(
        f"Host alias\n  HostName {sshd.address}\n  Port {sshd.port}\n  IdentityFile {client_key}\n"
        f"  ProxyCommand {program} connect -- %n\n  StrictHostKeyChecking accept-new\n"
    )

    done = run("ssh", "-F", config, "alias", "printf reached", cwd=tmp_path)

    assert done.stdout == b"reached", done.stderr


def test_an_installed_block_does_not_change_the_tasks(
    inv: Inv, write_hosts: WriteHosts, sshd: Sshd
) -> None:
    write_hosts(localhost={"ssh_host": "localhost", "use_control_master": True})
    assert inv("ssh-config", "--install").returncode == 0

    done = inv("run", "--host", "localhost", "--cmd", "printf reached")
    config = Path(os.environ["HOME"]) / ".ssh" / "config"
    typed = run("ssh", "-F", config, "localhost", "printf reached")

    assert (done.stdout, typed.stdout) == (b"reached", b"reached"), done.stderr + typed.stderr
    assert HealthStore().get("localhost").total_failures == 0
