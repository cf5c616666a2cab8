"""An impostor on one route of several: the work goes on, and it is told aloud."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringtasks import SSHClient
from ringtasks.common import alarms
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.host_keys import HostKey
from tests.support.fixtures import Inv
from tests.support.sshd import Sshd

WriteHosts = Callable[..., Any]


@pytest.fixture
def taken_over(
    make_sshd: Callable[..., Sshd], client_key: Any, use_control_master: bool
) -> dict[str, Any]:
    """The fields of a host whose Tailscale address leads to an impostor."""
    good, impostor = make_sshd(), make_sshd()
    return {
        "ssh_host": good.address,
        "ssh_port": good.port,
        "ssh_user": good.user,
        "ssh_key": str(client_key),
        "ssh_host_key": good.host_public_key,
        "tailscale_ip": impostor.address,
        "tailscale_port": impostor.port,
        "use_control_master": use_control_master,
        "impostor": impostor.host_public_key,  # a fact
    }


def told(fields: dict[str, Any]) -> list[str]:
    """The texts that every kind of output has."""
    shown, pinned = (HostKey.parse(fields[name]) for name in ("impostor", "ssh_host_key"))
    return ["tailscale", shown.fingerprint, pinned.fingerprint, "possible man in the middle"]


def test_impostor_route_is_reported_in_text(
    inv: Inv, write_hosts: WriteHosts, taken_over: dict[str, Any]
) -> None:
    write_hosts(box=taken_over)

    done = inv("run", "--host", "box", "--cmd", "echo hi")

    assert (done.returncode, done.stdout) == (0, b"hi\n")
    (warning,) = [line for line in done.stderr.decode().splitlines() if "WARNING" in line]
    assert warning.startswith("ringtasks: WARNING: box: tailscale")
    assert all(text in warning for text in told(taken_over))
    assert b"::error" not in done.stderr


def test_impostor_route_is_reported_in_json(
    inv: Inv, write_hosts: WriteHosts, taken_over: dict[str, Any]
) -> None:
    write_hosts(box=taken_over)

    done = inv("run", "--host", "box", "--cmd", "echo hi", "--json")

    fields = json.loads(done.stdout)
    assert fields["success"]
    assert fields["transport_used"] == "direct"
    (warning,) = fields["warnings"]
    assert all(text in warning for text in told(taken_over))
    assert warning in done.stderr.decode()


def test_a_host_without_an_impostor_has_no_warnings(
    inv: Inv, write_hosts: WriteHosts, taken_over: dict[str, Any]
) -> None:
    write_hosts(box={**taken_over, "tailscale_ip": None})

    done = inv("run", "--host", "box", "--cmd", "echo hi", "--json")

    assert "warnings" not in json.loads(done.stdout)
    assert done.stderr == b""


def test_impostor_route_is_reported_as_a_github_annotation(
    inv: Inv, write_hosts: WriteHosts, taken_over: dict[str, Any]
) -> None:
    write_hosts(box=taken_over)

    done = inv("run", "--host", "box", "--cmd", "echo hi", GITHUB_ACTIONS="true")

    (annotation,) = [line for line in done.stderr.decode().splitlines() if "::error" in line]
    assert annotation.startswith("::error title=box%3A possible man in the middle::")
    assert all(text in annotation for text in told(taken_over))


@pytest.mark.parametrize("arguments", [("run", "--cmd", "echo hi"), ("jobs",), ("status",)])
@pytest.mark.matrix(3)
def test_every_task_reports_an_impostor_route_of_one_host_among_several(
    inv: Inv, write_hosts: WriteHosts, taken_over: dict[str, Any], arguments: tuple[str, ...]
) -> None:
    write_hosts(box=taken_over, other={**taken_over, "tailscale_ip": None})

    text = inv(arguments[0], "--host", "box,other", *arguments[1:])

    warnings = [line for line in text.stderr.decode().splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("ringtasks: WARNING: box: tailscale")
    assert all(part in warnings[0] for part in told(taken_over))


def test_check_task_reports_an_impostor_on_its_route(
    inv: Inv, write_hosts: WriteHosts, taken_over: dict[str, Any]
) -> None:
    write_hosts(box=taken_over)

    done = inv("check", "--host", "box", "--json", "--fresh")

    fields = json.loads(done.stdout)
    errors = {route["route"]: route["error"] for route in fields["routes"]}
    assert errors["direct"] is None
    assert all(text in errors["tailscale"] for text in told(taken_over))
    assert fields["warnings"]


def test_impostor_of_a_jump_host_is_reported(
    inv: Inv, write_hosts: WriteHosts, taken_over: dict[str, Any], make_sshd: Callable[..., Sshd]
) -> None:
    bastion = make_sshd()
    write_hosts(
        box={**taken_over, "tailscale_ip": None, "proxy_jump": "bastion"},
        bastion={
            "ssh_host": bastion.address,
            "ssh_port": bastion.port,
            "ssh_key": taken_over["ssh_key"],
            "ssh_host_key": taken_over["impostor"],
        },
    )

    done = inv("run", "--host", "box", "--cmd", "echo hi")

    assert done.returncode == 255
    assert HostKey.parse(bastion.host_public_key).fingerprint in done.stderr.decode()
    assert b"possible man in the middle" in done.stderr


def test_impostor_is_reported_to_library_users_by_the_logger(
    taken_over: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    names = {"ssh_host": "host", "ssh_port": "port", "ssh_user": "user", "ssh_key": "key_path"}
    fields = {names.get(name, name): value for name, value in taken_over.items()}
    del fields["impostor"]

    alarms.on_alarm(None)  # a test that has loaded the tasks may have set a listener
    with caplog.at_level(logging.WARNING, "ringtasks"), SSHClient(SSHConfig(**fields)) as client:
        assert client.run("true")

    (record,) = (record for record in caplog.records if record.name == "ringtasks")
    assert record.levelno == logging.WARNING
    assert all(text in record.getMessage() for text in told(taken_over))


def test_unknown_host_is_not_called_an_impostor(
    sshd: Sshd, client_key: Path, use_control_master: bool
) -> None:
    path = Path.home() / ".ssh" / "config"
    path.parent.mkdir(mode=0o700)
    path.write_text("StrictHostKeyChecking yes\n")
    config = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key), name="box")
    config.use_control_master = use_control_master

    with SSHClient(config) as client:
        error = str(client.run("true").error)

    assert "no key of the host is known, and StrictHostKeyChecking is yes" in error
    assert "set ssh_host_key of 'box' to its key" in error
    assert "impostor" not in error
    assert "changed" not in error
