"""Copies over SFTP to and from a real server."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig
from tests.support.faulty import Wire
from tests.support.fixtures import MakeSshd, use_control_master
from tests.support.sshd import Sshd

IS_ROOT = os.getuid() == 0

over_master = use_control_master  # each test of a client runs over both kinds of link


def make_tree(top: Path) -> Path:
    (top / "sub" / "empty").mkdir(parents=True)
    (top / "run.sh").write_bytes(b"#!/bin/sh\n")
    (top / "run.sh").chmod(0o750)
    (top / "sub" / "data é.bin").write_bytes(os.urandom(300_000))
    (top / "sub" / "closed").mkdir()
    (top / "sub" / "closed" / "secret").write_bytes(b"")
    (top / "sub" / "closed" / "secret").chmod(0o400)
    (top / "sub" / "closed").chmod(0o500)
    return top


def contents(top: Path) -> dict[str, tuple[int, bytes | None]]:
    return {
        str(path.relative_to(top)): (
            stat.S_IMODE(path.stat().st_mode),
            path.read_bytes() if path.is_file() else None,
        )
        for path in sorted(top.rglob("*"))
    }


@pytest.mark.parametrize("size", [0, 1, 32 * 1024, 5_000_001])
def test_file_is_copied_to_the_host_and_back(
    client: SSHClient, near: Path, far: Path, size: int
) -> None:
    (near / "a b").write_bytes(os.urandom(size))
    (near / "a b").chmod(0o640)

    assert client.scp_to(near / "a b", f"{far}/x").success
    assert client.scp_from(f"{far}/x", near / "back").success

    assert (near / "back").read_bytes() == (near / "a b").read_bytes()
    assert stat.S_IMODE((far / "x").stat().st_mode) == 0o640
    assert stat.S_IMODE((near / "back").stat().st_mode) == 0o640


def test_directory_is_copied_to_the_host_and_back_with_its_modes(
    client: SSHClient, near: Path, far: Path
) -> None:
    tree = make_tree(near / "tree")

    assert client.scp_to(tree, str(far)).success  # into it, since it is there
    assert client.scp_from(f"{far}/tree", near / "back").success

    assert contents(far / "tree") == contents(tree)
    assert contents(near / "back") == contents(tree)


@pytest.mark.parametrize("path", ["/sys/class/net/lo/mtu", "/proc/version"])
def test_file_shorter_or_longer_than_its_reported_size_is_copied_whole(
    client: SSHClient, near: Path, path: str
) -> None:
    if not Path(path).exists():
        pytest.skip(f"{path} is missing")

    got = client.scp_from(path, near / "file")

    assert got.success, got.error
    assert (near / "file").read_bytes() == Path(path).read_bytes()


def test_names_that_are_not_utf8_are_kept(client: SSHClient, near: Path, far: Path) -> None:
    (near / "a" / "\udcff").mkdir(parents=True)
    (near / "a" / "\udcff" / "\udcfe").write_text("x")

    assert client.scp_to(near / "a", f"{far}/a").success
    assert client.scp_from(f"{far}/a", near / "b").success

    assert (near / "b" / "\udcff" / "\udcfe").read_text() == "x"


def test_tilde_means_the_remote_home_directory(client: SSHClient, sshd: Sshd, near: Path) -> None:
    (near / "x").write_text("hello")

    assert client.scp_to(near / "x", "~/tilde").success
    assert client.scp_from("~/tilde", near / "back").success

    assert (sshd.home / "tilde").read_text() == (near / "back").read_text() == "hello"


def test_existing_file_is_replaced_atomically(client: SSHClient, near: Path, far: Path) -> None:
    (near / "x").write_text("new")
    (far / "x").write_text("old")
    with (far / "x").open() as held:
        assert client.scp_to(near / "x", f"{far}/x").success

        assert held.read() == "old"  # not written into: another file has the name now
    assert (far / "x").read_text() == "new"


def test_links_are_followed(client: SSHClient, near: Path, far: Path) -> None:
    (near / "tree").mkdir()
    (near / "real").mkdir()
    (near / "real" / "file").write_text("content")
    (near / "tree" / "folder").symlink_to(near / "real")
    (near / "tree" / "file").symlink_to(near / "real" / "file")

    assert client.scp_to(near / "tree", f"{far}/tree").success
    (far / "tree" / "again").symlink_to(far / "tree" / "folder")
    assert client.scp_from(f"{far}/tree", near / "back").success

    for copy in (far / "tree" / "folder", near / "back" / "folder", near / "back" / "again"):
        assert (copy / "file").read_text() == "content"
    assert not (near / "back" / "file").is_symlink()


@pytest.mark.parametrize("way", ["put", "get"])
def test_link_loop_or_fifo_in_a_copied_directory_is_refused(
    client: SSHClient, near: Path, far: Path, way: str
) -> None:
    place = near if way == "put" else far
    (place / "loop").mkdir()
    (place / "loop" / "up").symlink_to(place / "loop")
    (place / "pipes").mkdir()
    os.mkfifo(place / "pipes" / "fifo")

    def copy(name: str) -> str:
        if way == "put":
            return str(client.scp_to(near / name, f"{far}/x-{name}", timeout=10).error)
        return str(client.scp_from(f"{far}/{name}", near / f"x-{name}", timeout=10).error)

    assert "a symbolic link to a folder that it is in" in copy("loop")
    assert "fifo: is not a regular file" in copy("pipes")


@pytest.mark.parametrize(
    ("local", "remote", "said"),
    [
        ("missing", "x", "missing: No such file"),
        ("file", "no/such/folder/x", "No such file"),
        ("file", "file/x", "x: "),
        ("file", "/proc/x", "/proc/x: "),
    ],
)
def test_failed_scp_to_reports_its_reason(
    client: SSHClient, near: Path, far: Path, local: str, remote: str, said: str
) -> None:
    (near / "file").write_text("x")
    (far / "file").write_text("x")

    result = client.scp_to(near / local, str(far / remote))

    assert (result.success, result.returncode, result.timed_out) == (False, 1, False)
    assert said in str(result.error)
    assert client.run("true").success
    assert sorted(path.name for path in far.iterdir()) == ["file"]


def test_failed_get_reports_its_reason(client: SSHClient, near: Path, far: Path) -> None:
    (far / "file").write_text("x")
    (near / "file").mkdir()
    (near / "file" / "file").mkdir()

    missing = client.scp_from(f"{far}/missing", near)
    nowhere = client.scp_from(f"{far}/file", near / "no" / "such")
    onto_folder = client.scp_from(f"{far}/file", near / "file")

    assert "missing: No such file" in str(missing.error)
    assert "such: No such file" in str(nowhere.error)
    assert "is a folder" in str(onto_folder.error)
    assert [path.name for path in near.rglob("*")] == ["file", "file"]


def test_missing_permission_fails_the_copy_and_not_the_connection(
    make_sshd: MakeSshd, client_key: Path, near: Path
) -> None:
    (near / "x").write_text("x")
    server = make_sshd(sftp="internal-sftp -R")  # read-only: for root too
    config = SSHConfig(server.address, server.port, server.user, str(client_key))

    with SSHClient(config) as client:
        result = client.scp_to(near / "x", "~/x")

    assert (result.returncode, result.transport_used) == (1, "direct")
    assert "Permission denied" in str(result.error)


@pytest.mark.skipif(not IS_ROOT, reason="mounts a small file system")
def test_full_disk_is_reported_with_its_sizes(client: SSHClient, near: Path, far: Path) -> None:
    (near / "large").write_bytes(b"x" * 3_000_000)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", far], check=True)
    try:
        result = client.scp_to(near / "large", f"{far}/large")
        left = list(far.iterdir())
    finally:
        subprocess.run(["umount", "-l", far], check=True)

    assert "no space: 2.9 MiB are needed, and " in str(result.error)
    assert left == []


def test_a_partial_file_never_has_the_final_name(config: SSHConfig, near: Path, far: Path) -> None:
    (near / "large").write_bytes(os.urandom(30_000_000))

    async def cut_short() -> None:
        async with SSHClient(config) as client:
            await client.run_async("true")
            copy = asyncio.create_task(client.put_async(near / "large", f"{far}/large"))
            while not list(far.iterdir()):
                await asyncio.sleep(0.001)
            copy.cancel()
            with pytest.raises(asyncio.CancelledError):
                await copy
            while list(far.iterdir()):  # what was there of it is removed
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(cut_short(), 20))

    assert list(far.iterdir()) == []


@pytest.mark.parametrize("way", ["put", "get"])
@pytest.mark.matrix(1)
def test_timeout_ends_a_copy(sshd: Sshd, client_key: Path, near: Path, far: Path, way: str) -> None:
    for place in (near, far):
        (place / "large").write_bytes(os.urandom(60_000_000))
    with Wire(sshd.address, sshd.port) as wire, ThreadPoolExecutor() as pool:
        config = SSHConfig("127.0.0.1", wire.port, sshd.user, str(client_key))
        with SSHClient(config) as client:
            if way == "put":
                copy = pool.submit(client.scp_to, near / "large", f"{far}/new", timeout=0.5)
            else:
                copy = pool.submit(client.scp_from, f"{far}/large", near / "new", timeout=0.5)
            await_partial(far if way == "put" else near)
            wire.freeze()
            result = copy.result(20)
            wire.thaw()

    assert (result.returncode, result.timed_out) == (124, True)
    assert "time limit of 0.5 s passed" in str(result.error)
    assert not (far / "new").exists()
    assert not (near / "new").exists()


def await_partial(folder: Path) -> None:
    deadline = time.monotonic() + 10
    while not list(folder.glob(".*.part")):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_connection_lost_during_a_copy_is_an_unknown_outcome(
    sshd: Sshd, client_key: Path, near: Path, far: Path
) -> None:
    (near / "large").write_bytes(os.urandom(30_000_000))
    with Wire(sshd.address, sshd.port) as wire:
        config = SSHConfig("127.0.0.1", wire.port, sshd.user, str(client_key))
        with SSHClient(config) as client:
            client.run("true")
            wire.cut_after(2_000_000)
            result = client.scp_to(near / "large", f"{far}/new")

    assert result.returncode == 255
    assert "outcome unknown" in str(result.error)
    assert not (far / "new").exists()


def test_copies_and_commands_share_one_connection(
    make_sshd: MakeSshd, client_key: Path, near: Path
) -> None:
    server = make_sshd()
    (near / "x").write_text("x")

    with SSHClient(SSHConfig(server.address, server.port, server.user, str(client_key))) as client:
        assert client.run("true")
        assert client.scp_to(near / "x", "~/x")
        assert client.scp_from("~/x", near / "back")

    assert server.accepted_logins() == 1


@pytest.mark.parametrize(
    ("arguments", "error", "names"),
    [
        (("", "x"), ValueError, "local"),
        (("x", ""), ValueError, "remote"),
        (("a\0b", "x"), ValueError, "local"),
        (("x", "a\0b"), ValueError, "remote"),
        ((3, "x"), TypeError, "local"),
        (("x", None), TypeError, "remote"),
        (("x", "x", -1), ValueError, "timeout"),
        (("x", "x", "1"), TypeError, "timeout"),
    ],
)
def test_a_bad_argument_is_refused_by_name(
    client: SSHClient, arguments: tuple[object, ...], error: type[Exception], names: str
) -> None:
    with pytest.raises(error, match=names):
        client.scp_to(*arguments)
    assert not client.is_connected()
