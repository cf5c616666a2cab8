"""`SSHConfig`: what may be given, and what is refused by name."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace

import pytest

from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.state_files import health_file, known_hosts_file, state_folder


def test_first_sixteen_config_fields_are_the_published_ones() -> None:
    parameters = list(inspect.signature(SSHConfig).parameters.values())

    positional = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    assert {p.name: p.default for p in positional} == {
        "host": inspect.Parameter.empty,
        "port": 22,
        "user": None,
        "key_path": None,
        "connect_timeout": 10,
        "command_timeout": 60,
        "use_control_master": True,
        "control_persist": 300,
        "server_alive_interval": 30,
        "server_alive_count_max": 4,
        "tailscale_ip": None,
        "work_dir": None,
        "venv_activate": None,
        "cloudflare_tunnel": None,
        "cloudflare_service_token_id": None,
        "cloudflare_service_token_secret": None,
    }


def test_config_can_be_made_from_any_object_with_the_inventory_attributes() -> None:
    host = SimpleNamespace(
        name="box",
        ssh_host="203.0.113.10",
        ssh_port=30178,
        ssh_user="root",
        ssh_key="~/.ssh/id",
        tailscale_ip="100.64.0.1",
        ringrift_path="~/app",
        venv_activate="~/venv",
        cloudflare_tunnel="ssh.example.com",
        something_else=1,
    )

    config = SSHConfig.from_host_config(host)

    assert (config.host, config.port, config.user) == ("203.0.113.10", 30178, "root")
    assert (config.key_path, config.tailscale_ip) == ("~/.ssh/id", "100.64.0.1")
    assert (config.work_dir, config.venv_activate) == ("~/app", "~/venv")
    assert config.use_cloudflare
    assert config.id == "box"


def test_missing_or_none_field_takes_its_default() -> None:
    config = SSHConfig.from_host_config(SimpleNamespace(tailscale_ip="100.64.0.1", ssh_port=None))

    assert (config.host, config.port, config.use_cloudflare) == ("", 22, False)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (SSHConfig("h"), "h"),
        (SSHConfig("h", 2222), "[h]:2222"),
        (SSHConfig("", tailscale_ip="100.64.0.1"), "100.64.0.1"),
        (SSHConfig("h", 2222, name="box"), "box"),
    ],
)
def test_host_id_is_the_name_or_else_the_address(config: SSHConfig, expected: str) -> None:
    assert config.id == expected


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("port", 0, ValueError),
        ("port", 65536, ValueError),
        ("port", "22", TypeError),
        ("port", True, TypeError),
        ("tailscale_port", -1, ValueError),
        ("connect_timeout", -1, ValueError),
        ("command_timeout", float("nan"), ValueError),
        ("connect_timeout", 0, ValueError),  # OpenSSH and Paramiko take 0 for opposite things
        ("server_alive_count_max", -1, ValueError),
        ("user", 7, TypeError),
        ("use_control_master", "yes", TypeError),
        ("work_dir", "a\0b", ValueError),
        ("key_path", b"id", TypeError),
    ],
)
def test_invalid_config_field_is_refused_by_name(
    field: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"^{field}: "):
        SSHConfig("h", **{field: value})  # type: ignore[arg-type]


def test_state_files_are_stored_in_the_xdg_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "ringtasks"
    assert known_hosts_file() == tmp_path / "ringtasks" / "known_hosts"

    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # the specification: to be ignored
    assert state_folder() == Path.home() / ".local" / "state" / "ringtasks"

    monkeypatch.setenv("RINGTASKS_HEALTH_FILE", "~/h.json")
    assert health_file() == Path.home() / "h.json"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("box", ("box", 22, None)),
        ("root@box", ("box", 22, "root")),
        ("me@corp.example@box:2222", ("box", 2222, "me@corp.example")),
        ("root@203.0.113.7:30178", ("203.0.113.7", 30178, "root")),
        ("2001:db8::1", ("2001:db8::1", 22, None)),
        ("me@[2001:db8::1]:2222", ("2001:db8::1", 2222, "me")),
    ],
)
def test_address_is_split_into_user_host_and_port(
    address: str, expected: tuple[str, int, str | None]
) -> None:
    config = SSHConfig.parse(address)

    assert (config.host, config.port, config.user) == expected


@pytest.mark.parametrize("address", ["", "@box", "root@", "box:", "box:x", "box:99999", "-oX=y"])
def test_invalid_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"host|port"):
        SSHConfig.parse(address)
