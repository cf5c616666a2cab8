"""A hostile host changes nothing on this machine but what is below the target."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ringtasks import SSHClient, SSHConfig
from ringtasks.transfer import Options, get, sync
from tests.support.hostile_sftp import Entry, HostileTree
from tests.support.hostile_shell import Answers, HostileShell
from tests.support.sshd import Sshd
from tests.support.transfers import hide_rsync, only
from tests.support.watched import Watched


class Hostile(NamedTuple):
    """A host whose SFTP server tells of ``tree``, and whose shell sees ``folder``, its work_dir."""

    server: Sshd
    tree: HostileTree
    folder: Path


class Lying(NamedTuple):
    """A host that changes its answers."""

    server: Sshd
    shell: HostileShell


@pytest.fixture(scope="module")
def hostile(client_key: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    top = tmp_path_factory.mktemp("hostile")
    (top / "far" / "s").mkdir(parents=True)
    tree = HostileTree(top / "tree.json", top / "far")
    with Sshd(client_key, sftp=tree.subsystem) as server:
        yield Hostile(server, tree, top / "far")


@pytest.fixture
def tree(hostile: Hostile) -> HostileTree:
    return hostile.tree


@pytest.fixture
def far(hostile: Hostile) -> Path:
    return hostile.folder


@pytest.fixture
def client(
    hostile: Hostile,
    client_key: Path,
    tmp_path: Path,
    use_control_master: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[SSHClient]:
    """A client of the hostile host; there is no rsync here."""
    hide_rsync(tmp_path / "no-rsync", monkeypatch)
    config = SSHConfig(
        hostile.server.address,
        hostile.server.port,
        hostile.server.user,
        str(client_key),
        name="evil",
        work_dir=str(hostile.folder),
        use_control_master=use_control_master,
    )
    with SSHClient(config) as client:
        yield client


def folder(path: str) -> Entry:
    return Entry(path, "folder")


def link(path: str, to: str) -> Entry:
    return Entry(path, "link", to)


TOP = [folder("s")]
EVIL = "evil()"

#: Each tries to have ``tasks.py`` or ``outside/file`` written, or a mode or time changed, by a link
#: of its own making.
ESCAPES = {
    "over a link made in the same run, with a name told twice": [
        folder("s/deep"),
        folder("s/deep/er"),
        link("s/deep/er/l", "../.."),
        link("s/y", "deep/er/l/../.."),
        folder("s/y"),
        Entry("s/y/tasks.py", text=EVIL),
    ],
    "a link and a folder of one name": [
        link("s/y", ".."),
        folder("s/y"),
        Entry("s/y/tasks.py", text=EVIL),
    ],
    "a link and a file of one name": [
        link("s/y", "../tasks.py"),
        Entry("s/y", text=EVIL, mode=0o777),
    ],
    "an absolute link": [link("s/y", "/"), folder("s/y")],
    "a link over a link that comes later": [
        folder("s/a"),
        link("s/a/l", "../z/../.."),
        folder("s/z"),
        link("s/z/x", "../a/l/tasks.py"),
    ],
    "a name with a slash": [Entry("s/x", text=EVIL, listed_as="../tasks.py")],
    "the name of the folder above": [Entry("s/x", "folder", listed_as="..")],
    "a link to itself": [link("s/y", "y"), folder("s/y")],
}


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("way", ["sync", "get", "scp_from"])
@pytest.mark.matrix(4)
def test_a_hostile_tree_changes_nothing_outside_the_target(
    client: SSHClient, tree: HostileTree, far: Path, watched: Watched, name: str, way: str
) -> None:
    for entries in (ESCAPES[name], ESCAPES[name][::-1]):
        tree.tell([*TOP, *entries])

        if way == "sync":
            only(sync("s", watched.target, [client], Options(verify=False), pull=True))
        elif way == "get":
            only(get("s", f"{watched.target}/", [client], Options(verify=False)))
        else:
            client.scp_from(f"{far}/s", watched.target)

        watched.assert_untouched()
        for path in watched.target.rglob("*"):
            if path.is_symlink():
                assert path.resolve().is_relative_to(watched.target.resolve())


@pytest.fixture(scope="module")
def lying(client_key: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lying]:
    top = tmp_path_factory.mktemp("lying")
    shell = HostileShell(top / "answers.json")
    with Sshd(client_key, config=shell.config) as server:
        yield Lying(server, shell)


@pytest.fixture
def shell(
    lying: Lying, client_key: Path, tmp_path: Path, use_control_master: bool
) -> Iterator[tuple[HostileShell, SSHClient, Path]]:
    """A host that changes its answers, a client of it, and its work_dir."""
    folder = tmp_path / "work"
    folder.mkdir()
    lying.shell.answer(Answers())
    config = SSHConfig(
        lying.server.address,
        lying.server.port,
        lying.server.user,
        str(client_key),
        name="evil",
        work_dir=str(folder),
        use_control_master=use_control_master,
    )
    with SSHClient(config) as client:
        yield lying.shell, client, folder


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("out.txt", {"/out.txt": "/tasks.py"}),
        ("out.txt", {"/out.txt": "/../../tasks.py"}),
        ("*.txt", {"/out.txt": "/tasks.py"}),
        ("*.txt", {"/out.txt": "/.txt"}),
        ("*.txt", {"/out.txt": "/x/out.txt"}),
        ("o?t.[a-t]xt", {"/out.txt": "/oxt.zxt"}),
        ("*", {"/out.txt": "/.bashrc"}),
        ("*", {"/out.txt": "/.."}),
        ("*", {"/out.txt": "/"}),
    ],
)
@pytest.mark.matrix(6)
def test_local_file_name_comes_from_the_requested_path(
    shell: tuple[HostileShell, SSHClient, Path], watched: Watched, asked: str, told: dict[str, str]
) -> None:
    hostile, client, folder = shell
    (folder / "out.txt").write_text(EVIL)
    (watched.target / "tasks.py").write_text("mine")
    hostile.answer(Answers(replaced=told))

    only(get(asked, f"{watched.target}/", [client]))

    watched.assert_untouched()
    assert (watched.target / "tasks.py").read_text() == "mine"
    assert {path.name for path in watched.target.iterdir()} <= {"tasks.py", "out.txt"}


@pytest.mark.parametrize(
    "told",
    [
        {"file=5 ": "file=" + "9" * 5000 + " "},
        {"file=5 ": "file=-5 "},
        {" 644 ": " 99999999999 "},
        {"file=5 ": "file=²² "},
        {"hasher=": "hasher=no-such-"},
        {"free=": "free=x 1 2 " + "9" * 5000 + " 3% /"},
        {"file=": "folder="},
        {"file=": "\0\0\0file="},
    ],
)
@pytest.mark.matrix(6)
def test_impossible_answer_is_an_error_of_that_host(
    shell: tuple[HostileShell, SSHClient, Path], watched: Watched, told: dict[str, str]
) -> None:
    hostile, client, folder = shell
    (folder / "out.txt").write_text("12345")
    (folder / "out.txt").chmod(0o644)
    hostile.answer(Answers(replaced=told))

    only(get("out.txt", f"{watched.target}/", [client], Options(timeout=30)))

    watched.assert_untouched()


def test_file_longer_than_its_announced_size_is_abandoned(
    shell: tuple[HostileShell, SSHClient, Path], watched: Watched
) -> None:
    hostile, client, folder = shell
    (folder / "out.txt").write_text("12345")
    hostile.answer(Answers(endless_after="12345"))
    started = time.monotonic()

    got = only(get("out.txt", f"{watched.target}/", [client]))

    assert got.returncode == 1
    assert "more than" in str(got.error)
    assert got.received_bytes < 1024**3
    assert time.monotonic() - started < 20
    assert list(watched.target.iterdir()) == []


@pytest.mark.parametrize("announced", [5, 2**56, 2**64 - 1])
@pytest.mark.parametrize("way", ["sync", "scp_from"])
@pytest.mark.matrix(4)
def test_false_announced_size_uses_little_memory(
    client: SSHClient, tree: HostileTree, far: Path, watched: Watched, way: str, announced: int
) -> None:
    endless = announced == 5
    tree.tell([*TOP, Entry("s/file", text="12345678", announced=announced, endless=endless)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    if way == "sync":
        options = Options(verify=False, timeout=30)
        only(sync("s", watched.target, [client], options, pull=True))
    else:
        client.scp_from(f"{far}/s", watched.target, 30)

    watched.assert_untouched()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB
    assert sum(path.stat().st_size for path in watched.target.rglob("*") if path.is_file()) < 100


@pytest.mark.parametrize("way", ["sync", "scp_from"])
@pytest.mark.parametrize("is_endless", [True, False], ids=["endless", "nested"])
@pytest.mark.matrix(4)
def test_listing_that_would_fill_the_memory_is_stopped(
    client: SSHClient,
    tree: HostileTree,
    far: Path,
    watched: Watched,
    way: str,
    is_endless: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = [Entry(f"s/folder{n}", "folder") for n in range(20)]
    if not is_endless:  # each list is short, but those of the folders above are in memory, too
        entries += [Entry(f"s/folder{n}/{m}") for n in range(20) for m in range(20)]
    tree.tell([Entry("s", "folder", endless=is_endless), *entries])
    entry_weight = 100 + len(f"{far}/s/folder19/19")
    monkeypatch.setattr("ringtasks.ssh.sftp_sides.RemoteSender.most_weight", 30 * entry_weight)

    if way == "sync":
        options = Options(verify=False, timeout=30)
        error = str(only(sync("s", watched.target, [client], options, pull=True)).error)
    else:
        error = str(client.scp_from(f"{far}/s", watched.target, 30).error)

    assert "its list does not end, or is too long for SFTP" in error
    watched.assert_untouched()


@pytest.mark.parametrize("delete", [True, False])
@pytest.mark.matrix(4)
def test_endless_listing_of_the_target_of_a_push_is_stopped(
    client: SSHClient,
    tree: HostileTree,
    watched: Watched,
    delete: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree.tell([Entry("s", "folder", endless=True)])
    weight = "ringtasks.ssh.sftp_sides.RemoteReceiver.most_weight"
    monkeypatch.setattr(weight, 5000, raising=False)

    pushed = only(sync(watched.top / "outside", "s", [client], Options(timeout=5, delete=delete)))

    assert "its list does not end, or is too long for SFTP" in str(pushed.error)


def test_existing_links_in_the_pull_target_are_not_followed(
    client: SSHClient, tree: HostileTree, watched: Watched
) -> None:
    (watched.target / "file").symlink_to("../../outside/file")
    (watched.target / "folder").symlink_to("../../outside")
    (watched.target / "into").symlink_to("../../outside")
    tree.tell(
        [
            *TOP,
            Entry("s/file", text=EVIL, mode=0o777),
            folder("s/folder"),
            Entry("s/folder/file", text=EVIL),
            Entry("s/into", text=EVIL),
        ]
    )

    pulled = only(sync("s", watched.target, [client], Options(verify=False), pull=True))

    assert pulled.success, pulled.error
    watched.assert_untouched()
    assert (watched.target / "file").read_text() == EVIL
    assert not (watched.target / "folder").is_symlink()
    assert (watched.target / "folder" / "file").read_text() == EVIL
    assert (watched.target / "into").is_file()


def test_links_within_the_tree_are_pulled(
    client: SSHClient, tree: HostileTree, watched: Watched
) -> None:
    tree.tell(
        [
            *TOP,
            folder("s/a"),
            Entry("s/a/file", text="good"),
            folder("s/b"),
            link("s/b/up", "../a/file"),
            link("s/latest", "a"),
            link("s/dangling", "not/there"),
        ]
    )

    pulled = only(sync("s", watched.target, [client], Options(verify=False), pull=True))

    assert pulled.success, pulled.error
    assert (watched.target / "b" / "up").read_text() == "good"
    assert (watched.target / "latest").readlink() == Path("a")
    assert (watched.target / "dangling").readlink() == Path("not/there")
