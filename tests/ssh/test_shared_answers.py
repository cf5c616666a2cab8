"""In a run on many hosts, one ``ssh -G`` serves all hosts to which ssh gives the same answer."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ringtasks.common import one_look
from ringtasks.errors import UsageError
from ringtasks.ssh.evaluated_config import HostSettings, ask
from tests.support.fixtures import WrapSSH

_NAMES = ("web1", "web2", "web3", "WEB1", "db1", "db2", "x", "x.example.com", "10.0.0.7",
          "10.0.0.8", "none", "b_2")  # fmt: skip
_ODD_NAMES = ("10.7", "010.0.0.7", "0x7f.1", "7", "::1", "FE80::0:1", "fe80::1%lo", "web%h",
              "web1.", "_web1", "web1@db1", "ssh://web1:5", "we$b", "-web1", "web1,web2", "web 1",
              "wéb", "a" * 220)  # fmt: skip
_PATTERNS = ("web1", "web*", "db*", "*", "*", "!web2", "!db1", "w?b*", "WEB*", "x*", "10.0.0.*")
_ODD_PATTERNS = ("web1,db1", '"web1"', "'db1'", "[w]eb1", "web\\1", "a#b", "::*", "we=b", "wéb",
                 '"web1 db1"', "# db1", "!", "a" * 220, "web*%h", "a*")  # fmt: skip
_LINES = ("User u{n}", "Port 22{n}", "HostName h{n}.example.com", "IdentityFile ~/.ssh/k{n}",
          "IdentityFile /k/%n-%h-{n}", "ProxyCommand nc -w{n} %h %p", "# Host web1", "SetEnv A={n}",
          "ControlPath /tmp/%C", "ServerAliveInterval {n}", "ProxyJump web2", "HostName WEB1",
          "HostName 10.7", "UserKnownHostsFile /tmp/%n", "", "Include {folder}/part1")  # fmt: skip
_ODD_LINES = ("HostName %h.example.com", "Match all", "LocalForward /tmp/%h /tmp/x",
              "RemoteCommand echo %n", "Match host web*", "Match originalhost db1",
              "Match final all", "Match !host db1", '"Host" web1', "'Host' db1", "Host\rdb1",
              "User a\rHost db1", "\x0cHost web1", "Host web1\x0c", "HostName=%h", "=Host db1",
              "Host", "HostKeyAlias %h", "CanonicalizeHostname yes", "match  ALL", "Match=all",
              "Include={folder}/part1", 'Include "{folder}/part2"', "ProxyJump db2:{n}",
              "include {folder}/part2 {folder}/part1",
              "Include {folder}/[[:alpha:]]art1")  # fmt: skip
_HOSTS = ("Host {0}", "Host {0}", "host {0}", "HOST\t{0}", "  Host  {0}", "Host={0}", "Host = {0}")


def _lines(chance: random.Random, folder: Path) -> Iterator[str]:
    for number in range(chance.randint(1, 6)):
        kinds = [_LINES, _ODD_LINES, _HOSTS]
        [kind] = chance.choices(kinds, [60, 2, 30])
        line = chance.choice(kind)
        if kind is _HOSTS:
            odd = chance.random() < 0.03
            patterns = chance.choices(_PATTERNS, k=chance.randint(1, 3))
            patterns += [chance.choice(_ODD_PATTERNS)] if odd else []
            line = line.format(chance.choice((" ", "\t", "  ")).join(patterns))
        else:
            line = chance.choice(("", "  ", "\t")) + line.format(n=number, folder=folder)
        yield line


def _write_files(chance: random.Random, folder: Path) -> Path:
    for name in ("part1", "part2", "config"):
        lines = [*_lines(chance, folder)]
        if name != "config":  # no file includes itself
            lines = [line for line in lines if "include" not in line.lower()]
        if name == "config" and chance.random() < 0.2:
            lines.insert(chance.randint(0, len(lines)), f"Include {folder}/part*")
        text = chance.choice(("\n", "\n", "\n", "\r\n")).join(lines) + chance.choice(("", "\n"))
        (folder / name).write_bytes(text.encode())
    return folder / "config"


def _answer(file: Path, name: str) -> HostSettings | str | None:
    try:
        return ask(name, file=str(file))
    except UsageError as error:
        return str(error)


def test_ssh_is_asked_once_for_the_hosts_of_a_run_that_the_same_lines_name(
    tmp_path: Path, wrap_ssh: WrapSSH
) -> None:
    calls = tmp_path / "calls"
    wrap_ssh(f'echo "${{*##*-- }}" >> {calls}\nexec $ssh "$@"')
    file = Path.home() / ".ssh" / "config"
    file.parent.mkdir(mode=0o700)
    file.write_text("Host web* !web3\n  HostName gate\nHost *\n  Port 99\n  ControlPath /%C\n")
    names = ["web1", "WEB2", "web3", "Web4", "web5", "db", "web6"]

    with one_look.shared(60), ThreadPoolExecutor(len(names)) as pool:
        in_run = dict(zip(names, pool.map(ask, names), strict=True))
    of_defaults = "ringtasks.invalid"
    asked = [host for host in calls.read_text().splitlines() if host != of_defaults]
    calls.write_text("")
    later = {name: ask(name) for name in names}

    assert len(asked) == 2
    assert calls.read_text() == ""
    assert later == in_run
    gates = [name for name, answer in in_run.items() if answer and answer.get("hostname")]
    assert gates == ["web1", "web5", "web6"]


def _both(file: Path, names: Sequence[str]) -> tuple[dict[str, object], dict[str, object]]:
    """Return the answers in one run, and those of a question for each host."""
    with one_look.shared(60):
        in_run = {name: _answer(file, name) for name in names}
    os.utime(file, ns=(1, 1))  # so that no kept answer counts
    return in_run, {name: _answer(file, name) for name in names}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Host web*\nPort 5\n", ("web1", "WEB1", "x")),
        ("Host web* !web1\nPort 5\n", ("web2", "web1")),
        ("Host web1 *\nPort 5\n", ("web1", "x")),
        ('Host "web1"\nPort 5\n', ("x", "web1")),
        ('"Host" web1\nPort 5\n', ("x", "web1")),
        ("Host\rweb1\nPort 5\n", ("x", "web1")),
        ("Match host web1\nPort 5\n", ("x", "web1")),
        ("ProxyJump web1\n", ("x", "web1")),
        ("HostName %h.lab\n", ("x", "web1")),
        ("UserKnownHostsFile /tmp/%n\n", ("x", "web1")),
        ("Host *\nHostName WEB1\n", ("x", "web1", "y")),
        ("Host web1\nInclude {folder}/name\n", ("x", "y", "web1")),
        ("Include {folder}/[[:alpha:]]ort\n", ("x", "web1")),
        ("Include {folder}/[[:alpha:]]orts\n", ("x", "web1")),
        ("Port 5\n", ("x", "10.7", "010.0.0.7", "FE80::0:1", "web1@x", "web%h", "ssh://x:6", "-x")),
    ],
)
def test_host_that_ssh_answers_in_another_way_is_asked_about(
    tmp_path: Path, text: str, names: tuple[str, ...]
) -> None:
    (tmp_path / "name").write_text("HostName gate\n")
    (tmp_path / "port").write_text("Host x\nHostName gate\nHost web1\nPort 6\n")
    (tmp_path / "ports").write_text("Host x\nPort 5\nHost web1\nPort 6\n")
    file = tmp_path / "config"
    file.write_bytes(text.format(folder=tmp_path).encode())

    in_run, alone = _both(file, names)

    assert in_run == alone


@pytest.mark.parametrize(
    ("text", "named"), [("Port 5\n", ".*"), ("CanonicalizeHostname yes\n", "web1")]
)
def test_address_that_no_line_sets_is_not_shared(
    tmp_path: Path, wrap_ssh: WrapSSH, text: str, named: str
) -> None:
    wrap_ssh(f'$ssh "$@" | sed "s/^hostname {named}$/&.lab/"')
    file = tmp_path / "config"
    file.write_text(text)

    in_run, alone = _both(file, ("x", "web1"))

    assert in_run == alone


def test_random_files_give_each_host_of_a_run_the_answer_of_its_own(
    tmp_path: Path, given_seeds: range | None
) -> None:
    for seed in given_seeds or range(5):
        chance = random.Random(seed)
        file = _write_files(chance, tmp_path)
        names = chance.sample(_NAMES, 10) + chance.sample(_ODD_NAMES, 2)

        in_run, alone = _both(file, names)

        assert in_run == alone, f"seed {seed}"
