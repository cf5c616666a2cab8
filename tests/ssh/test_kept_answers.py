"""Answers of ``ssh -G`` are kept for later processes, until something they depend on changes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ringtasks.common.digest import digest
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.evaluated_config import begun, settings_of
from ringtasks.ssh.kept_answers import KeptAnswer, Question, keep, load
from tests.support.fixtures import Inv, WrapSSH, WriteHosts

Asked = Callable[[], int]


@pytest.fixture
def folder() -> Path:
    path = Path.home() / ".ssh"
    path.mkdir(mode=0o700)
    (path / "config").write_text("Include config.d/*\nHost *\n  StrictHostKeyChecking no\n")
    return path


@pytest.fixture
def asked(
    tmp_path: Path, inv: Inv, write_hosts: WriteHosts, folder: Path, wrap_ssh: WrapSSH
) -> Asked:
    """Runs a command, and returns how often it has asked ``ssh -G``."""
    write_hosts(box={})
    log = tmp_path / "asked"
    wrap_ssh(f'case "$*" in *-G*) echo "$@" >> {log};; esac; exec $ssh "$@"')

    def ask() -> int:
        log.write_text("")
        done = inv("run", "--host", "box", "--cmd", "echo hi", PATH=os.environ["PATH"])
        assert (done.returncode, done.stdout) == (0, b"hi\n"), done
        return len(log.read_text().splitlines())

    return ask


def kept() -> list[Path]:
    return sorted((Path.home() / "state" / "ringtasks" / "ssh-settings").iterdir())


def test_answer_of_a_release_that_read_other_lines_does_not_count() -> None:
    question = Question("box")
    keep(question, KeptAnswer({}, is_alias=False, versions={}))
    assert load(question) is not None

    [file] = kept()
    file.rename(file.with_name(digest(json.dumps([1, *question]), 24)))

    assert load(question) is None


def test_answer_is_kept_for_the_next_process(asked: Asked) -> None:
    first, second = asked(), asked()

    assert first >= 1
    assert second == 0
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept()} == {0o600}


def test_answer_is_asked_for_again_after_a_change(asked: Asked, folder: Path) -> None:
    asked()
    (folder / "config").write_text((folder / "config").read_text() + "  Compression yes\n")
    after_edit, afterwards = asked(), asked()
    (folder / "config.d").mkdir()
    (folder / "config.d" / "new").write_text("Host box\n  Compression no\n")

    after_new_file = asked()

    assert (after_edit >= 1, afterwards, after_new_file >= 1) == (True, 0, True)


def test_answer_is_not_kept_if_a_file_changes_while_ssh_works(
    folder: Path, wrap_ssh: WrapSSH
) -> None:
    wrap_ssh(f'$ssh "$@"; case "$*" in *-G*box) echo Compression yes >> {folder}/config;; esac')
    assert settings_of(SSHConfig("box")).get("compression") is None

    assert settings_of(SSHConfig("box")).get("compression") == "yes"


def test_ssh_is_asked_once_if_it_was_told_to_begin(
    tmp_path: Path, folder: Path, wrap_ssh: WrapSSH
) -> None:
    wrap_ssh(f'echo "$*" >> {tmp_path}/asked; exec $ssh "$@"')
    (folder / "config").write_text("Host box\n  Compression yes\n")

    with begun(SSHConfig("box")):
        while not (tmp_path / "asked").exists():
            time.sleep(0.01)
        found = settings_of(SSHConfig("box")).get("compression")

    asked = (tmp_path / "asked").read_text().splitlines()
    assert found == "yes"
    assert len([line for line in asked if line.endswith(" box")]) == 1


def test_ssh_whose_answer_is_not_needed_is_ended(
    tmp_path: Path, folder: Path, wrap_ssh: WrapSSH
) -> None:
    wrap_ssh(f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/id; exec sleep 600")

    with begun(SSHConfig("box")):
        while not (tmp_path / "id").exists():
            time.sleep(0.01)

    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "id").read_text()), 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="it mounts a folder of its own at /etc/ssh")
def test_file_that_a_relative_pattern_of_the_system_adds_is_read(tmp_path: Path) -> None:
    system = tmp_path / "ssh"
    for folder in ("ssh_config.d", "more"):
        (system / folder).mkdir(parents=True)
    (system / "ssh_config").write_text("Include /etc/ssh/ssh_config.d/*.conf\n")
    (system / "ssh_config.d" / "own.conf").write_text("Compression yes\nInclude more/*.conf\n")
    code = "from ringtasks.ssh.evaluated_config import ask; print(ask('box').get('port'))"
    script = f'mount --bind {system} /etc/ssh && "$0" -c "{code}" && '
    script += f'echo Port 77 > /etc/ssh/more/new.conf && exec "$0" -c "{code}"'

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, sys.executable], capture_output=True, text=True
    )

    assert (done.stdout, done.stderr) == ("None\n77\n", "")


@pytest.mark.parametrize("name", ["caf\u00e9", f"{'a' * 200}/long"])
def test_answer_from_a_file_whose_name_ssh_does_not_print_as_it_is_is_not_kept(
    asked: Asked, folder: Path, name: str
) -> None:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    (folder / "config").write_text(f"Include {file}\nHost *\n  StrictHostKeyChecking no\n")
    asked()
    file.write_text("Compression yes\n")

    assert asked() >= 1


@pytest.mark.parametrize(
    "line",
    [
        'CanonicalizeHostname "yes"',
        'Match exec "true"',
        "Include ~/.ssh/*/config",
    ],
)
def test_answer_that_depends_on_more_than_files_is_not_kept(
    asked: Asked, folder: Path, line: str
) -> None:
    (folder / "config").write_text(f"{line}\nHost *\n  StrictHostKeyChecking no\n")

    first, second = asked(), asked()

    assert (first >= 1, second >= 1) == (True, True)


def test_damaged_answer_does_not_count(asked: Asked) -> None:
    asked()
    for path in kept():
        path.write_text('{"question": [')

    assert asked() >= 1
