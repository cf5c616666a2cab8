"""``inv why``: the order of the routes, reasons, origins, and commands that work as typed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from ringtasks.health.model import HostOutcome, RouteOutcome
from ringtasks.health.store import HealthStore
from tests.support.cloudflared import Cloudflared
from tests.support.fixtures import Inv, WriteHosts
from tests.support.sshd import Sshd

DEAD_TAILNET = {"tailscale_ip": "127.0.0.1", "tailscale_port": 9}


def why(inv: Inv, host: str = "a") -> dict[str, Any]:
    done = inv("why", "--host", host, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def typed(command: str) -> subprocess.CompletedProcess[bytes]:
    """Type it into a shell, with a command for the host; nothing is asked."""
    line = f"{command} printf reached"
    return subprocess.run(["sh", "-c", line], capture_output=True, timeout=30, check=False)


def test_why_lists_routes_in_current_order_with_reasons(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a=DEAD_TAILNET)
    failed = RouteOutcome("tailscale", success=False, reason="refused")
    HealthStore().record(
        [HostOutcome("a", success=True, routes=(failed, RouteOutcome("direct", success=True)))]
    )

    direct, tailscale = why(inv)["routes"]

    assert (direct["route"], direct["state"]) == ("direct", "closed")
    assert (tailscale["route"], tailscale["state"]) == ("tailscale", "open")
    assert (tailscale["last_reason"], tailscale["retry_at"] > time.time()) == ("refused", True)
    assert re.match(r"failed \d+ s ago: refused; at the back", tailscale["reason"])
    assert "at the back of the order" in tailscale["reason"]
    for words in (["run", "--cmd", "true"], ["put", "/etc/hosts", "x"]):
        plan = inv("--dry", *words, "--host", "a", "--json")
        routes = [route.partition(" ")[0] for route in json.loads(plan.stdout)["routes"]]
        assert routes == ["direct", "tailscale"], plan.stderr


def test_why_shows_the_rehearsed_failures_of_a_route(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a=DEAD_TAILNET)

    words = "tailscale=down,a.direct=slow:2s,a.direct=cut:3s"
    done = inv("why", "--host", "a", "--json", "--rehearse", words)
    text = inv("why", "--host", "a", RINGTASKS_REHEARSE=words)

    found = json.loads(done.stdout)
    assert found["rehearsal"] == words
    rehearsed = {route["route"]: route["rehearsed"] for route in found["routes"]}
    assert rehearsed == {"tailscale": "down", "direct": "slow:2s, cut:3s"}
    assert text.stdout.count(b"REHEARSAL: ") == 2
    assert b"REHEARSAL: tailscale=down" in done.stderr


def test_why_does_not_claim_that_a_changed_address_works(inv: Inv, write_hosts: WriteHosts) -> None:
    hosts = write_hosts(a={})
    now = time.time()
    os.utime(hosts, (now - 60, now - 60))
    HealthStore().record(
        [HostOutcome("a", success=True, routes=(RouteOutcome("direct", success=True),))]
    )
    (before,) = why(inv)["routes"]
    write_hosts(a={"ssh_port": 9})
    os.utime(hosts, (now + 60, now + 60))

    (after,) = why(inv)["routes"]

    assert re.fullmatch(r"worked \d+ s ago", before["reason"])
    assert "the hosts file is newer, so that may have been another address" in after["reason"]


def test_why_sends_and_records_nothing(inv: Inv, write_hosts: WriteHosts, sshd: Sshd) -> None:
    write_hosts(a=DEAD_TAILNET)
    before = sshd.log

    found = inv("why", "--host", "a")

    assert (found.returncode, sshd.log) == (0, before)
    assert not HealthStore().path.exists()


@pytest.mark.parametrize(
    "own",
    [
        {"tailscale_ip": "127.0.0.2"},
        {"tailscale_ip": "127.0.0.2", "ssh_host_key": "its own"},
        {"tailscale_ip": "127.0.0.2", "is_ephemeral": True},
        {"proxy_jump": "jump-box", "tailscale_ip": "127.0.0.2"},
        {"proxy_jump": "jump-box", "tailscale_ip": "127.0.0.2", "ssh_key": None},
        {"ssh_host": "alias", "tailscale_ip": "127.0.0.2", "ssh_key": None, "ssh_user": None},
    ],
    ids=[
        "first contact",
        "pinned by the inventory",
        "ephemeral",
        "behind a jump host",
        "keys below HOME",
        "alias of ssh_config",
    ],
)
def test_each_ssh_command_shown_by_why_works(
    inv: Inv,
    write_hosts: WriteHosts,
    sshd: Sshd,
    client_key: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: dict[str, Any],
) -> None:
    if own.get("ssh_host_key"):
        own = {**own, "ssh_host_key": sshd.host_public_key}
    key = tmp_path / 'a key\'s 100% "own" folder' / "id"
    key.parent.mkdir()
    key.write_bytes(client_key.read_bytes())
    key.chmod(0o600)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state with 100% spaces"))
    common = {"tailscale_port": sshd.port, "ssh_key": str(key)}
    write_hosts(
        a={**common, **own},
        jump_box={"ssh_host": "127.0.0.3", **({"ssh_key": None} if "ssh_key" in own else {})},
    )
    folder = Path(os.environ["HOME"]) / ".ssh"
    folder.mkdir()
    if own.get("proxy_jump"):
        (folder / "id_ed25519").symlink_to(key)
    elif own.get("ssh_host"):
        (folder / "other").symlink_to(key)
        (folder / "config").write_text(
            f"Host alias\n  HostName {sshd.address}\n  IdentityFile ~/.ssh/other\n"
        )

    commands = [route["ssh"] for route in why(inv)["routes"]]
    done = [typed(command) for command in commands]

    assert len(done) == 2
    assert [(each.returncode, each.stdout) for each in done] == [(0, b"reached")] * 2, [
        (command, each.stderr) for command, each in zip(commands, done, strict=True)
    ]


def test_ssh_command_shown_by_why_refuses_a_key_other_than_the_pin(
    inv: Inv, write_hosts: WriteHosts, client_key: Path
) -> None:
    other = " ".join(Path(f"{client_key}.pub").read_text().split()[:2])
    write_hosts(a={"ssh_host_key": other})

    (route,) = why(inv)["routes"]
    done = typed(route["ssh"])

    assert done.returncode == 255
    assert b"verification failed" in done.stderr


def test_tunnel_command_shown_by_why_works(
    inv: Inv, write_hosts: WriteHosts, sshd: Sshd, cloudflared: Cloudflared
) -> None:
    cloudflared.serve("ssh.example.com", sshd.address, sshd.port)
    write_hosts(a={"ssh_host": None, "cloudflare_tunnel": "ssh.example.com"})

    (route,) = why(inv)["routes"]

    assert typed(route["ssh"]).stdout == b"reached"


def test_why_names_the_origin_of_each_setting(
    inv: Inv, write_hosts: WriteHosts, sshd: Sshd
) -> None:
    hosts = write_hosts(a={"ssh_user": None, "ssh_host": "alias"})
    config = Path(os.environ["HOME"]) / ".ssh" / "config"
    config.parent.mkdir()
    config.write_text(f"Host alias\n  HostName {sshd.address}\n  User {sshd.user}\n")

    found = why(inv)
    origins = {each["name"]: (each["value"], each["from"]) for each in found["settings"]}

    assert origins["ssh_host"] == (sshd.address, f"{config} (hostname)")
    assert origins["ssh_port"][0] == str(sshd.port)
    assert origins["ssh_port"][1].endswith(f"{hosts.name}:4")
    assert origins["connect_timeout"] == ("10", "default")
    assert found["routes"][0]["address"] == f"{sshd.address}:{sshd.port}"
    assert typed(found["routes"][0]["ssh"]).stdout == b"reached"


def test_why_shows_no_secret(inv: Inv, write_hosts: WriteHosts) -> None:
    tunnel = {"cloudflare_tunnel": "ssh.example.com"}
    token = {"cloudflare_service_token_id": "id.1", "cloudflare_service_token_secret": "s3cr3t"}
    write_hosts(a={**tunnel, **token})

    plain, as_json = inv("why", "--host", "a"), inv("why", "--host", "a", "--json")

    shown = plain.stdout + plain.stderr + as_json.stdout + as_json.stderr
    assert b"s3cr3t" not in shown
    assert b"***" in plain.stdout


def test_why_shows_an_open_connection_and_the_pin(
    inv: Inv, write_hosts: WriteHosts, sshd: Sshd
) -> None:
    write_hosts(a={"use_control_master": True})
    assert why(inv)["master"] is None
    assert inv("run", "--host", "a", "--cmd", "true").returncode == 0

    found = why(inv)

    assert found["master"]["route"] == "direct"
    assert Path(found["master"]["socket"]).is_socket()
    assert found["host_keys"][0].startswith("ssh-ed25519 SHA256:")
    assert found["pinned_by"].endswith("known_hosts")


def test_failed_check_suggests_the_why_task(inv: Inv, write_hosts: WriteHosts) -> None:
    write_hosts(a={"ssh_host": "127.0.0.1", "ssh_port": 9}, b={})

    done = inv("check")

    assert b"a: 'inv why --host a'" in done.stderr
    assert b"--host b" not in done.stderr


def test_why_text_has_the_commands_and_config_lines(inv: Inv, write_hosts: WriteHosts) -> None:
    hosts = write_hosts(a=DEAD_TAILNET)

    shown = inv("why", "--host", "a").stdout.decode()

    commands = [line for line in shown.splitlines() if line.startswith("ssh ")]
    assert [shlex.split(line)[-1].rpartition("@")[2] for line in commands] == ["127.0.0.1"] * 2
    assert f"{hosts.parent.name}/{hosts.name}:" in shown
