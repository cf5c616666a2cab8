"""Random trees arrive as rsync itself would copy them, both ways, with rsync and without."""

from __future__ import annotations

import math
import os
import random
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringtasks import SSHClient
from ringtasks.common.local_tree import leads_out
from ringtasks.transfer import HostTransfer, Options, sync

IS_ROOT = os.getuid() == 0
RSYNC = shutil.which("rsync")

_NAMES = [
    "a", "b", "c", "d", "sub", "-rf", "~", "a b", " ", "two\nlines", "\\#012", "$HOME", "*", "[a]",
    "x'y", 'q"', "é", "\udcff", "\udc80\udcfe", ".hidden", "%s", "a:b", "host:x", "\t", "\x1b[2J",
    "#", "!", "+ a", "- b", "a.part", "..a", "...",
]  # fmt: skip
_FILE_MODES = [0o644, 0o600, 0o755, 0o640, 0o777, 0o444, 0o500, 0o4755, 0o2755, 0o1644]
_FOLDER_MODES = [0o755, 0o700, 0o750, 0o775, 0o555, 0o1777, 0o2775]
_CLOCK_STEP = 0.01  # seconds; the times of files lag behind the clock by up to that
#: Modes of which only root's own files are read and written.
_ROOTS_MODES = [0o000, 0o070, 0o111]
_TIMES = [0, 1, 1_000_000_000, 1_600_000_000, 1_700_000_000, 2**31 + 5]
_TEXTS = [
    "a",
    "sub/a",
    "../a",
    "../../b",
    "/etc/x",
    "../../../../x",
    ".",
    "..",
    "nothing",
    "é",
]


class Trees:
    """Makes random trees; the content, mode and time of a name repeat often."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._names = self._chance.sample(_NAMES, 7)
        more = _ROOTS_MODES if IS_ROOT else []
        self._file_modes, self._folder_modes = _FILE_MODES + more, _FOLDER_MODES + more

    def make(self, folder: Path, depth: int = 0) -> None:
        folder.mkdir()
        for name in self._names:
            kind = self._chance.choice(("file", "file", "folder", "link", "fifo", "", ""))
            path = folder / name
            if kind == "folder" and depth < 3:
                self.make(path, depth + 1)
            elif kind == "link":
                path.symlink_to(self._chance.choice(_TEXTS))
            elif kind == "fifo" and self._chance.random() < 0.2:
                os.mkfifo(path)
            elif kind == "file":
                path.write_bytes(self._chance.choice((b"", b"one", b"four", bytes(70_000))))
                self._finish(path, self._file_modes)
        self._finish(folder, self._folder_modes)

    def _finish(self, path: Path, modes: list[int]) -> None:
        path.chmod(self._chance.choice(modes))
        time = self._chance.choice(_TIMES)
        os.utime(path, (time, time))


def contents(top: Path, *, began: float = math.inf) -> dict[str, Any]:
    """All entries: of files the mode, time and content, of folders the mode and time.

    Times since ``began`` are equal: of folders that a copy changed without giving them a time.
    """
    now = time.time()
    found: dict[str, Any] = {}
    for path in [top, *sorted(top.rglob("*"))]:
        status = path.lstat()
        about: list[object] = [stat.S_IFMT(status.st_mode)]
        if stat.S_ISLNK(status.st_mode):
            about.append(os.readlink(path))  # noqa: PTH115  # as it is written
        elif not stat.S_ISFIFO(status.st_mode):
            is_recent = began <= status.st_mtime <= now
            modified = int(began if is_recent else status.st_mtime)
            about += [oct(stat.S_IMODE(status.st_mode)), modified]
        if stat.S_ISREG(status.st_mode):
            about.append(path.read_bytes())
        found[str(path.relative_to(top))] = about
    return found


@pytest.fixture(params=["rsync", "SFTP"])
def mover(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """Both ways to move folders."""
    way: str = request.param
    if way == "SFTP":
        programs = tmp_path / "no-rsync"
        programs.mkdir()
        (programs / "ssh").symlink_to(str(shutil.which("ssh")))
        monkeypatch.setenv("PATH", str(programs))
    return lambda: None


@pytest.mark.usefixtures("mover")
@pytest.mark.parametrize("pulls", [False, True], ids=["push", "pull"])
@pytest.mark.parametrize(
    "seeds",
    [range(6), pytest.param(range(500), marks=[pytest.mark.long, pytest.mark.timeout(3600)])],
    ids=["few", "500"],
)
@pytest.mark.matrix(2)
def test_random_tree_arrives_as_rsync_copies_it(
    client: SSHClient, tmp_path: Path, seeds: range, pulls: bool, given_seeds: range | None
) -> None:
    assert RSYNC is not None
    for seed in given_seeds or seeds:
        folder = tmp_path / str(seed)
        folder.mkdir()
        _compare(client, folder, seed, pulls=pulls)
        _remove(folder)


def _compare(client: SSHClient, folder: Path, seed: int, *, pulls: bool) -> None:
    chance = random.Random(-seed - 1)
    source, target, expected = folder / "source", folder / "target", folder / "expected"
    Trees(seed).make(source)
    if chance.random() < 0.8:
        is_same = chance.random() < 0.5
        Trees(seed if is_same else seed + 10**6).make(target)
        _touch_up(chance, target, is_same=is_same)
        if pulls:
            _remove_own_links_out(source, target)
        subprocess.run(["/bin/cp", "-a", target, expected], check=True)
    options = Options(
        delete=chance.random() < 0.6,
        checksum=chance.random() < 0.3,
        exclude=("inner", "b", "sub/")[: chance.randrange(4)],
    )
    began = time.time() - _CLOCK_STEP
    done = _rsync(source, expected, options, pulls=pulls)

    def copy(options: Options) -> HostTransfer:
        places = (str(source), target)
        (host,) = (
            sync(*places, [client], options, pull=True)
            if pulls
            else sync(source, str(target), [client], options)
        )
        return host

    before = contents(target) if target.exists() else {}
    dry = copy(replace(options, dry_run=True))
    assert (contents(target) if target.exists() else {}) == before, seed
    real = copy(options)

    if done.returncode != 0:
        assert (dry.success, real.success) == (False, False), (seed, done.stderr)
        return
    assert real.success, (seed, real.error)
    if not IS_ROOT:
        _restore_modes(expected, target)
    assert contents(target, began=began) == contents(expected, began=began), seed
    # A pull by rsync sends the whole file also if only its mode or time differs, and makes folders.
    assert _files(dry) == _files(real), (
        seed,
        _files(dry) - _files(real),
        _files(real) - _files(dry),
    )
    assert set(dry.deleted) == set(real.deleted), (seed, dry.deleted, real.deleted)
    assert dry.replaced == real.replaced, (seed, dry.replaced, real.replaced)
    assert set(real.deleted) == _lost(before, contents(target)), (seed, real.deleted)


def _restore_modes(expected: Path, target: Path) -> None:
    """Take back the right to write that rsync leaves to folders it could not remove."""
    for path in expected.rglob("*"):
        ours = target / path.relative_to(expected)
        if path.is_dir() and not path.is_symlink() and ours.is_dir() and not ours.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & ~stat.S_IWUSR == stat.S_IMODE(ours.stat().st_mode):
                path.chmod(mode & ~stat.S_IWUSR)


def _touch_up(chance: random.Random, top: Path, *, is_same: bool) -> None:
    """Change modes, times and contents of some files; swap some with folders."""
    for path in sorted(top.rglob("*")):
        if not os.path.lexists(path):
            continue  # its folder is a file now
        status = path.lstat()
        if stat.S_IFMT(status.st_mode) in (stat.S_IFREG, stat.S_IFDIR) and chance.random() < 0.05:
            _swap(path, is_empty=chance.random() < 0.3)
        elif stat.S_ISREG(status.st_mode):
            if chance.random() < 0.2:
                path.chmod(stat.S_IMODE(status.st_mode) | stat.S_IWUSR)
                path.write_bytes(bytes(chance.choice((status.st_size, 5))))
                path.chmod(stat.S_IMODE(status.st_mode))
                is_hidden = is_same and not status.st_mode & (stat.S_ISUID | stat.S_ISGID)
                modified = status.st_mtime if is_hidden else 1_650_000_000
                os.utime(path, (modified, modified))
                continue  # rsync does not see it, and a pull sends the whole file for another mode
            if chance.random() < 0.2:
                path.chmod(0o664)
            if chance.random() < 0.2:
                os.utime(path, (1_650_000_000, 1_650_000_000))


def _swap(path: Path, *, is_empty: bool) -> None:
    """Put a file in the place of a folder, or a folder in that of a file."""
    path.parent.chmod(0o755)
    if path.is_dir():
        _remove(path)
        path.write_bytes(b"in a folder's place")
        return
    path.unlink()
    path.mkdir()
    if not is_empty:
        (path / "inner").write_bytes(b"in a file's place")


def _remove_own_links_out(source: Path, target: Path) -> None:
    """Remove links that lead out, through which no link of the host is made."""
    links = [path for path in source.rglob("*") if path.is_symlink()]
    passed = {part for path in links for part in os.readlink(path).split("/")}  # noqa: PTH115
    for path in sorted(target.rglob("*")):
        name = str(path.relative_to(target))
        if path.is_symlink() and leads_out(name, os.readlink(path)):  # noqa: PTH115
            other = source / name
            is_same = other.is_symlink() and os.readlink(other) == os.readlink(path)  # noqa: PTH115
            if not is_same or path.name in passed:
                path.parent.chmod(0o755)
                path.unlink()


def _rsync(
    source: Path, target: Path, options: Options, *, pulls: bool
) -> subprocess.CompletedProcess[bytes]:
    """Copy with rsync alone; from a host without links that lead out, and set-ID bits."""
    flags = ["-rlpt", *(["--safe-links", "--chmod=ug-s"] if pulls else [])]
    flags += ["--delete"] if options.delete else []
    flags += [f"--exclude={name}" for name in options.exclude]
    flags += ["--checksum"] if options.checksum else []
    return subprocess.run(
        [str(RSYNC), *flags, f"{source}/", f"{target}/"], capture_output=True, check=False
    )


def _lost(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """The names that have gone or made way for a folder or a file, but no link for a folder."""
    lost = set()
    for name, (kind, *_) in before.items():
        (new, *_) = after.get(name, [None])
        is_swapped = stat.S_IFDIR in (kind, new) and (kind, new) != (stat.S_IFLNK, stat.S_IFDIR)
        if new is None or (kind != new and is_swapped):
            lost.add(f"{name}/" if kind == stat.S_IFDIR else name)
    return lost


def _remove(folder: Path) -> None:
    subprocess.run(["/bin/chmod", "-R", "u+rwX", folder], check=True)
    shutil.rmtree(folder)


def _files(result: HostTransfer) -> set[str]:
    return {name for name in (*result.names, *result.made) if not name.endswith("/")}
