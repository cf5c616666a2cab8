"""The host's rsync looks for the rest of unfinished files only if there may be one."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig
from ringtasks.transfer import Rsync, Rules, large_files
from ringtasks.transfer.large_files import LARGE_BYTES, searching
from tests.support.fixtures import MakeSshd


def test_host_looks_for_unfinished_files_if_a_file_is_large_or_unfinished(
    make_sshd: MakeSshd, client_key: Path, tmp_path: Path
) -> None:
    source, said, program = tmp_path / "source", tmp_path / "said", tmp_path / "bin" / "rsync"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >{said}\nexec {shutil.which("rsync")} "$@"\n')
    program.chmod(0o755)
    server = make_sshd(environ={"PATH": f"{program.parent}:{os.environ['PATH']}"})
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_text("content")
    rest = server.home / "t" / "sub" / ".ringtasks-partial"
    asked = []

    with SSHClient(SSHConfig(server.address, server.port, server.user, str(client_key))) as client:

        def push(rsync: Rsync) -> None:
            assert rsync.push(source, "t", Rules()).result.success
            asked.append("--partial-dir=.ringtasks-partial" in said.read_text())

        first = Rsync(client)
        push(first)
        push(first)  # the link was lost
        (source / "large").write_bytes(bytes(LARGE_BYTES))
        push(Rsync(client))
        (source / "large").unlink()
        rest.mkdir()
        (rest / "file").write_text("cont")
        (source / "sub" / "file").write_text("more content")
        push(Rsync(client))

    assert asked == [False, True, True, True]
    assert not rest.exists()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the search also if the machine is busy."""
    monkeypatch.setattr(large_files, "WAIT", 30.0)


@pytest.mark.usefixtures("patience")
def test_failed_search_finds_no_reason_to_leave_a_file_unfinished(tmp_path: Path) -> None:
    with searching([str(tmp_path / "missing")], follow=False) as search:
        assert search.may_exist()
    with searching([str(tmp_path)], follow=False) as search:
        assert not search.may_exist()
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "large").write_bytes(bytes(LARGE_BYTES))
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far" / "large")
    for follow in (False, True):
        with searching([str(tmp_path / "near")], follow=follow) as search:
            assert search.may_exist() == follow


@pytest.mark.usefixtures("patience")
def test_hosts_to_which_the_same_files_are_sent_share_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, find = tmp_path / "begun", tmp_path / "bin" / "find"
    (source := tmp_path / "source").mkdir()
    find.parent.mkdir()
    find.write_text(f'#!/bin/sh\necho >>{begun}\nexec {shutil.which("find")} "$@"\n')
    find.chmod(0o755)
    monkeypatch.setenv("PATH", str(find.parent), prepend=os.pathsep)

    with searching([str(source)], follow=False) as first:
        with searching([str(source)], follow=False) as second:
            found = [second.may_exist()]
        found += [first.may_exist(), first.may_exist()]
    (source / "large").write_bytes(bytes(LARGE_BYTES))
    with searching([str(source)], follow=False) as later:
        found.append(later.may_exist())

    assert found == [False, False, False, True]
    assert begun.read_text() == "\n" * 2


def test_hosts_do_not_wait_for_a_slow_search_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = tmp_path / "find"
    find.write_text("#!/bin/sh\nexec sleep 60\n")
    find.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    with searching([str(tmp_path)], follow=False) as search:
        first = search.may_exist()
        monkeypatch.setattr(large_files, "WAIT", 3600.0)
        second = search.may_exist()

    assert (first, second) == (True, True)


@pytest.mark.usefixtures("patience")
def test_search_is_read_also_if_many_descriptors_are_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1024)]  # select(2) takes no more
    try:
        with searching([str(tmp_path)], follow=False) as search:
            assert not search.may_exist()
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
