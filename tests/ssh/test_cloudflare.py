"""The Cloudflare route: a stand-in for ``cloudflared`` records where the secret went."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from ringtasks.client.ssh_client import SSHClient
from ringtasks.inventory.host_settings import SSHConfig
from tests.support.cloudflared import Cloudflared
from tests.support.fixtures import Inv, Start, WriteHosts
from tests.support.processes import proc_files
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

TOKEN_ID, TOKEN_SECRET = "id-1234.access", "s3cr3t-t0ken-value"
TUNNEL = {
    "ssh_host": None,
    "cloudflare_tunnel": "ssh.example.com",
    "cloudflare_service_token_id": "${CF_TOKEN_ID}",
    "cloudflare_service_token_secret": "${CF_TOKEN_SECRET}",
}
ENVIRON = {"CF_TOKEN_ID": TOKEN_ID, "CF_TOKEN_SECRET": TOKEN_SECRET}


def test_token_reaches_the_proxy_only_through_its_environment(
    inv: Inv, write_hosts: WriteHosts, cloudflared: Cloudflared, sshd: Sshd
) -> None:
    write_hosts(a=TUNNEL)
    cloudflared.serve("ssh.example.com", sshd.address, sshd.port, token=(TOKEN_ID, TOKEN_SECRET))

    done = inv(
        "run", "--host", "a", "--json", "--cmd", "echo hi",
        TUNNEL_SERVICE_URL="localhost:1", TUNNEL_LOGFILE="x", **ENVIRON,
    )  # fmt: skip

    assert json.loads(done.stdout)["transport_used"] == "cloudflare", done.stderr
    (start,) = cloudflared.starts
    assert start["argv"][1:5] == ["access", "ssh", "--hostname", "ssh.example.com"]
    assert TOKEN_SECRET not in " ".join(start["argv"])
    assert TOKEN_ID not in " ".join(start["argv"])
    tunnel = {k: v for k, v in start["environ"].items() if k.startswith("TUNNEL_")}
    assert tunnel == {
        "TUNNEL_SERVICE_TOKEN_ID": TOKEN_ID,
        "TUNNEL_SERVICE_TOKEN_SECRET": TOKEN_SECRET,
    }
    assert start["environ"]["HOME"] == "/dev/null"  # no browser log-in behind a refused token
    eventually(lambda: cloudflared.running() == [])  # it was told to end, and does


def test_token_is_only_in_environments_with_a_control_master(
    inv: Inv, write_hosts: WriteHosts, cloudflared: Cloudflared, sshd: Sshd
) -> None:
    write_hosts(a={**TUNNEL, "use_control_master": True})
    cloudflared.serve("ssh.example.com", sshd.address, sshd.port, token=(TOKEN_ID, TOKEN_SECRET))
    logins = sshd.accepted_logins()

    runs = [inv("run", "--host", "a", "--json", "--cmd", "echo hi", **ENVIRON) for _ in range(2)]
    seen = b"".join(read_or_nothing(p) for p in proc_files("cmdline"))
    closed = inv("disconnect", **ENVIRON)

    answers = [json.loads(run.stdout) for run in runs]
    assert [(one["stdout"], one["transport_used"]) for one in answers] == [
        ("hi\n", "cloudflare")
    ] * 2
    assert sshd.accepted_logins() == logins + 1
    assert TOKEN_SECRET.encode() not in seen
    assert closed.returncode == 0
    eventually(lambda: cloudflared.running() == [])


def test_cloudflared_uses_the_users_login_without_a_service_token(
    inv: Inv, write_hosts: WriteHosts, cloudflared: Cloudflared, sshd: Sshd
) -> None:
    write_hosts(a={"ssh_host": None, "cloudflare_tunnel": "ssh.example.com"})
    cloudflared.serve("ssh.example.com", sshd.address, sshd.port)

    assert inv("run", "--host", "a", "--cmd", "echo hi").stdout == b"hi\n"

    (start,) = cloudflared.starts
    assert start["environ"]["HOME"] == os.environ["HOME"]


def test_cloudflare_route_is_tried_last(
    inv: Inv, write_hosts: WriteHosts, cloudflared: Cloudflared, sshd: Sshd
) -> None:
    dead = {"ssh_host": "127.0.0.1", "ssh_port": 9}
    dead_too = {"tailscale_ip": "127.0.0.2", "tailscale_port": 9}
    write_hosts(a={**TUNNEL, **dead, **dead_too})
    cloudflared.serve("ssh.example.com", sshd.address, sshd.port)

    done = inv("run", "--host", "a", "--cmd", "echo hi", **ENVIRON)

    assert done.stdout == b"hi\n"
    assert done.stderr.startswith(b"ringtasks: a: tailscale refused, direct refused; connected")


def test_missing_cloudflared_is_an_error_that_names_the_route(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    write_hosts(a=TUNNEL)

    done = inv("run", "--host", "a", "--cmd", "true", **ENVIRON)

    assert done.returncode == 255
    assert b"cloudflare (ssh.example.com): proxy missing: cloudflared is not on PATH" in done.stderr
    assert b"install cloudflared" in done.stderr


def test_refused_token_is_reported_without_showing_it(
    inv: Inv, write_hosts: WriteHosts, cloudflared: Cloudflared, sshd: Sshd
) -> None:
    write_hosts(a=TUNNEL)
    cloudflared.serve("ssh.example.com", sshd.address, sshd.port, token=("other", "other"))

    done = inv("run", "--host", "a", "--cmd", "true", **ENVIRON)

    assert done.returncode == 255
    assert b"proxy failed: cloudflared: failed to generate app token" in done.stderr
    assert TOKEN_SECRET.encode() not in done.stderr


def test_no_secret_is_visible_during_a_run(
    write_hosts: WriteHosts, cloudflared: Cloudflared, sshd: Sshd, tmp_path: Path, start: Start
) -> None:
    planted = {TOKEN_SECRET, "s3cr3t-env-value"}
    write_hosts(a=TUNNEL)
    cloudflared.serve("ssh.example.com", sshd.address, sshd.port, token=(TOKEN_ID, TOKEN_SECRET))
    argv = ("run", "--host", "a", "--env", "PLANTED")

    with start(
        *(*argv, "--cmd", "echo up; read line; echo $line"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **ENVIRON, "PLANTED": "s3cr3t-env-value"},
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        seen = b"".join(read_or_nothing(p) for p in proc_files("cmdline"))
        said, complained = running.communicate(b"on\n", timeout=20)

    record = tmp_path / "cloudflared"  # the stand-in writes its environment there, to be looked at
    files = [p for p in tmp_path.rglob("*") if p.is_file() and record not in p.parents]
    written = b"".join(p.read_bytes() for p in files)
    for secret in planted:
        assert secret.encode() not in seen
        assert secret.encode() not in written
        assert secret.encode() not in complained
    assert said == b"on\n"


def test_cloudflare_route_repr_shows_no_token() -> None:
    config = SSHConfig(
        "h",
        cloudflare_service_token_id=TOKEN_ID,
        cloudflare_service_token_secret=TOKEN_SECRET,
        private_key="s3cr3t-key",
    )

    for shown in (repr(config), str(config), repr(SSHClient(config))):
        assert TOKEN_ID not in shown
        assert "s3cr3t" not in shown


def read_or_nothing(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
