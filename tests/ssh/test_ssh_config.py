"""OpenSSH's settings of a host apply over both kinds of link, as they do for ssh itself."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ringtasks import Connection, SSHClient, SSHConfig
from ringtasks.errors import UsageError
from ringtasks.ssh.evaluated_config import ask
from ringtasks.ssh.master.link import MuxLink
from tests.support.agents import Agent
from tests.support.fixtures import Inv, MakeSshd, WriteHosts
from tests.support.sshd import Sshd, make_key


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[[str], Path]:
    """Writes ``~/.ssh/config``, of the home that the test has."""

    def write(text: str) -> Path:
        path = Path.home() / ".ssh" / "config"
        path.parent.mkdir(exist_ok=True, mode=0o700)
        path.write_text(text)
        return path

    return write


def connection_of(use_control_master: bool, host: str) -> str:
    """Return what sshd saw: both addresses and ports."""
    config = SSHConfig(host, use_control_master=use_control_master, connect_timeout=10)
    with SSHClient(config) as client:
        result = client.run("echo $SSH_CONNECTION", timeout=20)
    assert result.success, result
    return result.stdout.strip()


def block(sshd: Sshd, key: Path, *more: str) -> str:
    lines = [f"HostName {sshd.address}", f"Port {sshd.port}", f"IdentityFile {key}", *more]
    return "".join(f"  {line}\n" for line in lines)


@pytest.mark.parametrize(
    "pattern", ["config.d/*", '"~/.ssh/config.d/the boxes"', "~/.ssh/config.d/t*"]
)
def test_an_alias_in_an_included_file_is_reached(
    pattern: str,
    sshd: Sshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    use_control_master: bool,
) -> None:
    folder = write_config(f"Include {pattern}\n").parent / "config.d"
    folder.mkdir()
    (folder / "the boxes").write_text(f"Host gpubox\n{block(sshd, client_key)}")

    assert connection_of(use_control_master, "gpubox").endswith(f" {sshd.port}")


@pytest.mark.parametrize(
    "criteria", ["originalhost gpubox user {user}", "host gpubox", "final all", "all"]
)
def test_match_block_is_applied(
    criteria: str,
    sshd: Sshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    use_control_master: bool,
) -> None:
    write_config(
        f"Match {criteria.format(user=sshd.user)}\n  IdentityFile {client_key}\n"
        f"Host gpubox\n  HostName {sshd.address}\n  Port {sshd.port}\n"
    )

    assert connection_of(use_control_master, "gpubox").endswith(f" {sshd.port}")


def test_proxy_command_of_ssh_config_is_used(
    sshd: Sshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    use_control_master: bool,
    tmp_path: Path,
) -> None:
    script = tmp_path / "pc.sh"
    script.write_text(f'echo "$@" >> {tmp_path}/calls\nexec nc {sshd.address} "$2"\n')
    write_config(
        f"Host box.invalid\n  Port {sshd.port}\n  IdentityFile {client_key}\n"
        f"  ProxyCommand sh {script} %h %p %r\n"
    )

    connection_of(use_control_master, "box.invalid")

    call = (tmp_path / "calls").read_text().split()[:3]
    assert call == ["box.invalid", str(sshd.port), sshd.user]


@pytest.mark.parametrize(
    "command",
    [
        "echo 'token has expired' >&2; exit 1",
        "sh -c \"echo Hello; exec <&- >&-; sleep 0.2; echo 'token has expired' >&2\"",
    ],
    ids=["stderr", "stderr after stdout"],
)
def test_output_of_a_failed_proxy_command_is_the_evidence(
    command: str, write_config: Callable[[str], Path], use_control_master: bool
) -> None:
    write_config(f"Host box.invalid\n  ProxyCommand {command}\n")

    with SSHClient(SSHConfig("box.invalid", use_control_master=use_control_master)) as client:
        result = client.run("true", timeout=10)

    assert (result.returncode, result.success) == (255, False)
    assert "token has expired" in (result.error or "")
    assert ("it wrote to stdout: Hello" in (result.error or "")) is ("Hello" in command)


def test_missing_shell_of_a_proxy_command_is_named(
    write_config: Callable[[str], Path],
    use_control_master: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHELL", "/no/shell")
    write_config("Host box.invalid\n  ProxyCommand nc %h %p\n")

    with SSHClient(SSHConfig("box.invalid", use_control_master=use_control_master)) as client:
        result = client.run("true", timeout=10)

    assert "proxy missing: no shell /no/shell; set the variable SHELL" in str(result.error)


def test_names_relative_to_the_current_folder_are_those_of_ssh(
    sshd: Sshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use_control_master: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").symlink_to(client_key)
    program = tmp_path / "way"
    program.write_text(f"#!/bin/sh\nexec nc {sshd.address} {sshd.port}\n")
    program.chmod(0o755)
    write_config(
        'Match host box.invalid exec "test -e way"\n  IdentityFile key\n  ProxyCommand ./way\n'
    )

    assert connection_of(use_control_master, "box.invalid").endswith(f" {sshd.port}")


def test_hash_of_the_connection_in_a_file_name_is_that_of_ssh(
    sshd: Sshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    tmp_path: Path,
    use_control_master: bool,
) -> None:
    file = write_config(f"Host box\n{block(sshd, tmp_path / '%C')}")
    asked = ["ssh", "-F", file, "-G", "-o", "ControlPath=/%C", "box"]
    printed = subprocess.run(asked, capture_output=True, check=True, text=True).stdout
    found = re.search(r"(?m)^controlpath /(\w+)$", printed)
    assert found
    (tmp_path / found[1]).symlink_to(client_key)

    assert connection_of(use_control_master, "box").endswith(f" {sshd.port}")


@pytest.mark.parametrize("is_known", [True, False])
def test_known_hosts_command_is_told_the_key_that_the_host_shows(
    sshd: Sshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    tmp_path: Path,
    use_control_master: bool,
    is_known: bool,
) -> None:
    program, known = tmp_path / "known", sshd.host_public_key
    key = known if is_known else make_key(tmp_path / "other").with_suffix(".pub").read_text()
    program.write_text(f'#!/bin/sh\n[ "$2 $3" != "{known.strip()}" ] || echo "$1 {key.strip()}"\n')
    program.chmod(0o755)
    write_config(
        f"Host box\n{block(sshd, client_key)}  StrictHostKeyChecking yes\n"
        f"  KnownHostsCommand {program} %H %t %K\n"
    )

    with SSHClient(SSHConfig("box", use_control_master=use_control_master)) as client:
        result = client.run("echo in")

    assert result.stdout == ("in\n" if is_known else "")
    assert ("host key changed" in str(result.error)) is not is_known


def test_proxy_jump_none_is_a_direct_connection(
    sshd: Sshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    use_control_master: bool,
) -> None:
    write_config(
        f"Host bastion\n  ProxyJump none\n{block(sshd, client_key)}"
        "Host *\n  ProxyJump nowhere.invalid\n"
    )

    assert connection_of(use_control_master, "bastion").endswith(f" {sshd.port}")


@pytest.mark.parametrize(
    "jump", ["other", "a%h", "box"], ids=["circle", "always another one", "itself"]
)
def test_jump_hosts_without_an_end_are_an_error(
    jump: str, write_config: Callable[[str], Path], use_control_master: bool
) -> None:
    own = "Host box\n  HostName 127.0.0.9\n"  # by its name alone, ssh notices the third one
    write_config(f"{own}Host other\n  ProxyJump box\nHost *\n  ProxyJump {jump}\n")

    with (
        SSHClient(SSHConfig("box", use_control_master=use_control_master)) as client,
        pytest.raises(UsageError, match="more than 8 jump hosts"),
    ):
        client.run("true", timeout=10)


@pytest.mark.parametrize(
    ("family", "address", "is_reached"),
    [
        ("inet", "127.0.0.1", True),
        ("inet6", "127.0.0.1", False),
        ("inet6", "::1", True),
        ("inet", "::1", False),
    ],
)
def test_addresses_of_another_family_than_configured_are_not_tried(
    make_sshd: Callable[..., Sshd],
    client_key: Path,
    write_config: Callable[[str], Path],
    use_control_master: bool,
    family: str,
    address: str,
    is_reached: bool,
) -> None:
    server = make_sshd(addresses=["127.0.0.1", "::1"])
    write_config(
        f"Host box\n  HostName {address}\n  AddressFamily {family}\n  Port {server.port}\n"
        f"  IdentityFile {client_key}\n"
    )

    with SSHClient(SSHConfig("box", use_control_master=use_control_master)) as client:
        result = client.run("echo $SSH_CONNECTION", timeout=20)

    assert result.success is is_reached, result


def test_configured_bind_address_is_used(
    sshd: Sshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    use_control_master: bool,
) -> None:
    write_config(f"Host box\n{block(sshd, client_key, 'BindAddress 127.0.0.77')}")

    assert connection_of(use_control_master, "box").split()[0] == "127.0.0.77"


def test_local_address_and_family_of_the_inventory_override_those_of_ssh_config(
    sshd: Sshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    use_control_master: bool,
) -> None:
    write_config(f"Host box\n{block(sshd, client_key, 'AddressFamily inet6', 'BindAddress ::1')}")
    config = SSHConfig("box", use_control_master=use_control_master)
    config.address_family, config.bind_address = "inet", "127.0.0.78"

    with SSHClient(config) as client:
        result = client.run("echo $SSH_CONNECTION", timeout=20)
    with Connection(config) as connection:
        own = connection.run("echo $SSH_CONNECTION", hide=True)

    assert [each.stdout.split()[:1] for each in (result, own)] == [["127.0.0.78"]] * 2, result


def test_fabric_connection_uses_the_same_ssh_config_result(
    sshd: Sshd, client_key: Path, write_config: Callable[[str], Path]
) -> None:
    (write_config("Include config.d/*\n").parent / "config.d").mkdir()
    (Path.home() / ".ssh/config.d/box").write_text(f"Host gpubox\n{block(sshd, client_key)}")

    with Connection("gpubox") as c:
        assert c.run("echo ok", hide=True).stdout == "ok\n"


def test_ssh_config_refused_by_ssh_is_reported_with_its_message(
    write_config: Callable[[str], Path],
) -> None:
    write_config("Host box\n  Colour blue\n")

    with pytest.raises(UsageError, match=r"(?i)bad configuration option: colour"):
        ask("box")


def test_ssh_config_result_has_only_configured_keywords(
    write_config: Callable[[str], Path],
) -> None:
    write_config(
        "Host box\n  User gpu\n  Compression yes\nHost other\n  Port 99\n"
        "Match host * originalhost gpu?,x user root\n  User me\nMatch !host box host *\n  User me\n"
        'Match host "*,!box"\n  Compression no\nMatch host !box,*\n  Compression no\n'
    )

    known, unknown = ask("box"), ask("elsewhere")

    assert known is not None
    assert unknown is not None
    assert {name: known.get(name) for name in ("user", "compression", "port", "hostname")} == {
        "user": "gpu",
        "compression": "yes",
        "port": None,
        "hostname": None,
    }
    assert (known.is_alias, unknown.is_alias) == (True, False)
    by_match = ask("gpu7", user="root")
    assert by_match is not None
    assert by_match.is_alias


def test_ssh_config_result_is_cached_until_a_file_changes(
    write_config: Callable[[str], Path],
) -> None:
    path = write_config("Include config.d/*\nHost box\n  User one\n")
    (path.parent / "config.d").mkdir()
    first, again = ask("box"), ask("box")
    (path.parent / "config.d" / "new").write_text("Host box\n  User two\n")

    changed = ask("box")

    assert first is not None
    assert again is not None
    assert first.values is again.values
    assert changed is not None
    assert (first.get("user"), changed.get("user")) == ("one", "two")


def test_result_with_variables_is_not_cached(
    write_config: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = {
        "UserKnownHostsFile": "{}/known",
        "LocalForward": "{}/s x:1",
        "RemoteForward": "{}/s x:1",
        "ForwardAgent": "{}",
        "IdentityAgent": "{}/s",
    }
    for keyword, value in lines.items():
        write_config(f"{keyword} {value.format('${PLACE}')}\n")
        seen = []
        for place in ("/dev", "/tmp"):
            monkeypatch.setenv("PLACE", place)
            answer = ask("box")
            seen.append(((answer and answer.get(keyword.lower())) or "")[:4])
        assert seen == ["/dev", "/tmp"], keyword


@pytest.mark.parametrize("match", ["Match", '"match"'])
def test_result_of_a_match_exec_program_is_not_cached(
    write_config: Callable[[str], Path], tmp_path: Path, match: str
) -> None:
    flag = tmp_path / "flag"
    write_config(f'{match} host box exec "test -e {flag}"\n  User there\n')

    before = ask("box")
    flag.touch()
    after = ask("box")

    assert before is not None
    assert after is not None
    assert (before.get("user"), after.get("user")) == (None, "there")


def test_hanging_match_exec_program_is_not_waited_for(write_config: Callable[[str], Path]) -> None:
    write_config('Match exec "sleep 60"\n  User x\n')

    with pytest.raises(UsageError, match=r"did not answer in 0\.5 s"):
        ask("box", timeout=0.5)


def test_host_name_is_never_taken_as_an_option(write_config: Callable[[str], Path]) -> None:
    write_config("Host *\n  User x\n")

    with pytest.raises(UsageError):
        ask("-oProxyCommand=touch x")


def test_ssh_config_result_equals_that_of_ssh(write_config: Callable[[str], Path]) -> None:
    path = write_config(
        "Host a b*\n  User one\n  ServerAliveInterval 7\nMatch host c\n  Port 2222\n"
        "Host *\n  HostName %h.example\n  IdentityFile ~/.ssh/k1\n  IdentityFile ~/.ssh/k2\n"
    )
    for host in ("a", "b1", "c", "d"):
        told = subprocess.run(
            ["ssh", "-G", "-F", path, host], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        answer = ask(host)

        assert answer is not None
        lines = [f"{k} {v}" for k, values in answer.values.items() for v in values]
        system = ("sendenv", "hashknownhosts", "gssapi")  # -F leaves the system's file out
        assert {line for line in lines if not line.startswith(system)} <= set(told)
        assert f"hostname {host}.example" in lines


def test_ssh_config_result_is_none_without_an_ssh_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert ask("box") is None
    assert os.environ["PATH"] == str(tmp_path)


def test_ssh_that_refuses_again_is_not_asked_without_end(
    write_config: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_config("Host box\n  ForkAfterAuthentication yes\n")
    program = tmp_path / "ssh"
    says = "Cannot fork into background without a command to execute."
    program.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit 255\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UsageError, match="Cannot fork"):
        ask("box")


@pytest.mark.parametrize(
    ("lines", "ignored"),
    [("", ""), ("Include config.d/*", "Include"), ("Match tagged x\n  Compression no", "Match by")],
)
def test_files_are_read_by_paramiko_without_an_ssh_program(
    sshd: Sshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    write_hosts: WriteHosts,
    inv: Inv,
    lines: str,
    ignored: str,
) -> None:
    path = write_config(f"Host gpubox\n{block(sshd, client_key)}{lines}\n")
    (path.parent / "config.d").mkdir()
    (path.parent / "config.d" / "file").touch()
    write_hosts(a={}, b={})

    run = ["run", "--host", "gpubox,a,b", "--cmd", "echo hi"]
    done = inv(*run, PATH="/nowhere")

    assert (done.returncode, sorted(done.stdout.splitlines())) == (
        0,
        [b"a: hi", b"b: hi", b"gpubox: hi"],
    )
    assert done.stderr.count(b"is not understood without ssh: install it") == bool(ignored)
    assert ignored.encode() in done.stderr


def test_environment_set_in_ssh_config_reaches_commands(
    make_sshd: MakeSshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    use_control_master: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sshd = make_sshd(config=["AcceptEnv RT_* LC_*"])
    lines = block(sshd, client_key, "SendEnv RT_SENT_*", 'SetEnv RT_SET="a  b" RT_TOO=c')
    write_config(f"Host box.invalid\n{lines}")
    monkeypatch.setenv("RT_SENT_1", "één")
    monkeypatch.setenv("RT_KEPT", "here")
    monkeypatch.setenv("LC_NAME", "C")  # Debian's own ssh_config sends it
    config = SSHConfig("box.invalid", use_control_master=use_control_master)

    with SSHClient(config) as client:
        seen = client.run('echo "$RT_SENT_1,$RT_SET,$RT_TOO,$RT_KEPT,$LC_NAME"').stdout
        by_ssh = subprocess.run(
            ["ssh", "-F", Path.home() / ".ssh/config", "-o", "StrictHostKeyChecking=no",
             "box.invalid", 'echo "$RT_SENT_1,$RT_SET,$RT_TOO,$RT_KEPT,"'],
            capture_output=True, check=True,
        ).stdout.decode()  # fmt: skip

    assert by_ssh == "één,a  b,c,,\n"
    assert seen.rpartition(",")[0] == by_ssh.rpartition(",")[0]


def test_a_private_key_in_the_environment_is_never_sent(
    make_sshd: MakeSshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sshd = make_sshd(config=["AcceptEnv *"])
    write_config(f"Host box.invalid\n{block(sshd, client_key, 'SendEnv *')}")
    monkeypatch.setenv("RINGTASKS_SSH_KEY", client_key.read_text())
    monkeypatch.setenv("RT_SENT", "yes")

    with SSHClient(SSHConfig("box.invalid")) as client:
        seen = client.run('echo "$RT_SENT,$RINGTASKS_SSH_KEY"')

    assert seen.stdout == "yes,\n"


def test_proxy_with_much_stderr_output_does_not_stall_the_connection(
    sshd: Sshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    use_control_master: bool,
    tmp_path: Path,
) -> None:
    script = tmp_path / "pc.sh"
    script.write_text(
        f"yes 'a line of a log' | head -c 300000 >&2; exec nc {sshd.address} {sshd.port}\n"
    )
    write_config(f"Host box.invalid\n  IdentityFile {client_key}\n  ProxyCommand sh {script}\n")
    config = SSHConfig("box.invalid", use_control_master=use_control_master, connect_timeout=5)

    with SSHClient(config) as client:
        result = client.run("echo in")

    assert (result.stdout, result.error) == ("in\n", None)


@pytest.mark.parametrize("route", ["direct", "tailscale"])
def test_block_for_a_host_counts_on_each_route(
    sshd: Sshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    use_control_master: bool,
    route: str,
) -> None:
    write_config(f"Match host gpubox\n{block(sshd, client_key)}")
    config = SSHConfig("gpubox", use_control_master=use_control_master)
    if route == "tailscale":
        config.tailscale_ip, config.tailscale_port = "127.0.0.2", sshd.port

    with SSHClient(config) as client:
        result = client.run("echo in", timeout=20)

    assert (result.stdout, result.error, result.transport_used) == ("in\n", None, route)


def by_client(name: str) -> str:
    with SSHClient(SSHConfig(name)) as client:
        return client.run("echo $SSH_CONNECTION").stdout


def by_connection(name: str) -> str:
    with Connection(name) as connection:
        return str(connection.run("echo $SSH_CONNECTION", hide=True).stdout)


WAYS = {
    "ProxyCommand": "Host box\n  ProxyCommand {relay} %h %p\n",
    "ProxyJump": "Host box\n  ProxyJump bastion\n",
    "two jump hosts": "Host box\n  ProxyJump bastion,{user}@other\n",
    "jump host of a jump host": "Host box\n  ProxyJump other\nHost other\n  ProxyJump bastion\n",
    "jump host for all others": "Host * !bastion\n  ProxyJump bastion\n",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("open_by", [by_client, by_connection])
def test_connection_on_a_way_of_ssh_config_is_kept_by_a_master(
    sshd: Sshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    tmp_path: Path,
    way: str,
    open_by: Callable[[str], str],
) -> None:
    relay = tmp_path / "relay"
    relay.write_text(f'#!/bin/sh\necho "$SHELL" > "$0.used"\nexec nc {sshd.address} "$2"\n')
    relay.chmod(0o755)
    aliases = [("box", sshd.address), ("bastion", "127.0.0.2"), ("other", "127.0.0.3")]
    write_config(
        WAYS[way].format(relay=relay, user=sshd.user)
        + "".join(f"Host {name}\n  HostName {address}\n" for name, address in aliases)
        + f"Host *\n  Port {sshd.port}\n  IdentityFile {client_key}\n"
    )
    before = sshd.accepted_logins()

    ports = [open_by("box").split()[1] for _ in range(2)]

    assert ports[0] == ports[1]
    assert (tmp_path / "relay.used").exists() is (way == "ProxyCommand")
    assert sshd.accepted_logins() - before <= 2 * (1 + len(aliases))


def test_program_that_shows_no_banner_is_named(
    write_config: Callable[[str], Path], use_control_master: bool
) -> None:
    write_config(
        "Host box.invalid\n  ProxyCommand sh -c 'echo waiting for a token >&2; sleep 30'\n"
    )
    config = SSHConfig("box.invalid", use_control_master=use_control_master, connect_timeout=0.7)

    with SSHClient(config) as client:
        result = client.run("true", timeout=10)

    assert re.search(r"timed out: no (answer|SSH banner) in 0\.", str(result.error))
    assert "waiting for a token; check the proxy" in str(result.error)


def test_master_is_not_used_after_an_included_file_has_changed(
    make_sshd: MakeSshd, sshd: Sshd, client_key: Path, write_config: Callable[[str], Path]
) -> None:
    other = make_sshd(host_key=sshd.host_key)
    folder = write_config("Include config.d/*\n").parent / "config.d"
    folder.mkdir()
    (folder / "boxes").write_text(f"Host gpubox\n{block(sshd, client_key)}")
    first = connection_of(True, "gpubox")
    (folder / "boxes").write_text(f"Host gpubox\n{block(other, client_key)}")

    second = connection_of(True, "gpubox")
    (folder / "a new one").write_text(f"Host gpubox\n  Port {sshd.port}\n")
    third = connection_of(True, "gpubox")

    ports = [found.split()[-1] for found in (first, second, third)]
    assert ports == [str(server.port) for server in (sshd, other, sshd)]


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "IdentitiesOnly yes",
        "IdentityFile ~/.ssh/id_%u",
        "IdentityFile %d/.ssh/id_%u",
        "ForkAfterAuthentication yes",
    ],
    ids=["usual name", "only", "tilde", "token", "background"],
)
def test_keys_are_found_in_the_home_folder_of_the_environment(
    sshd: Sshd,
    client_key: Path,
    write_config: Callable[[str], Path],
    use_control_master: bool,
    lines: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "a home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "a home"))
    assert str(Path.home()) != pwd.getpwuid(os.getuid()).pw_dir
    path = write_config(f"Host {sshd.address}\n  {lines}\n" if lines else "")
    if not lines:
        path.unlink()
    for name in ("id_ed25519", f"id_{sshd.user}"):
        (path.parent / name).symlink_to(client_key)
    config = SSHConfig(sshd.address, sshd.port, sshd.user, use_control_master=use_control_master)

    with SSHClient(config) as client:
        result = client.run("echo in")

    assert (result.stdout, result.error) == ("in\n", None)


def test_settings_that_cannot_be_reached_are_left_out_as_by_ssh(
    sshd: Sshd, client_key: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unreachable = tmp_path / ("a" * 300)  # like a folder that another user has closed
    monkeypatch.setenv("HOME", str(unreachable))

    with SSHClient(SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key))) as client:
        assert client.run("echo in").stdout == "in\n"


def test_keys_in_the_home_folder_of_the_environment_are_offered_to_jump_hosts(
    sshd: Sshd, make_sshd: MakeSshd, client_key: Path, write_config: Callable[[str], Path]
) -> None:
    (write_config("").parent / "id_ed25519").symlink_to(client_key)
    bastion = make_sshd()
    jump = SSHConfig(bastion.address, bastion.port, bastion.user, name="bastion")
    config = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key), proxy_jump="bastion")
    config.jump_host = jump

    with SSHClient(config) as client:
        assert client.run("echo in").stdout == "in\n"
        assert isinstance(client.link(), MuxLink)


def test_keys_are_offered_in_the_order_of_openssh(
    make_sshd: MakeSshd,
    write_config: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use_control_master: bool,
) -> None:
    keys = {name: make_key(tmp_path / name) for name in ("other", "both", "file")}
    server = make_sshd(None, config=["LogLevel VERBOSE", "MaxAuthTries 9"])
    write_config(f"Host *\n  IdentityFile {keys['file']}\n  IdentityFile {keys['both']}\n")
    config = SSHConfig(server.address, server.port, server.user)
    config.use_control_master = use_control_master

    with Agent(tmp_path / "agent") as agent:
        for name in ("other", "both"):
            agent.add(keys[name])
        monkeypatch.setenv("SSH_AUTH_SOCK", agent.path)
        with SSHClient(config) as client:
            client.run("true")

    shown = {fingerprint(key): name for name, key in keys.items()}
    offered = re.findall(r"Failed publickey for .* (SHA256:\S+)", server.log)
    assert [shown.get(found) for found in offered] == ["both", "other", "file"]


def fingerprint(key: Path) -> str:
    listed = subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, check=True, text=True)
    return listed.stdout.split()[1]
