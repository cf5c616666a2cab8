"""put, get and sync between this machine and a real server."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig
from ringtasks.common.local_tree import LocalTree
from ringtasks.errors import UsageError
from ringtasks.transfer import HostTransfer, Options, Rsync, Rules, get, one_host, put, sync
from ringtasks.transfer.patterns import Filter
from ringtasks.transfer.staging import Staging
from ringtasks.transfer.workers import transfer
from tests.support.faulty import Wire
from tests.support.fixtures import MakeSshd, use_control_master
from tests.support.sshd import Sshd
from tests.support.transfers import either_way, hide_rsync, only
from tests.support.waiting import eventually

IS_ROOT = os.getuid() == 0

over_master = use_control_master


mover = either_way


@pytest.fixture
def config(config: SSHConfig, far: Path) -> SSHConfig:
    return replace(config, work_dir=str(far))


def make_tree(top: Path) -> Path:
    (top / "sub" / "empty").mkdir(parents=True)
    (top / "run.sh").write_bytes(b"#!/bin/sh\n")
    (top / "run.sh").chmod(0o750)
    (top / "-rf").write_text("dash")
    (top / "not UTF-8 \udcff").write_text("bytes")
    (top / "link \udcfe").symlink_to("not UTF-8 \udcff")
    (top / "through a file").symlink_to("run.sh/x")
    (top / "to itself").symlink_to("to itself")
    (top / "two\nlines *").write_text("newline")
    (top / "sub" / "data é.bin").write_bytes(os.urandom(300_000))
    (top / "sub" / "link").symlink_to("data é.bin")
    os.utime(top / "run.sh", (1_600_000_000, 1_600_000_000))
    return top


def contents(top: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        if path.is_symlink():
            found[name] = path.readlink()
        else:
            status = path.stat()
            content = path.read_bytes() if path.is_file() else None
            found[name] = (stat.S_IMODE(status.st_mode), int(status.st_mtime), content)
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def leftovers(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob(".ringtasks*")]


def test_results_count_the_bytes_of_kernel_files(
    config: SSHConfig, near: Path, far: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their reported sizes are 0 in /proc, and a page in /sys."""
    files = [Path("/proc/version"), Path("/sys/class/net/lo/mtu")]
    sizes = [len(path.read_bytes()) for path in files]

    got = [only(get(str(path), near / path.name, [config])).bytes for path in files]
    sent = [only(put(str(path), str(far / path.name), [config])).bytes for path in files]
    hide_rsync(tmp_path / "no-rsync", monkeypatch)
    several = [
        only(get("/sys/class/net/lo/[mt][tx]*", near / "several", [config])),
        only(put([str(path) for path in files], f"{far}/several", [config])),
    ]

    assert (got, sent) == (sizes, sizes)
    for result, folder in zip(several, (near, far), strict=True):
        copied = (folder / "several").iterdir()
        assert result.error is None
        assert result.bytes == sum(path.stat().st_size for path in copied)


@pytest.mark.matrix(2)
def test_times_that_sftp_has_no_bits_for_are_copied_once(
    client: SSHClient, mover: str, near: Path, far: Path
) -> None:
    times = {"old": -1, "first": 0, "last": 2**32 - 1, "new": 2**33}
    (near / "s").mkdir()
    for name, time_ in times.items():
        (near / "s" / name).touch()
        os.utime(near / "s" / name, (time_, time_))

    sent, again = (only(sync(near / "s", "s", [client])) for _ in range(2))

    assert (sent.error, sent.files, again.files) == (None, 4, 0)
    if mover == "SFTP":
        times.update(old=0, new=2**32 - 1)
    assert {path.name: path.stat().st_mtime for path in (far / "s").iterdir()} == times


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 3_000_001])
@pytest.mark.matrix(4)
def test_file_is_transferred_both_ways_with_mode_and_mtime(
    client: SSHClient, near: Path, far: Path, size: int
) -> None:
    (near / "-a 'b").write_bytes(os.urandom(size))
    (near / "-a 'b").chmod(0o640)
    os.utime(near / "-a 'b", (1_500_000_000, 1_500_000_000))

    there = only(put(near / "-a 'b", "x", [client]))
    back = only(get("x", near / "back", [client]))

    for path in (far / "x", near / "back"):
        assert path.read_bytes() == (near / "-a 'b").read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert path.stat().st_mtime == 1_500_000_000
    assert (there.files, there.bytes, there.checked) == (1, size, 1)
    assert (back.files, back.bytes, back.checked) == (1, size, 1)
    assert leftovers(near, far) == []


@pytest.mark.parametrize(
    ("target", "at"), [("x", "x"), ("folder", "folder/file"), ("new/", "new/file"), (".", "file")]
)
def test_file_is_put_into_a_directory_or_under_the_given_name(
    client: SSHClient, near: Path, far: Path, target: str, at: str
) -> None:
    (near / "file").write_text("hello")
    (far / "folder").mkdir()

    assert put(near / "file", target, [client])

    assert (far / at).read_text() == "hello"


def test_directory_with_any_file_names_is_transferred_both_ways(
    client: SSHClient, mover: str, near: Path, far: Path
) -> None:
    tree = make_tree(near / "tree")

    there = only(put(tree, "copy", [client]))
    back = only(get("copy", near / "back", [client]))

    assert contents(far / "copy") == contents(tree)
    assert contents(near / "back") == contents(tree)
    assert (there.checked, back.checked) == (5, 5)
    assert leftovers(near, far) == []


def test_pattern_is_expanded_locally_by_put_and_remotely_by_get(
    client: SSHClient, mover: str, near: Path, far: Path
) -> None:
    for name in ("a 1.pt", "a 2.pt", "b.txt"):
        (near / name).write_text(name)

    assert put(str(near / "*.pt"), "runs", [client])
    result = only(get("ru*/a [12].pt", near / "back", [client]))

    assert names(far / "runs") == ["a 1.pt", "a 2.pt"]
    assert names(near / "back") == ["a 1.pt", "a 2.pt"]
    assert result.checked == 2


def test_sync_makes_the_remote_directory_equal_and_resends_no_file(
    client: SSHClient, mover: str, near: Path, far: Path
) -> None:
    tree = make_tree(near / "tree")
    assert sync(tree, "copy", [client])
    (far / "copy" / "extra").write_text("x")
    (tree / "-rf").write_text("changed")

    first = only(sync(tree, "copy", [client], Options(delete=True)))
    again = only(sync(tree, "copy", [client], Options(delete=True)))

    assert contents(far / "copy") == contents(tree)
    assert (first.names, first.deleted) == (("-rf",), ("extra",))
    assert (again.files, again.deleted) == (0, ())


def test_pull_sends_only_what_differs_if_the_top_folder_has_changed(
    client: SSHClient, mover: str, near: Path, far: Path
) -> None:
    (far / "large").write_bytes(os.urandom(300_000))
    (far / "link").symlink_to("large")
    (far / "folder").mkdir()
    only(sync(str(far), near, [client], pull=True))
    before = (near / "link").lstat().st_ino

    (far / "new").write_text("x")
    os.utime(far, (10**9, 10**9))
    host = only(sync(str(far), near, [client], pull=True))

    assert near.stat().st_mtime == 10**9
    assert (host.success, host.names) == (True, ("new",))
    assert host.received_bytes < 10_000
    assert (near / "link").lstat().st_ino == before


def test_sync_pull_omits_links_that_leave_the_tree(
    client: SSHClient, mover: str, near: Path, far: Path
) -> None:
    make_tree(far / "tree")
    (far / "tree" / "away").symlink_to("/etc")
    (far / "tree" / "up").symlink_to("../../near")

    result = only(sync("tree", near / "copy", [client], pull=True))

    assert result.success
    assert not (near / "copy" / "away").is_symlink()
    assert not (near / "copy" / "up").is_symlink()
    assert (near / "copy" / "sub" / "link").readlink() == Path("data é.bin")


@pytest.mark.parametrize("way", ["sync", "put", "scp_to"])
def test_links_in_the_remote_target_are_not_followed(
    client: SSHClient, mover: str, near: Path, far: Path, way: str
) -> None:
    (near / "s" / "folder").mkdir(parents=True)
    for name in ("file", "folder/file", "into"):
        (near / "s" / name).write_text("new")
        (near / "s" / name).chmod(0o666)
    (far / "s").mkdir()
    outside = far / "outside"
    outside.mkdir(0o700)
    (outside / "file").write_text("mine")
    (outside / "file").chmod(0o600)
    (far / "s" / "file").symlink_to("../outside/file")
    (far / "s" / "into").symlink_to("../outside")
    (far / "s" / "folder").symlink_to("../outside")
    before = [(path.lstat(), path.name) for path in (outside, outside / "file")]

    if way == "sync":
        assert only(sync(near / "s", "s", [client])).success
    elif way == "put":
        assert only(put(near / "s", ".", [client])).success
    else:
        client.scp_to(near / "s", str(far))

    assert [(path.lstat(), path.name) for path in (outside, outside / "file")] == before
    assert names(outside) == ["file"]
    if way != "scp_to":  # which refuses to copy a folder to where a link stands
        assert contents(far / "s") == contents(near / "s")


def test_delete_keeps_excluded_files_and_their_parent_directories(
    client: SSHClient, mover: str, near: Path, far: Path
) -> None:
    options = Options(delete=True, exclude=("*.log",))
    (near / "new").mkdir()
    for top in (near, far):
        (top / "s" / "old" / "deep").mkdir(parents=True)
        (top / "s" / "old" / "deep" / "run.log").write_text("kept")
        (top / "s" / "old" / "other").write_text("x")
        (top / "s" / "gone" / "too").mkdir(parents=True)
        (top / "s" / "old" / "deep").chmod(0o555)
    (far / "new").mkdir()

    dry, there = (
        only(sync(near / "new", "s", [client], replace(options, dry_run=is_dry)))
        for is_dry in (True, False)
    )
    dry_back, back = (
        only(sync("new", near / "s", [client], replace(options, dry_run=is_dry), pull=True))
        for is_dry in (True, False)
    )

    for done in (dry, there, dry_back, back):
        assert done.success, done.error
        assert sorted(done.deleted) == ["gone/", "gone/too/", "old/other"]
    for top in (near / "s", far / "s"):
        assert names(top) == ["old"]
        assert names(top / "old" / "deep") == ["run.log"]
        assert stat.S_IMODE((top / "old" / "deep").stat().st_mode) == 0o555


@pytest.mark.matrix(2)
def test_delete_keeps_names_beside_sources_that_are_given_by_name(
    client: SSHClient, mover: str, near: Path, far: Path
) -> None:
    for name in "ab":
        (near / name).mkdir()
        (near / name / "new").write_text("x")
    (far / "a").mkdir()
    (far / "a" / "old").write_text("x")
    (far / "beside").write_text("x")
    (near / "back" / "a").mkdir(parents=True)
    (near / "back" / "a" / "old").write_text("x")
    (near / "back" / "beside").write_text("x")

    there = only(put([near / "a", near / "b"], ".", [client], Options(delete=True)))
    back = only(get("[ab]", near / "back", [client], Options(delete=True)))

    assert (there.deleted, back.deleted) == (("a/old",), ("a/old",))
    assert names(far) == names(near / "back") == ["a", "b", "beside"]


@pytest.mark.matrix(2)
def test_link_that_is_given_by_name_is_copied_as_its_target(
    client: SSHClient, mover: str, near: Path, far: Path
) -> None:
    for folder in (near, far):
        (folder / "epoch5.pt").write_text("weights")
        (folder / "latest.pt").symlink_to("epoch5.pt")
        (folder / "last").symlink_to("run5")
        (folder / "run5").mkdir()
        (folder / "run5" / "log").write_text("log")
    for name in ("1", "2"):
        (far / name).mkdir()

    copies = [
        put(near / "latest.pt", "1", [client]),
        put(near / "last", "1", [client]),
        put(str(near / "la*"), "2", [client]),
        get("late*", near / "3", [client]),
    ]

    assert [only(result).error for result in copies] == [None] * 4
    assert contents(far / "1") == contents(far / "2")
    assert names(far / "1") == ["last", "latest.pt"]
    assert (far / "2" / "last" / "log").read_text() == "log"
    for folder in (far / "1", far / "2", near / "3"):
        assert (folder / "latest.pt").read_text() == "weights"
        assert not (folder / "latest.pt").is_symlink()


def test_missing_source_directory_deletes_nothing(
    client: SSHClient, mover: str, near: Path
) -> None:
    (near / "kept").write_text("x")

    done = only(sync("no/such", near, [client], Options(delete=True), pull=True))

    assert "no such folder" in str(done.error)
    assert names(near) == ["kept"]


def test_put_copies_the_target_of_a_link_out_of_the_folder(
    client: SSHClient, mover: str, near: Path, far: Path
) -> None:
    (near / "tree").mkdir()
    (near / "weights").write_text("real")
    (near / "tree" / "latest").symlink_to(near / "weights")

    assert put(near / "tree", "copy", [client])

    assert not (far / "copy" / "latest").is_symlink()
    assert (far / "copy" / "latest").read_text() == "real"


def test_excluded_names_are_neither_sent_nor_deleted_unless_included_again(
    client: SSHClient, mover: str, near: Path, far: Path
) -> None:
    for name in ("a.log", "keep.log", "code.py"):
        (near / name).write_text(name)
    (far / "copy").mkdir()
    (far / "copy" / "theirs.log").write_text("")
    options = Options(exclude=("*.log", "!keep.log"), delete=True)

    assert sync(near, "copy", [client], options)

    assert names(far / "copy") == ["code.py", "keep.log", "theirs.log"]


@pytest.mark.parametrize("is_repository", [True, False])
def test_gitignore_excludes_the_files_that_git_ignores(
    client: SSHClient, mover: str, near: Path, far: Path, is_repository: bool
) -> None:
    given = ["a.log", "keep.log", "sub/b.log", "sub/x.tmp", "odd[1].out", "odd1.out", "cache/y"]
    for name in given:
        (near / name).parent.mkdir(exist_ok=True)
        (near / name).write_text(name)
    (near / ".gitignore").write_text("*.log\n!keep.log\ncache/\nodd\\[1\\].out\n")
    (near / "sub" / ".gitignore").write_text("!b.log\n*.tmp\n")
    if is_repository:
        subprocess.run(["git", "init", "-q", near], check=True)

    assert sync(near, "copy", [client], Options(gitignore=True))

    sent = {str(path.relative_to(far / "copy")) for path in (far / "copy").rglob("*")}
    assert sent == {".gitignore", "keep.log", "odd1.out", "sub", "sub/.gitignore", "sub/b.log"}


def test_directory_in_place_of_a_link_is_reported_and_removed_only_with_delete(
    client: SSHClient, mover: str, near: Path, far: Path
) -> None:
    (near / "tree").mkdir()
    (near / "tree" / "data").symlink_to("elsewhere")
    (far / "tree" / "data").mkdir(parents=True)
    (far / "tree" / "data" / "kept").write_text("x")

    refused = only(sync(near / "tree", "tree", [client]))
    is_kept = (far / "tree" / "data" / "kept").exists()
    done = only(sync(near / "tree", "tree", [client], Options(delete=True)))

    assert (refused.returncode, is_kept) == (1, True)
    assert "data" in (refused.error or "")
    assert "a folder that is not empty is in its place" in (refused.error or "")
    assert "--delete" in (refused.error or "")
    assert done.success, done.error
    assert (far / "tree" / "data").readlink() == Path("elsewhere")


@pytest.mark.parametrize("pulls", [False, True], ids=["push", "pull"])
def test_excluded_file_is_not_deleted_with_its_folder_for_a_file_of_that_name(
    client: SSHClient, mover: str, near: Path, far: Path, pulls: bool
) -> None:
    source, target = (far, near) if pulls else (near, far)
    (source / "tree").mkdir()
    (source / "tree" / "name").write_text("file")
    (target / "tree" / "name").mkdir(parents=True)
    (target / "tree" / "name" / "kept").write_text("x")
    (target / "tree" / "name" / "lost").write_text("x")
    options = Options(delete=True, exclude=("kept",))
    places = ("tree", near / "tree") if pulls else (near / "tree", "tree")

    looked, done = (
        only(sync(*places, [client], replace(options, dry_run=is_dry), pull=pulls))
        for is_dry in (True, False)
    )

    assert names(target / "tree" / "name") == ["kept"]
    for refused in (looked, done):
        assert refused.returncode == 1
        assert "unless it holds excluded names" in (refused.error or "")
        assert refused.deleted == ("name/lost",)


def test_gitignore_applies_in_nested_repositories_and_keeps_their_git_data(
    client: SSHClient, mover: str, near: Path, far: Path
) -> None:
    for name in ("a.log", "vendor/lib/x.tmp", "vendor/lib/keep", "vendor/lib/deep/y.o", "plain/z"):
        (near / name).parent.mkdir(parents=True, exist_ok=True)
        (near / name).write_text(name)
    for folder, pattern in ((".", "*.log"), ("vendor/lib", "*.tmp"), ("vendor/lib/deep", "*.o")):
        subprocess.run(["git", "init", "-q", near / folder], check=True)
        (near / folder / ".gitignore").write_text(pattern)

    assert sync(near, "copy", [client], Options(gitignore=True))

    files = {str(p.relative_to(far / "copy")) for p in (far / "copy").rglob("*") if p.is_file()}
    nested = {"vendor/lib/.gitignore", "vendor/lib/keep", "vendor/lib/deep/.gitignore"}
    assert files == {".gitignore", "plain/z", *nested}


def test_pipe_of_the_caller_is_sent_to_its_end(client: SSHClient, mover: str, far: Path) -> None:
    reading, writing = os.pipe()
    writer = threading.Thread(target=lambda: (os.write(writing, b"hi\n"), os.close(writing)))
    writer.start()

    result = put(f"/dev/fd/{reading}", "x", [client])

    writer.join()
    os.close(reading)
    assert only(result).success, only(result).error
    assert (far / "x").read_bytes() == b"hi\n"


@pytest.mark.parametrize("name", ["pipe", "device", "link"])
def test_file_never_replaces_a_pipe_or_device_at_its_target(
    client: SSHClient, near: Path, far: Path, name: str
) -> None:
    for folder in (near, far):
        os.mkfifo(folder / "pipe")
        if IS_ROOT:
            os.mknod(folder / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        else:
            (folder / "device").symlink_to("/dev/null")
        (folder / "link").symlink_to("pipe")
        (folder / "file").write_text("one")

    hosts = [
        only(put(near / "file", name, [client])),
        only(put(near / "file", name, [client], Options(dry_run=True))),
        only(get("file", near / name, [client])),
        only(get("file", near / name, [client], Options(dry_run=True))),
    ]
    copies = [client.scp_to(near / "file", str(far / name)), client.scp_from("file", near / name)]

    assert [host.success for host in (*hosts, *copies)] == [False] * 6
    assert all("a file does not replace" in str(host.error) for host in hosts)
    assert not any((folder / name).is_file() for folder in (near, far))


@pytest.mark.parametrize("kind", ["a pipe", "a device", "a socket"])
def test_put_of_a_pipe_socket_or_device_is_refused_at_once(
    client: SSHClient, near: Path, kind: str
) -> None:
    path = near / "special"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    else:
        path = Path("/dev/zero")

    with pytest.raises(UsageError, match=f"is not a regular file but {kind}"):
        put(path, "x", [client])


@pytest.mark.parametrize("way", ["put", "get", "sync"])
def test_transfer_dry_run_changes_nothing_and_lists_the_changes(
    client: SSHClient, mover: str, near: Path, far: Path, way: str
) -> None:
    make_tree(near / "tree")
    make_tree(far / "tree")
    (far / "tree" / "-rf").write_text("other")
    (far / "tree" / "extra").write_text("")
    before = contents(near), contents(far)

    if way == "put":
        result = only(put(near / "tree", "no/such", [client], Options(dry_run=True)))
    elif way == "get":
        result = only(get("tree", near / "new", [client], Options(dry_run=True)))
    else:
        options = Options(dry_run=True, delete=True, exclude=("run.sh", "sub"))
        result = only(sync(near / "tree", "tree", [client], options))

    assert "-rf" in result.names
    assert result.is_dry_run
    assert way == "sync" or "sub/empty/" in result.made
    assert result.deleted == (("extra",) if way == "sync" else ())
    assert (contents(near), contents(far)) == before


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("file/", "is a file where a folder is needed"),
        ("no/such", "no: no such folder on the host; make it: "),
        ("/none/y", "make it: inv run --host box --cwd / --cmd 'mkdir -p /none'"),
        ("no/x", "no: no such folder on the host; with / at its end it is made: 'no/'"),
        ("file/x", "file: is not a folder"),
    ],
)
def test_failed_put_reports_its_reason(
    client: SSHClient, near: Path, far: Path, target: str, said: str
) -> None:
    (near / "x").write_text("x")
    (far / "file").write_text("old")

    result = only(put(near / "x", target, [client]))

    assert (result.returncode, result.host) == (1, "box")
    assert said in str(result.error)
    assert contents(far).keys() == {"file"}


def test_target_of_another_user_keeps_its_own_mode_and_time(
    config: SSHConfig, mover: str, near: Path, other_users: tuple[str, str]
) -> None:
    (near / "sub").mkdir()
    (near / "sub" / "x").write_text("x")
    with (
        tempfile.TemporaryDirectory() as target,
        SSHClient(replace(config, user=other_users[0], work_dir=None)) as client,
    ):
        Path(target).chmod(0o777)
        (Path(target) / "theirs").mkdir()

        done = only(sync(near, target, [client]))
        (near / "theirs").mkdir()
        os.utime(near / "theirs", (1, 1))
        refused = only(sync(near, target, [client]))

        assert (done.success, done.names) == (True, ("sub/x",)), done.error
        assert stat.S_IMODE(Path(target).stat().st_mode) == 0o777
        assert not refused.success

        there = Path(target).stat()
        with LocalTree(Path(target), make=True) as tree:  # the same on this machine
            tree.make_folder("own")
            os.seteuid(65534)
            try:
                tree.finish_folder("", 0o700, 1)
                with pytest.raises(PermissionError):
                    tree.finish_folder("own", 0o700, 1)
            finally:
                os.seteuid(0)
        assert Path(target).stat().st_mode == there.st_mode


def test_pull_leaves_a_folder_of_another_user_that_holds_excluded_names(
    other_users: tuple[str, str],
) -> None:
    with tempfile.TemporaryDirectory() as target, LocalTree(Path(target), make=True) as tree:
        Path(target).chmod(0o777)
        tree.make_folder("theirs")
        (Path(target) / "theirs" / "run.log").touch()
        (Path(target) / "theirs").chmod(0o555)
        os.seteuid(65534)
        try:
            with Staging(tree, None, Filter(Rules(delete=True, exclude=("*.log",)))) as staging:
                deleted = staging.delete(set())
        finally:
            os.seteuid(0)

        assert (staging.errors, deleted) == ([], [])


def test_read_only_folders_of_the_target_are_updated(
    config: SSHConfig, mover: str, near: Path, other_users: tuple[str, str]
) -> None:
    (near / "shut" / "gone").mkdir(parents=True)
    (near / "shut" / "gone" / "x").write_text("x")
    for folder in (near / "shut" / "gone", near / "shut", near):
        folder.chmod(0o555)
    with (
        tempfile.TemporaryDirectory() as above,
        SSHClient(replace(config, user=other_users[0], work_dir=None)) as client,
    ):
        Path(above).chmod(0o777)
        target = Path(above) / "target"
        first = only(sync(near, str(target), [client]))
        shutil.rmtree(near / "shut" / "gone")
        (near / "shut" / "new").write_text("new")

        again = only(sync(near, str(target), [client], Options(delete=True)))

        assert (first.error, again.error) == (None, None)
        assert contents(target).keys() == {"shut", "shut/new"}
        assert {stat.S_IMODE(path.stat().st_mode) for path in (target, target / "shut")} == {0o555}


def test_pull_keeps_the_set_group_id_bit_of_folders_that_the_host_does_not_send(
    client: SSHClient, mover: str, near: Path, far: Path
) -> None:
    (far / "x").write_text("x")
    (near / "shut").mkdir()
    for name in ("gone", "kept.log"):
        (near / "shut" / name).touch()
    (near / "shut").chmod(0o2555)
    near.chmod(0o2775)

    some = only(get("*", near, [client]))
    top = near.stat().st_mode
    rules = Options(delete=True, exclude=("*.log",))
    every = only(sync(".", near, [client], rules, pull=True))

    assert (some.error, every.error) == (None, None)
    assert contents(near).keys() == {"x", "shut", "shut/kept.log"}
    assert stat.S_IMODE(top) == 0o2775
    assert stat.S_IMODE((near / "shut").stat().st_mode) == 0o2555


def test_folder_that_takes_no_file_is_named(client: SSHClient, near: Path) -> None:
    (near / "x").write_text("x")

    file = only(put(near / "x", "/proc/", [client]))
    folder = only(put(near, "/proc/", [client]))

    assert "box: cannot write to /proc: " in str(file.error)
    assert f"'/proc/{near.name}'" in str(folder.error)
    assert "unexpectedly closed" not in str(folder.error)


@pytest.mark.parametrize(
    ("name", "advice"), [("x", "with / at its end it is made: '"), ("y", "make it: mkdir -p ")]
)
def test_failed_get_advises_on_a_missing_local_directory(
    client: SSHClient, near: Path, far: Path, name: str, advice: str
) -> None:
    (far / "x").write_text("x")

    result = only(get("x", f"{near}/no/{name}", [client]))

    assert f"{near}/no (here): no such folder; {advice}{near}/no" in str(result.error)
    assert not contents(near)


@pytest.mark.matrix(2)
def test_source_that_has_gone_meanwhile_is_an_error_of_the_host(
    client: SSHClient, mover: str, near: Path
) -> None:
    push = one_host.push(near / "gone", "x")

    result = only(transfer([client], push, Options(), None, None))

    assert (result.returncode, "gone" in str(result.error)) == (1, True)


@pytest.mark.parametrize("way", ["put", "sync"])
def test_a_folder_does_not_replace_a_file(
    client: SSHClient, mover: str, near: Path, far: Path, way: str
) -> None:
    (near / "x").write_text("x")
    (far / "file").write_text("old")

    result = only((put if way == "put" else sync)(near, "file", [client]))

    assert "is a file where a folder is needed" in str(result.error)
    assert (far / "file").read_text() == "old"


@pytest.mark.parametrize(("source", "pulls"), [("no/such", False), ("no/such", True)])
def test_missing_source_is_reported(
    client: SSHClient, near: Path, source: str, pulls: bool
) -> None:
    with pytest.raises(UsageError, match=f"^{source}: no such folder"):
        sync(source, "x", [client])
    way = (
        (lambda: sync(source, near, [client], pull=True))
        if pulls
        else (lambda: get(source, near, [client]))
    )

    assert "no such" in str(only(way()).error)


@pytest.mark.skipif(not IS_ROOT, reason="mounts a small file system")
@pytest.mark.parametrize("way", ["file", "folder"])
def test_full_disk_is_reported_and_no_file_has_the_final_name(
    client: SSHClient, near: Path, far: Path, way: str
) -> None:
    (near / "large").write_bytes(os.urandom(1_500_000))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", far], check=True)
    try:
        result = only(put(near / "large" if way == "file" else near, "x", [client]))
        left = [path for path in far.rglob("*") if path.name == "large" or path == far / "x"]
        left = [path for path in left if path.is_file() and path.parent.name[0] != "."]
    finally:
        subprocess.run(["umount", "-l", far], check=True)

    assert result.returncode == 1
    assert "space" in str(result.error)
    assert left == []


@pytest.mark.skipif(not IS_ROOT, reason="mounts a small file system")
@pytest.mark.parametrize("way", ["put", "get"])
def test_no_space_for_a_file_is_told_with_the_side_the_folder_and_what_is_missing(
    client: SSHClient, near: Path, far: Path, way: str
) -> None:
    source, target = (near, far) if way == "put" else (far, near)
    (source / "large").write_bytes(bytes(3 * 1024**2))
    full = target / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", full], check=True)
    try:
        if way == "put":
            result = only(put(near / "large", "full/", [client]))
        else:
            result = only(get("large", full, [client]))
    finally:
        subprocess.run(["umount", "-l", full], check=True)

    side = "on the host" if way == "put" else "here"
    assert f"full ({side}): no space: 3.0 MiB are needed, and " in str(result.error)
    assert "; 2.0 MiB are missing" in str(result.error)


@pytest.mark.parametrize("pulls", [False, True])
@pytest.mark.matrix(3)
def test_sync_keeps_holes_and_hard_links_if_asked(
    client: SSHClient, mover: str, near: Path, far: Path, pulls: bool
) -> None:
    source, target = (far, near) if pulls else (near, far)
    (source / "s").mkdir()
    with (source / "s" / "image").open("wb") as image:
        image.truncate(8 * 1024**2)
        image.write(b"x")
    (source / "s" / "other name").hardlink_to(source / "s" / "image")

    def copy(options: Options) -> HostTransfer:
        if pulls:
            return only(sync("s", near / "t", [client], options, pull=True))
        return only(sync(near / "s", "t", [client], options))

    if pulls:
        with pytest.raises(UsageError, match="hard_links: is for what is sent"):
            copy(Options(hard_links=True))
    result = copy(Options(sparse=True, hard_links=not pulls))

    if mover == "SFTP":
        assert "need rsync on both sides, and this machine has none" in str(result.error)
        return
    assert result.success, result.error
    image, other = target / "t" / "image", target / "t" / "other name"
    assert image.read_bytes() == (source / "s" / "image").read_bytes()
    assert image.stat().st_blocks * 512 < 1024**2
    assert image.samefile(other) is not pulls


@pytest.mark.skipif(not IS_ROOT, reason="mounts a small file system")
@pytest.mark.parametrize("way", ["sync", "put", "pull", "get", "get a pattern"])
@pytest.mark.matrix(7)
def test_no_space_for_a_folder_is_told_with_the_side_the_file_and_the_sizes(
    client: SSHClient, mover: str, near: Path, far: Path, way: str
) -> None:
    pulls = way in ("pull", "get", "get a pattern")
    source, target = (far, near) if pulls else (near, far)
    (source / "s" / "sub").mkdir(parents=True)
    (source / "s" / "sub" / "large 1").write_bytes(os.urandom(3 * 1024**2))
    full = target / "full"
    full.mkdir()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=1m", "none", full], check=True)
    copy = {
        "sync": lambda: sync(near / "s", "full/s", [client]),
        "put": lambda: put(near / "s", "full/s", [client]),
        "pull": lambda: sync("s", near / "full/s", [client], pull=True),
        "get": lambda: get("s", near / "full/s", [client]),
        "get a pattern": lambda: get("s/*", near / "full/s/", [client]),
    }[way]
    try:
        result = only(copy())
    finally:
        subprocess.run(["/bin/umount", "-l", full], check=True)

    side = "here" if pulls else "on the host"
    assert f"{full}/s/sub/large 1 ({side}): no space: 3.0 MiB are needed, and " in str(result.error)
    assert " are free; " in str(result.error)
    assert " MiB are missing: look with 'df -h' there" in str(result.error)


@pytest.mark.skipif(not IS_ROOT, reason="mounts a small file system")
@pytest.mark.parametrize("pulls", [False, True])
def test_no_space_for_folders_and_links_is_told_without_rsync(
    client: SSHClient,
    tmp_path: Path,
    near: Path,
    far: Path,
    pulls: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = (far, near) if pulls else (near, far)
    for n in range(40):
        (source / "s" / f"folder{n}").mkdir(parents=True)
    full = target / "full"
    full.mkdir()
    options = "size=64k,nr_inodes=12"
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", options, "none", full], check=True)
    (full / "filler").write_bytes(bytes(64 * 1024))
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "ssh").symlink_to(str(shutil.which("ssh")))
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    try:
        if pulls:
            result = only(sync("s", full / "s", [client], pull=True))
        else:
            result = only(sync(near / "s", "full/s", [client]))
    finally:
        subprocess.run(["/bin/umount", "-l", full], check=True)

    side = "here" if pulls else "on the host"
    assert f" ({side}): no space: " in str(result.error)


@pytest.mark.parametrize("way", ["sync", "put", "pull", "get"])
@pytest.mark.matrix(5)
def test_a_link_that_a_folder_replaces_is_reported_before_and_after(
    client: SSHClient, mover: str, near: Path, far: Path, way: str
) -> None:
    here, there = (near, far) if way in ("sync", "put") else (far, near)
    for top in (here / "s", there / "s"):
        (top / "a b").mkdir(parents=True)
        (top / "latest").symlink_to("a b")  # on both sides: stays
    for name in ("data", "a b/new\nline", "gone", "linked"):
        (here / "s" / name).mkdir()
        (here / "s" / name / "file").write_text("new")
    (there / "volume").mkdir()
    links = {"data": "../volume", "a b/new\nline": "../../volume", "gone": "nothing"}
    for name, text in links.items():
        (there / "s" / name).symlink_to(text)

    def copy(options: Options) -> HostTransfer:
        if way == "put":
            return only(put(near / "s", ".", [client], options))
        if way == "get":
            return only(get("s", near, [client], options))
        source, target = ("s", near / "s") if way == "pull" else (near / "s", "s")
        return only(sync(source, target, [client], options, pull=way == "pull"))

    before = copy(Options(dry_run=True))
    were_links = [(there / "s" / name).is_symlink() for name in links]
    after = copy(Options())
    again = copy(Options())

    assert (before.error, after.error) == (None, None)
    assert (before.replaced, after.replaced, again.replaced) == (links, links, {})
    assert all(were_links)
    assert not any((there / "s" / name).is_symlink() for name in links)
    assert (there / "s" / "latest").is_symlink()
    assert list((there / "volume").iterdir()) == []


def test_file_changed_during_transfer_is_reported(
    sshd: Sshd, client_key: Path, near: Path, far: Path
) -> None:
    (near / "log").write_bytes(os.urandom(20_000_000))
    with Wire(sshd.address, sshd.port) as wire:
        config = SSHConfig("127.0.0.1", wire.port, sshd.user, str(client_key), work_dir=str(far))
        grown = threading.Event()

        def grow() -> None:
            while not leftovers(far):
                pass
            with (near / "log").open("ab") as log:
                log.write(b"more")
            grown.set()

        threading.Thread(target=grow, daemon=True).start()
        with SSHClient(config) as client:
            result = only(put(near / "log", "log", [client]))

    assert grown.is_set()
    assert result.returncode == 1
    assert "changed while it was being sent" in str(result.error)
    assert not (far / "log").exists()
    assert leftovers(far) == []


@pytest.mark.parametrize("step", ["sha256sum", "openssl", "chmod", "touch", "mv"])
@pytest.mark.parametrize("has_openssl", [True, False])
@pytest.mark.matrix(4)
def test_put_succeeds_if_its_earlier_finishing_step_completes_meanwhile(
    make_sshd: Callable[..., Sshd],
    client_key: Path,
    near: Path,
    tmp_path: Path,
    step: str,
    has_openssl: bool,
) -> None:
    programs, part = tmp_path / "bin", "~/.ringtasks-*/part"
    programs.mkdir()
    names = {"sh", "cat", "dd", "df", "ls", "mkdir", "rmdir", "rm", "tail", "wc", "sha256sum"}
    names |= {"chmod", "touch", "mv"}
    names |= {"openssl"} if has_openssl else set()
    for name in names:
        real = shutil.which(name)
        assert real is not None
        before = f"[ ! -f {part} ] || {shutil.which('mv')} {part} ~/f\n" if name == step else ""
        (programs / name).write_text(f'#!/bin/sh\n{before}exec {real} "$@"\n')
        (programs / name).chmod(0o755)
    server = make_sshd(environ={"PATH": str(programs)})
    (near / "f").write_text("content")
    with SSHClient(SSHConfig(server.address, server.port, server.user, str(client_key))) as client:
        result = only(put(near / "f", "~/f", [client]))

    assert result.success, result.error
    assert (server.home / "f").read_text() == "content"
    assert leftovers(server.home) == []


@pytest.mark.matrix(2)
@pytest.mark.parametrize("way", ["put", "get", "sync"])
def test_transfer_completes_over_repeated_disconnects(
    sshd: Sshd, client_key: Path, near: Path, far: Path, use_control_master: bool, way: str
) -> None:
    size, cuts = 24_000_000, 4
    source, target = (far, near) if way == "get" else (near, far)
    (source / "tree").mkdir()
    (source / "tree" / "large").write_bytes(os.urandom(size))
    with Wire(sshd.address, sshd.port) as wire:
        config = SSHConfig(
            "127.0.0.1",
            wire.port,
            sshd.user,
            str(client_key),
            work_dir=str(far),
            use_control_master=use_control_master,
        )
        done = threading.Event()

        def cut() -> None:
            for number in range(1, cuts + 1):
                while passed() < number * size // (cuts + 1) and not done.wait(0.001):
                    pass
                wire.cut()

        def passed() -> int:
            if way != "get":
                return wire.bytes_from_client
            return sum(path.stat().st_size for path in leftovers(near))

        cutting = threading.Thread(target=cut)
        cutting.start()
        with SSHClient(config) as client:
            if way == "put":
                result = only(put(near / "tree" / "large", "large", [client]))
            elif way == "get":
                result = only(get("tree/large", near / "large", [client]))
            else:
                result = only(sync(near / "tree", ".", [client]))
        done.set()
        cutting.join()

    assert result.error is None
    assert result.resumed == cuts
    assert digest(target / "large") == digest(source / "tree" / "large")
    assert leftovers(near, far) == []


@pytest.mark.parametrize("way", ["put", "get"])
def test_check_of_a_copied_tree_is_repeated_after_a_lost_link(
    make_sshd: Callable[..., Sshd],
    client_key: Path,
    near: Path,
    far: Path,
    tmp_path: Path,
    use_control_master: bool,
    way: str,
) -> None:
    asked, cut, real = tmp_path / "asked", tmp_path / "cut", shutil.which("openssl")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/openssl").write_text(
        f"#!/bin/sh\nmkdir {asked} 2>/dev/null && until [ -e {cut} ]; do sleep 0.01; done\n"
        f'exec {real} "$@"\n'
    )
    (tmp_path / "bin/openssl").chmod(0o755)
    server = make_sshd(environ={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"})
    source, target = (near, far) if way == "put" else (far, near)
    (source / "tree").mkdir()
    (source / "tree" / "f").write_text("content")
    with Wire(server.address, server.port) as wire, ThreadPoolExecutor(1) as threads:
        config = SSHConfig("127.0.0.1", wire.port, server.user, str(client_key))
        config.use_control_master = use_control_master
        with SSHClient(config) as client:
            if way == "put":
                done = threads.submit(put, source / "tree", str(target / "new"), [client])
            else:
                done = threads.submit(get, str(source / "tree"), target / "new", [client])
            eventually(lambda: asked.exists() or done.done())
            wire.cut()
            cut.touch()
            result = only(done.result())

    assert (result.error, result.checked) == (None, 1)
    assert (target / "new" / "f").read_text() == "content"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_interrupted_transfer_is_resumed_by_the_next_call(
    sshd: Sshd, client_key: Path, near: Path, far: Path
) -> None:
    (near / "large").write_bytes(os.urandom(20_000_000))
    with Wire(sshd.address, sshd.port) as wire:
        config = SSHConfig("127.0.0.1", wire.port, sshd.user, str(client_key), work_dir=str(far))
        with SSHClient(config) as client:
            client.run("true")
            wire.cut_after(15_000_000)
            threading.Timer(0, wire.block).start()  # it is let in once only
            broken = only(put(near / "large", "large", [client], Options(timeout=6)))
    with SSHClient(SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key))) as client:
        whole = only(put(near / "large", f"{far}/large", [client]))

    assert (broken.returncode, whole.returncode) == (124, 0)
    assert whole.sent_bytes < 15_000_000
    assert digest(far / "large") == digest(near / "large")


@pytest.fixture
def break_off(
    sshd: Sshd, client_key: Path, near: Path, far: Path
) -> Callable[[Callable[..., object], str], Path]:
    """Makes a ``get`` or a ``put`` of the file ``x`` end early; the part that it leaves."""

    def start(move: Callable[..., object], way: str) -> Path:
        source, target = (far, near) if way == "get" else (near, far)
        (source / "x").write_bytes(os.urandom(20_000_000))
        with Wire(sshd.address, sshd.port) as wire:
            config = SSHConfig(
                "127.0.0.1",
                wire.port,
                sshd.user,
                str(client_key),
                work_dir=str(far),
                use_control_master=False,
            )
            with SSHClient(config) as client:
                client.run("true")
                ended = threading.Event()

                def cut() -> None:
                    while not any(part.stat().st_size for part in parts(target)):
                        if ended.wait(0.001):
                            return
                    wire.block()
                    wire.cut()

                cutting = threading.Thread(target=cut)
                cutting.start()
                arguments = ("x", f"{near}/x") if way == "get" else (near / "x", "x")
                try:
                    while cutting.is_alive():  # on a busy machine, 2 s may pass before any byte
                        assert not only(move(*arguments, [client], Options(timeout=2))).success
                finally:
                    ended.set()
                    cutting.join()
        (part,) = parts(target)
        return part

    return start


@pytest.mark.matrix(1)
def test_ctrl_c_ends_the_computation_of_a_sum_on_the_host(
    config: SSHConfig, near: Path, far: Path, tmp_path: Path
) -> None:
    begun, programs, shell = tmp_path / "begun", tmp_path / "programs", tmp_path / "shell"
    programs.mkdir()
    (programs / "openssl").write_text(f"#!/bin/sh\n: > {begun}\nexec sleep 30\n")
    shell.write_text(f'#!/bin/sh\nPATH={programs}:$PATH exec /bin/sh "$@"\n')
    for path in (programs / "openssl", shell):
        path.chmod(0o755)
    (near / "x").write_text("x")

    def interrupt() -> None:
        eventually(begun.exists)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        put(near / "x", "x", [replace(config, shell=str(shell))])

    assert time.monotonic() - started < 20
    assert names(far) == [part.parent.name for part in parts(far)]


def stamp(path: Path) -> tuple[int, ...]:
    """Whatever changes with a file, but for the time at which it was read."""
    status = path.lstat()
    return status.st_mode, status.st_size, status.st_nlink, status.st_mtime_ns, status.st_ctime_ns


def parts(folder: Path) -> list[Path]:
    """The parts of files in a folder, or in folders of their own in it."""
    found = [path for path in folder.rglob("*") if ".ringtasks-" in str(path.relative_to(folder))]
    return [path for path in found if path.is_file()]


@pytest.mark.matrix(2)
@pytest.mark.parametrize(("move", "way"), [(put, "put"), (get, "get")], ids=["put", "get"])
def test_damaged_part_is_detected_by_checksum_and_sent_again(
    client: SSHClient,
    near: Path,
    far: Path,
    break_off: Callable[..., Path],
    move: Callable[..., object],
    way: str,
) -> None:
    part = break_off(move, way)
    with part.open("r+b") as file:
        file.write(b"damaged")

    arguments = ("x", f"{near}/x") if way == "get" else (near / "x", "x")
    result = only(move(*arguments, [client]))

    assert result.success, result.error
    assert digest(far / "x") == digest(near / "x")
    assert leftovers(near, far) == []


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder", "linked folder"])
@pytest.mark.parametrize(("move", "way"), [(put, "put"), (get, "get")], ids=["put", "get"])
@pytest.mark.matrix(3)
def test_file_of_another_user_in_place_of_a_part_is_not_written_to(
    client: SSHClient,
    near: Path,
    far: Path,
    tmp_path: Path,
    break_off: Callable[..., Path],
    move: Callable[..., object],
    way: str,
    kind: str,
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "part").write_text("mine")
    part = break_off(move, way)
    place = part
    part.unlink()
    if kind == "linked folder":
        if way == "put":
            part.parent.rmdir()
            place = part.parent
        place.symlink_to(mine)
    elif kind == "link":
        place.symlink_to(mine / "part")
    elif kind == "hard link":
        place.hardlink_to(mine / "part")
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
    if way == "put" and place is part:
        part.parent.chmod(0o777)  # else another user could not have been there
    before = [stamp(path) for path in (mine, mine / "part")]

    arguments = ("x", f"{near}/x") if way == "get" else (near / "x", "x")
    result = only(move(*arguments, [client], Options(timeout=60)))

    assert result.success, result.error
    assert digest(far / "x") == digest(near / "x")
    assert (mine / "part").read_text() == "mine"
    assert [stamp(path) for path in (mine, mine / "part")] == before


def test_timeout_ends_a_transfer(
    sshd: Sshd, client_key: Path, near: Path, far: Path, use_control_master: bool
) -> None:
    (near / "large").write_bytes(os.urandom(20_000_000))
    with Wire(sshd.address, sshd.port, delay=0.1) as wire:
        config = SSHConfig(
            "127.0.0.1",
            wire.port,
            sshd.user,
            str(client_key),
            work_dir=str(far),
            use_control_master=use_control_master,
        )
        with SSHClient(config) as client:
            client.run("true")
            result = only(put(near / "large", "x", [client], Options(timeout=2.0)))

    assert result.returncode == 124
    assert "time limit of 2 s passed" in str(result.error)
    assert not (far / "x").exists()


@pytest.mark.parametrize("tool", ["df", "ls"])
def test_timeout_ends_a_transfer_from_a_host_whose_tools_hang(
    make_sshd: MakeSshd, client_key: Path, near: Path, tmp_path: Path, tool: str
) -> None:
    (tmp_path / tool).write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / tool).chmod(0o755)
    server = make_sshd(environ={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    config = SSHConfig(server.address, server.port, server.user, str(client_key), name="box")
    (near / "new").write_text("content")
    began = time.monotonic()

    with SSHClient(config) as client:
        if tool == "df":
            result = only(put(near / "new", "x", [client], Options(timeout=0.5)))
        else:
            result = only(get("nothing", tmp_path / "x", [client], Options(timeout=0.5)))

    assert (result.returncode, str(result.error)) == (124, "box: the time limit of 0.5 s passed")
    assert time.monotonic() - began < 15


def test_path_behind_a_folder_without_permission_is_not_reported_as_missing(
    config: SSHConfig, far: Path, near: Path, tmp_path: Path
) -> None:
    (far / "closed" / "in").mkdir(parents=True)
    (far / "closed" / "in" / "file").touch()
    (far / "closed").chmod(0o600)
    (near / "file").touch()
    shell = tmp_path / "shell"
    as_user = "setpriv --bounding-set=-dac_override,-dac_read_search"
    shell.write_text(f'#!/bin/sh\nexec {as_user} sh "$@"\n')
    shell.chmod(0o755)
    box = [replace(config, shell=str(shell))]

    results = [
        *(get(f"closed/{name}", near / "x", box) for name in ("in/file", "in", "*")),
        put(near / "file", "closed/in/file", box),
        sync("closed/in", near / "x", box, pull=True),
    ]

    errors = [only(result).error for result in results]
    assert all("permission denied on the host" in (error or "") for error in errors), errors
    assert "no such file" in (only(get("none/f", near / "x", box)).error or "")


def test_get_from_several_hosts_writes_a_directory_per_host(
    sshd: Sshd, client_key: Path, near: Path, tmp_path: Path
) -> None:
    clients = []
    for number in (1, 2, 3):
        folder = tmp_path / f"host{number}"
        folder.mkdir()
        clients.append(
            SSHClient(
                SSHConfig(
                    f"127.0.0.{number}",
                    sshd.port,
                    sshd.user,
                    str(client_key),
                    name=f"h{number}",
                    work_dir=str(folder),
                )
            )
        )
    (near / "x").write_text("x")
    ended: list[str] = []

    sent = put(near / "x", "x", clients, on_ended=lambda host: ended.append(host.host))
    got = get("x", near / "back", clients)

    assert [host.host for host in sent] == ["h1", "h2", "h3"] == sorted(ended)
    assert sent
    assert got
    assert sorted(str(path.relative_to(near / "back")) for path in near.rglob("back/*/x")) == [
        "h1/x",
        "h2/x",
        "h3/x",
    ]
    for client in clients:
        client.close_link()


def test_unreachable_host_is_reported_and_the_others_continue(
    sshd: Sshd, client_key: Path, near: Path, far: Path
) -> None:
    (near / "x").write_text("x")
    good = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key), work_dir=str(far))
    bad = SSHConfig("127.0.0.1", 1, sshd.user, str(client_key), name="gone")

    result = put(near / "x", "x", [bad, good])

    assert [host.returncode for host in result] == [255, 0]
    assert "refused" in str(result.results[0].error)


@pytest.mark.parametrize(
    ("pattern", "path", "is_folder", "matches"),
    [
        ("*.log", "a/b.log", False, True),
        ("*.log", "a.log/b", False, False),
        ("/a", "b/a", False, False),
        ("a/b", "x/a/b", False, True),
        ("a/b", "xa/b", False, False),
        ("a*b", "a/b", False, False),
        ("a**b", "a/x/b", False, True),
        ("build/", "build", False, False),
        ("build/", "x/build", True, True),
        ("[ab].t", "b.t", False, True),
        ("[!ab].t", "b.t", False, False),
        ("x[!a]y", "x/y", False, False),
        ("x[!a]*", "xb", False, True),
        ("[[:alpha:]]1", "a1", False, True),
        ("[[:alpha:]]1", "11", False, False),
        ("[]x]y", "]y", False, True),
        ("[!]x]y", "]y", False, False),
        ("[\\]x]y", "]y", False, True),
        ("[z-a]y", "by", False, False),
        ("?", "é", False, False),
        ("data/***", "data", True, True),
        ("data/***", "data/x/y", False, True),
        ("a\\*b*", "a*bc", False, True),
        ("a\\*b*", "axbc", False, False),
        ("a.c", "abc", False, False),
    ],
)
def test_patterns_match_as_in_rsync(
    tmp_path: Path, pattern: str, path: str, is_folder: bool, matches: bool
) -> None:
    source = tmp_path / "source"
    (source / path).parent.mkdir(parents=True)
    (source / path).mkdir() if is_folder else (source / path).touch()

    listed = subprocess.run(
        ["rsync", "-rn", f"--exclude={pattern}", "--out-format=%n", f"{source}/", f"{tmp_path}/to"],
        capture_output=True,
        check=True,
    ).stdout.decode()

    ours = Filter(Rules(exclude=(pattern,))).excludes(path, is_folder=is_folder)
    above = any(
        Filter(Rules(exclude=(pattern,))).excludes(str(parent), is_folder=True)
        for parent in Path(path).parents
        if str(parent) != "."
    )
    assert ours == matches
    assert (ours or above) == (path not in [line.rstrip("/") for line in listed.splitlines()])


@pytest.fixture
def relaying(
    make_sshd: MakeSshd, client_key: Path, tmp_path: Path
) -> Callable[..., list[SSHConfig]]:
    """Hosts that may be told to allow another key: one server, at an address for each."""

    def make(count: int, *, allows: bool = True) -> list[SSHConfig]:
        addresses = [f"127.0.0.{number}" for number in range(1, count + 1)]
        server = make_sshd(addresses=addresses)
        (server.home / ".ssh").mkdir()
        if allows:
            (server.home / ".ssh" / "authorized_keys").symlink_to(server.authorized_keys)
        configs = []
        for address in addresses:
            folder = tmp_path / "hosts' folders" / address
            folder.mkdir(parents=True)
            configs.append(
                SSHConfig(
                    address,
                    server.port,
                    server.user,
                    str(client_key),
                    name=address,
                    work_dir=str(folder),
                )
            )
        return configs

    return make


def test_relayed_file_is_uploaded_once_and_verified_on_every_host(
    relaying: Callable[..., list[SSHConfig]], near: Path
) -> None:
    (near / "it's large").write_bytes(os.urandom(2_000_000))
    configs = relaying(4)
    keys = Path(str(configs[0].key_path))
    dry = put(near / "it's large", "new name", configs, Options(relay=True, dry_run=True))
    assert [host.files for host in dry] == [1] * 4

    result = put(near / "it's large", "new name", configs, Options(relay=True))

    assert [host.error for host in result] == [None] * 4
    assert [host.notes for host in result] == [()] * 4
    assert sum(host.sent_bytes for host in result) == 2_000_000
    assert [host.checked for host in result] == [1] * 4
    for config in configs:
        assert digest(Path(str(config.work_dir)) / "new name") == digest(near / "it's large")
        assert names(Path(str(config.work_dir))) == ["new name"]
    assert keys.exists()


def test_relay_leaves_no_key_on_the_hosts(
    make_sshd: MakeSshd, relaying: Callable[..., list[SSHConfig]], near: Path
) -> None:
    (near / "x").write_bytes(os.urandom(1000))
    configs = relaying(3)
    with SSHClient(configs[0]) as client:
        before = client.run("cat ~/.ssh/authorized_keys").stdout

        assert put(near / "x", "x", configs, Options(relay=True))

        assert client.run("cat ~/.ssh/authorized_keys").stdout == before
        assert client.run("ls -A ~/.ssh").stdout.split() == ["authorized_keys"]


def test_relay_falls_back_to_the_local_host_if_keys_are_not_allowed(
    relaying: Callable[..., list[SSHConfig]], near: Path
) -> None:
    (near / "x").write_bytes(os.urandom(1000))
    configs = relaying(3, allows=False)

    result = put(near / "x", "x", configs, Options(relay=True))

    assert result
    assert sum(host.sent_bytes for host in result) == 3000
    assert sum("so it came from here" in str(host.notes) for host in result) == 2
    for config in configs:
        assert digest(Path(str(config.work_dir)) / "x") == digest(near / "x")


@pytest.mark.parametrize("login_shell", ["zsh", "fish", "tcsh", "ash"])
@pytest.mark.matrix(2)
def test_transfers_work_under_any_login_shell(
    make_sshd: MakeSshd, client_key: Path, near: Path, login_shell: str
) -> None:
    server = make_sshd(login_shell=login_shell)
    make_tree(near / "tree")
    with SSHClient(
        SSHConfig(server.address, server.port, server.user, str(client_key), name="box")
    ) as client:
        there = sync(near / "tree", "it's $HOME!/a\\b", [client])
        back = get("it's $HOME!/a\\b", near / "back", [client])
        one = put(near / "tree" / "run.sh", "!$(x)", [client])

    assert [only(result).error for result in (there, back, one)] == [None] * 3
    assert contents(near / "back") == contents(near / "tree")
    assert (server.home / "!$(x)").read_bytes() == b"#!/bin/sh\n"


def test_host_without_rsync_is_synced_over_sftp(
    sshd: Sshd, client_key: Path, near: Path, far: Path, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("mkdir", "sh"):
        (programs / name).symlink_to(str(shutil.which(name)))
    shell = tmp_path / "shell"
    shell.write_text(f'#!/bin/sh\nPATH={programs} exec /bin/sh "$@"\n')
    shell.chmod(0o755)
    config = SSHConfig(
        sshd.address, sshd.port, sshd.user, str(client_key), work_dir=str(far), shell=str(shell)
    )
    make_tree(near / "tree")

    with SSHClient(config) as client:
        result = only(sync(near / "tree", "copy", [client]))
        unverified = only(sync(near / "tree", "other", [client], Options(verify=True)))

    assert result.error is None
    assert contents(far / "copy") == contents(near / "tree")
    assert "the host has none of openssl, sha256sum, shasum: install one" in str(unverified.error)


def test_rsync_hard_links_files_that_are_equal_in_another_directory(
    client: SSHClient, near: Path, far: Path
) -> None:
    make_tree(near / "tree")
    rsync = Rsync(client)

    assert rsync.push(near / "tree", "re leases/1")
    moved = rsync.push(near / "tree", "re leases/2", Rules(link_dest="../1"))

    assert moved.sent == []
    first, second = (far / "re leases" / number / "-rf" for number in "12")
    assert first.stat().st_ino == second.stat().st_ino


def test_progress_is_reported_in_numbers(
    sshd: Sshd, client_key: Path, near: Path, far: Path, use_control_master: bool
) -> None:
    (near / "large").write_bytes(os.urandom(1_500_000))
    seen: list[tuple[int, int | None]] = []
    with Wire(sshd.address, sshd.port, delay=0.05) as wire:
        config = SSHConfig(
            "127.0.0.1",
            wire.port,
            sshd.user,
            str(client_key),
            work_dir=str(far),
            use_control_master=use_control_master,
        )
        with SSHClient(config) as client:
            put(
                near / "large",
                "x",
                [client],
                on_progress=lambda now: seen.append((now.done_bytes, now.total_bytes)),
            )

    assert seen
    assert all(total == 1_500_000 and done <= total for done, total in seen)
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda near: put(near / "nothing", "x", ["box"]), "no such file"),
        (lambda near: put(near, "", ["box"]), "expected a path"),
        (lambda near: put(near, "x", []), "there is none"),
        (lambda near: sync(near / "x", "x", ["box"]), "x: no such folder"),
        (lambda near: Options(fanout=0), "fanout"),
        (lambda near: Options(timeout=0), "timeout"),
        (lambda near: Options(exclude=("",)), "exclude"),
    ],
)
def test_a_bad_argument_is_refused_before_anything_is_sent(
    near: Path, call: Callable[[Path], object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        call(near)
