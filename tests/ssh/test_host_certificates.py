"""Host certificates, accepted and refused as OpenSSH does, over both kinds of links."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ringtasks import SSHClient
from ringtasks.client.result import SSHResult
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.host_keys import HostKey
from ringtasks.ssh.pins import KnownHosts
from tests.support.host_keys import OTHER
from tests.support.sshd import Sshd, make_key

ADDRESS = "127.0.0.1"
#: The types of keys besides ed25519, as `make_key` takes them.
KEYS = {"ecdsa": ("-t", "ecdsa", "-N", ""), "rsa": ("-t", "rsa", "-b", "2048", "-N", "")}


class Authority:
    """An authority, and hosts that show its certificates."""

    def __init__(self, folder: Path, make_sshd: Callable[..., Sshd], user_key: Path) -> None:
        self.folder = folder
        self.key = make_key(folder / "authority")
        self.known_hosts = Path.home() / ".ssh" / "known_hosts"
        self.known_hosts.parent.mkdir()
        self.ssh_config = "none"
        self._make_sshd, self._user_key = make_sshd, user_key
        self._hosts = 0

    @property
    def public(self) -> str:
        return public(self.key)

    def host(self, *options: str, key: Path | None = None, host_key: Sequence[str] = ()) -> Sshd:
        """A server whose certificate ``ssh-keygen`` has made with these options."""
        self._hosts += 1
        own = make_key(self.folder / f"host{self._hosts}", *host_key)
        signing = ["ssh-keygen", "-q", "-s", key or self.key, "-I", "id", *options, f"{own}.pub"]
        subprocess.run(signing, check=True)
        return self._make_sshd(host_key=own, config=[f"HostCertificate {own}-cert.pub"])

    def is_known(self, names: str, key: Path | None = None) -> None:
        """Add a line to the user's known_hosts."""
        with self.known_hosts.open("a") as file:
            file.write(f"@cert-authority {names} {public(key or self.key)}\n")

    def config(self, server: Sshd, **fields: object) -> SSHConfig:
        given = {"name": "box", **fields}
        return SSHConfig(server.address, server.port, server.user, str(self._user_key), **given)  # type: ignore[arg-type]

    def run(self, server: Sshd, **fields: object) -> SSHResult:
        """A command on the host; without a login if the host key is refused."""
        log_ins = server.accepted_logins()
        with SSHClient(self.config(server, **fields)) as client:
            result = client.run("echo hi")
        assert result.success or server.accepted_logins() == log_ins
        return result

    def is_accepted_by_openssh(self, server: Sshd) -> bool:
        """Whether ``ssh`` accepts it, with the same file."""
        argv = [
            *("ssh", "-F", self.ssh_config, "-i", str(self._user_key), "-p", str(server.port)),
            *("-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={self.known_hosts}"),
            *("-o", "StrictHostKeyChecking=yes", f"{server.user}@{server.address}", "echo hi"),
        ]
        done = subprocess.run(argv, capture_output=True, check=False)
        assert done.returncode in (0, 255)
        return done.returncode == 0


def public(key: Path) -> str:
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


@pytest.fixture
def authority(tmp_path: Path, make_sshd: Callable[..., Sshd], client_key: Path) -> Authority:
    folder = tmp_path / "authority"
    folder.mkdir()
    return Authority(folder, make_sshd, client_key)


CERTIFICATES = {
    "good": ("-h", "-n", ADDRESS),
    "for several names": ("-h", "-n", f"other,{ADDRESS}"),
    "for no name in particular": ("-h",),
    "for another name": ("-h", "-n", "other"),
    "for a pattern": ("-h", "-n", "127.*"),
    "in force": ("-h", "-n", ADDRESS, "-V", "-1d:+1d"),
    "expired": ("-h", "-n", ADDRESS, "-V", "20200101:20210101"),
    "not yet valid": ("-h", "-n", ADDRESS, "-V", "+1d:+2d"),
    "with an extension": ("-h", "-n", ADDRESS, "-O", "extension:x@example.com=y"),
    "with a critical option": ("-h", "-n", ADDRESS, "-O", "critical:x@example.com=y"),
}


@pytest.mark.parametrize("kind", CERTIFICATES)
@pytest.mark.matrix(4)
def test_host_certificate_is_accepted_exactly_if_openssh_accepts_it(
    authority: Authority, use_control_master: bool, kind: str
) -> None:
    server = authority.host(*CERTIFICATES[kind])
    authority.is_known(f"[{ADDRESS}]:*,{ADDRESS}")

    result = authority.run(server, use_control_master=use_control_master)

    assert result.success == authority.is_accepted_by_openssh(server)
    key = HostKey.parse(server.host_public_key)
    assert result.success or "with a bad certificate" in str(result.error)
    assert result.success or "or set ssh_host_key" in str(result.error)
    assert result.success or key.fingerprint in str(result.error)


@pytest.mark.parametrize("names", [ADDRESS, f"[{ADDRESS}]:*", "127.0.0.*", "*", f"*,!{ADDRESS}"])
@pytest.mark.matrix(4)
def test_authority_is_looked_up_under_the_names_that_openssh_uses(
    authority: Authority, use_control_master: bool, names: str
) -> None:
    server = authority.host("-h", "-n", ADDRESS)
    authority.is_known(names)

    KnownHosts().pin(authority.config(server), OTHER)  # or it would be a first contact
    result = authority.run(server, use_control_master=use_control_master)

    assert result.success == authority.is_accepted_by_openssh(server)


@pytest.mark.matrix(2)
@pytest.mark.parametrize("principal", ["pinned.test", ADDRESS])
def test_certificate_of_a_host_with_an_alias_has_to_name_the_alias(
    authority: Authority, use_control_master: bool, principal: str
) -> None:
    server = authority.host("-h", "-n", principal)
    authority.is_known("*.test")
    authority.ssh_config = str(authority.known_hosts.with_name("config"))
    Path(authority.ssh_config).write_text("HostKeyAlias pinned.test\n")

    result = authority.run(server, use_control_master=use_control_master)

    assert result.success == authority.is_accepted_by_openssh(server) == (principal != ADDRESS)


@pytest.mark.matrix(2)
@pytest.mark.parametrize("host_key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("signer", ["ed25519", *KEYS])
def test_host_keys_and_authorities_of_any_type_are_accepted(
    authority: Authority, use_control_master: bool, signer: str, host_key: Sequence[str]
) -> None:
    key = make_key(authority.folder / signer, *KEYS.get(signer, ()))
    server = authority.host("-h", "-n", ADDRESS, key=key, host_key=host_key)
    authority.is_known(ADDRESS, key)

    assert authority.run(server, use_control_master=use_control_master)
    assert authority.is_accepted_by_openssh(server)


def test_sha_1_certificate_signature_is_refused(
    authority: Authority, use_control_master: bool
) -> None:
    key = make_key(authority.folder / "rsa", *KEYS["rsa"])
    server = authority.host("-h", "-n", ADDRESS, "-t", "ssh-rsa", key=key)
    authority.is_known(ADDRESS, key)

    assert not authority.run(server, use_control_master=use_control_master)
    assert not authority.is_accepted_by_openssh(server)


def test_rebuilt_host_with_a_new_certificate_is_accepted(
    authority: Authority, use_control_master: bool
) -> None:
    first, rebuilt = (authority.host("-h", "-n", ADDRESS) for _ in range(2))
    KnownHosts().pin(authority.config(first), HostKey.parse(first.host_public_key))
    authority.is_known(ADDRESS)

    for server in (first, rebuilt):
        assert authority.run(server, use_control_master=use_control_master)


@pytest.mark.parametrize("names", [ADDRESS, "*"])
def test_impostor_without_a_certificate_is_refused_after_the_host_showed_one(
    authority: Authority, make_sshd: Callable[..., Sshd], use_control_master: bool, names: str
) -> None:
    server, impostor = authority.host("-h", "-n", ADDRESS), make_sshd()
    authority.is_known(names)
    assert authority.run(server, use_control_master=use_control_master)

    result = authority.run(impostor, use_control_master=use_control_master)

    key = HostKey.parse(impostor.host_public_key)
    assert key.fingerprint in str(result.error)
    assert f"expected a certificate by {HostKey.parse(authority.public)}" in str(result.error)
    assert "possible man in the middle" in str(result.error)


def test_authority_for_all_hosts_allows_first_contact_with_uncertified_hosts(
    authority: Authority, make_sshd: Callable[..., Sshd], use_control_master: bool
) -> None:
    rented = make_sshd()
    authority.is_known("*")

    assert authority.run(rented, use_control_master=use_control_master)

    assert KnownHosts().pins(authority.config(rented)).keys == (
        HostKey.parse(rented.host_public_key),
    )


def test_expired_certificate_of_a_wildcard_authority_is_not_a_first_contact(
    authority: Authority, use_control_master: bool
) -> None:
    server = authority.host(*CERTIFICATES["expired"])
    authority.is_known("*")

    assert not authority.run(server, use_control_master=use_control_master)


def test_a_certificate_by_another_authority_is_refused(
    authority: Authority, use_control_master: bool
) -> None:
    server = authority.host("-h", "-n", ADDRESS)
    authority.is_known(ADDRESS, make_key(authority.folder / "another"))

    assert not authority.run(server, use_control_master=use_control_master)
    assert not authority.is_accepted_by_openssh(server)


@pytest.mark.parametrize("principal", [ADDRESS, "box", "100.64.0.7"])
@pytest.mark.matrix(2)
def test_authority_can_be_set_in_the_inventory(
    authority: Authority,
    make_sshd: Callable[..., Sshd],
    use_control_master: bool,
    principal: str,
) -> None:
    fields = {
        "ssh_host_key": f"@cert-authority {authority.public}",
        "use_control_master": use_control_master,
    }
    server = authority.host("-h", "-n", principal)
    config = authority.config(server, tailscale_ip="100.64.0.7", **fields)
    with SSHClient(config, transport="direct") as client:
        assert client.run("true")

    assert not authority.run(make_sshd(), **fields)
    assert not authority.run(authority.host("-h", "-n", "other"), **fields)
    another = make_key(authority.folder / "another")
    assert not authority.run(authority.host("-h", "-n", ADDRESS, key=another), **fields)
    assert not KnownHosts().path.exists()


def test_certificate_does_not_override_the_inventory_host_key(
    authority: Authority, use_control_master: bool
) -> None:
    server = authority.host("-h", "-n", ADDRESS)
    authority.is_known(ADDRESS)
    pinned = f"{OTHER.type} {OTHER.blob}"

    result = authority.run(server, ssh_host_key=pinned, use_control_master=use_control_master)

    assert "expected" in str(result.error)


@pytest.mark.parametrize("what", ["authority", "authority that is known for no host", "host key"])
@pytest.mark.matrix(6)
def test_revoked_authority_certifies_no_host(
    authority: Authority, use_control_master: bool, what: str
) -> None:
    server = authority.host("-h", "-n", ADDRESS)
    if "no host" not in what:
        authority.is_known(ADDRESS)
    key = authority.public if what.startswith("authority") else server.host_public_key
    with authority.known_hosts.open("a") as file:
        file.write(f"@revoked * {key}\n")

    result = authority.run(server, use_control_master=use_control_master)

    assert "REVOKED" in str(result.error)
    assert not authority.is_accepted_by_openssh(server)


def test_no_certificate_is_asked_for_if_the_settings_leave_them_out(
    authority: Authority, use_control_master: bool
) -> None:
    server = authority.host("-h", "-n", ADDRESS)
    authority.is_known(f"[{ADDRESS}]:*")
    settings = Path.home() / ".ssh" / "config"
    settings.write_text("HostKeyAlgorithms -*cert*\n")
    authority.ssh_config = str(settings)

    assert not authority.run(server, use_control_master=use_control_master)
    assert not authority.is_accepted_by_openssh(server)


def test_key_revoked_by_the_user_is_refused(
    authority: Authority, make_sshd: Callable[..., Sshd], use_control_master: bool
) -> None:
    server = make_sshd()
    authority.known_hosts.write_text(f"@revoked * {server.host_public_key}\n")

    result = authority.run(server, use_control_master=use_control_master)

    assert "REVOKED" in str(result.error)
    assert "remove the revocation" in str(result.error)
    assert "rebuilt" not in str(result.error)
    assert HostKey.parse(server.host_public_key).fingerprint in str(result.error)


def test_damaged_authority_line_of_the_user_is_reported(
    authority: Authority, use_control_master: bool
) -> None:
    server = authority.host("-h", "-n", ADDRESS)
    authority.known_hosts.write_text(f"@cert-authority {ADDRESS} ssh-ed25519 AAAA\n")

    result = authority.run(server, use_control_master=use_control_master)

    assert f"{authority.known_hosts}:1: this line cannot be read" in str(result.error)


def test_a_master_is_not_used_once_its_authority_is_revoked(authority: Authority) -> None:
    server = authority.host("-h", "-n", ADDRESS)
    authority.is_known(ADDRESS)
    assert authority.run(server)
    assert authority.run(server)
    assert server.accepted_logins() == 1

    authority.known_hosts.write_text(f"@revoked * {authority.public}\n")

    assert not authority.run(server)


def test_authority_in_ringtasks_known_hosts_is_used(
    authority: Authority, make_sshd: Callable[..., Sshd], use_control_master: bool
) -> None:
    KnownHosts().path.parent.mkdir(parents=True)
    KnownHosts().path.write_text(f"@cert-authority box {authority.public}\n")

    server = authority.host("-h", "-n", "box")
    assert authority.run(server, use_control_master=use_control_master)
    assert not authority.run(make_sshd(), use_control_master=use_control_master)
