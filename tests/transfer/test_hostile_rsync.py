"""Whatever a host's rsync sends, only what is below the target changes here."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ringtasks import SSHClient, SSHConfig
from ringtasks.common.local_tree import LocalTree
from ringtasks.transfer import Options, get, sync
from ringtasks.transfer.staging import MUNGED, Staging
from tests.support.hostile_rsync import HostileRsync
from tests.support.sshd import Sshd
from tests.support.transfers import only
from tests.support.watched import Watched

EVIL = "evil()"


class Host(NamedTuple):
    """A host with a hostile rsync, a client of it, and its work_dir."""

    rsync: HostileRsync
    client: SSHClient
    folder: Path


@pytest.fixture
def host(
    make_sshd: Callable[..., Sshd], client_key: Path, tmp_path: Path, use_control_master: bool
) -> Iterator[Host]:
    rsync = HostileRsync(tmp_path / "programs")
    server = make_sshd(environ={"PATH": f"{rsync.folder}:{os.environ['PATH']}"})
    folder = tmp_path / "work"
    folder.mkdir()
    config = SSHConfig(
        server.address,
        server.port,
        server.user,
        str(client_key),
        name="evil",
        work_dir=str(folder),
        use_control_master=use_control_master,
    )
    with SSHClient(config) as client:
        yield Host(rsync, client, folder)


def assert_links_stay_inside(top: Path) -> None:
    for path in top.rglob("*"):
        if path.is_symlink():
            assert path.resolve().is_relative_to(top.resolve()), path


def test_valid_tree_is_pulled_and_not_sent_again(host: Host, watched: Watched) -> None:
    source = host.folder / "s"
    (source / "sub" / "empty").mkdir(parents=True)
    (source / "sub" / "file").write_text("x")
    (source / "sub" / "link").symlink_to("file")
    (source / "closed").mkdir()
    (source / "closed" / "file").write_text("y")
    (source / "closed").chmod(0o555)
    os.utime(source / "sub", (1_600_000_000, 1_600_000_000))

    first = only(sync("s", watched.target, [host.client], pull=True))
    again = only(sync("s", watched.target, [host.client], pull=True))

    assert (first.files, again.files) == (2, 0), (first.error, again.error)
    assert (watched.target / "sub" / "link").readlink() == Path("file")
    assert stat.S_IMODE((watched.target / "closed").stat().st_mode) == 0o555
    for name in ("", "sub", "sub/empty", "closed"):
        here, there = (watched.target / name).stat(), (source / name).stat()
        assert int(here.st_mtime) == int(there.st_mtime)  # the old protocol tells no fractions
    assert sorted(path.name for path in watched.target.iterdir()) == ["closed", "sub"]


def test_pull_updates_deletes_and_replaces_files(host: Host, watched: Watched) -> None:
    source, target = host.folder / "s", watched.target
    (source / "sub").mkdir(parents=True)
    (source / "#same").write_text("same")
    (source / "sub" / "two\nlines").write_text("new")
    (source / "large").write_bytes(os.urandom(3_000_000))
    (source / "folder").mkdir()
    (source / "folder" / "file").write_text("mine")  # as outside/file: of one size and time
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    (target / "sub" / "two\nlines").write_text("old!")
    with (target / "large").open("r+b") as file:
        file.write(b"changed")
    os.utime(target / "large", (1_600_000_000, 1_600_000_000))
    shutil.rmtree(target / "folder")
    (target / "folder").symlink_to("../../outside")
    outside = watched.top / "outside" / "file"
    modified = outside.stat().st_mtime_ns
    os.utime(source / "folder" / "file", ns=(modified, modified))
    (target / "gone" / "deep").mkdir(parents=True)
    (target / "gone" / "deep" / "file").write_text("x")
    (target / "kept.log").write_text("x")

    options = Options(delete=True, exclude=("*.log",), verify=True)
    done = only(sync("s", target, [host.client], options, pull=True))

    assert done.success, done.error
    watched.assert_untouched()
    assert not (target / "folder").is_symlink()
    assert (target / "folder" / "file").read_text() == "mine"
    assert (target / "sub" / "two\nlines").read_text() == "new"
    assert (target / "large").read_bytes() == (source / "large").read_bytes()
    assert done.received_bytes < 1_000_000  # of the large one only what differs
    assert sorted(done.deleted) == ["gone/", "gone/deep/", "gone/deep/file"]
    assert sorted(path.name for path in target.iterdir()) == [
        "#same",
        "folder",
        "kept.log",
        "large",
        "sub",
    ]


@pytest.mark.parametrize(
    "replaced",
    [
        {"aa_tasks.py": "../tasks.py"},
        {"aa_tasks.py": "/./tasks.py"},
        {"into-the-folder": "../../outside/f"},
        {"into-the-folder": "/etc/../../../x"},
        {"Link": "Real"},
        {"Real": "Link"},
        {"Real": "..//"},
        {"aa_tasks.py": "Link/tasks."},
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["sync", "get"])
@pytest.mark.matrix(5)
def test_invented_names_and_links_change_nothing_outside_the_target(
    host: Host, watched: Watched, way: str, replaced: dict[str, str]
) -> None:
    source = host.folder / "s"
    (source / "Real").mkdir(parents=True)
    (source / "Real" / "tasks.py").write_text(EVIL)
    (source / "Real" / "file").write_text(EVIL)
    (source / "aa_tasks.py").write_text(EVIL)
    (source / "Link").symlink_to("into-the-folder")
    (watched.target / "user").symlink_to("../../outside")
    host.rsync.replace(replaced)

    if way == "sync":
        options = Options(verify=False, timeout=30)
        only(sync("s", watched.target, [host.client], options, pull=True))
    else:
        only(get("s", f"{watched.target}/", [host.client], Options(verify=False, timeout=30)))

    watched.assert_untouched()
    (watched.target / "user").unlink()
    assert_links_stay_inside(watched.target)


def test_pull_of_a_pattern_accepts_only_the_matched_names(host: Host, watched: Watched) -> None:
    (host.folder / "abcd.txt").write_text(EVIL)
    (host.folder / "zzzz.txt").write_text("good")
    (watched.target / "tasks.py").write_text("mine")
    host.rsync.replace({"abcd.txt": "tasks.py"})

    got = only(get("*.txt", f"{watched.target}/", [host.client], Options(verify=False)))

    assert "'tasks.py' was sent, which was not asked for" in str(got.error)
    assert (watched.target / "tasks.py").read_text() == "mine"
    assert (watched.target / "zzzz.txt").read_text() == "good"


def test_files_left_by_rsync_in_its_staging_directory_stay_in_the_target(watched: Watched) -> None:
    target = watched.target
    (target / "user").symlink_to("../../outside")
    (target / "user-file").symlink_to("../../outside/file")
    with LocalTree(target, make=True) as tree, Staging(tree, None) as staging:
        tops = staging.folder
        (tops / "user").mkdir()
        (tops / "user" / "file").write_text(EVIL)
        (tops / "user-file").write_text(EVIL)
        (tops / "plain-link").symlink_to("../../../../tasks.py")
        (tops / "munged-out").symlink_to(f"{MUNGED}../tasks.py")
        (tops / "munged-absolute").symlink_to(f"{MUNGED}/etc/passwd")
        (tops / "munged-over").symlink_to(f"{MUNGED}sub/up/../../x")
        (tops / "good").symlink_to(f"{MUNGED}sub/set-id")
        os.mkfifo(tops / "pipe")
        (tops / "sub").mkdir()
        (tops / "sub" / "set-id").write_text(EVIL)
        (tops / "sub" / "set-id").chmod(0o6755)
        os.mkfifo(tops / "sub" / "pipe")

        staging.merge(is_whole=True, has_top=True)

    watched.assert_untouched()
    assert {path.name: path.readlink() for path in target.iterdir() if path.is_symlink()} == {
        "good": Path("sub/set-id")
    }
    assert sorted(path.name for path in target.iterdir()) == ["good", "sub", "user", "user-file"]
    assert [path.name for path in (target / "sub").iterdir()] == ["set-id"]
    assert stat.S_IMODE((target / "sub" / "set-id").stat().st_mode) == 0o755


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small file system")
def test_staging_directory_that_cannot_be_used_is_removed(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=2", "none", tmp_path], check=True)
    try:
        with LocalTree(tmp_path, make=False) as tree, pytest.raises(OSError, match="No space"):
            Staging(tree, None)
        left = list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)

    assert left == []


@pytest.mark.parametrize("kind", ["link", "open to others"])
def test_staging_directory_planted_by_another_user_is_not_written_to(
    host: Host, watched: Watched, kind: str
) -> None:
    (host.folder / "s").mkdir()
    (host.folder / "s" / "file").write_text("x")
    planted = watched.target / ".ringtasks-incoming-0123456789abcdef"
    if kind == "link":
        planted.symlink_to("../../outside")
    else:
        planted.mkdir(0o777)
        planted.chmod(0o777)
        (planted / "tree").symlink_to("../../../outside")

    done = only(sync("s", watched.target, [host.client], pull=True))

    assert done.success, done.error
    watched.assert_untouched()
    assert (watched.target / "file").read_text() == "x"
