"""The files of a release: their times, submodules, LFS pointers, shallow clones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.deploys import Fleet
from tests.support.fixtures import fleet_of_one

fleet_size = fleet_of_one

_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n"


@pytest.fixture
def no_rsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take rsync off this machine's PATH."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for folder in os.environ["PATH"].split(":"):
        for program in Path(folder).glob("*"):
            place = tools / program.name
            if program.name != "rsync" and not place.is_symlink():
                place.symlink_to(program)
    monkeypatch.setenv("PATH", str(tools))


@pytest.mark.parametrize("by", ["rsync", pytest.param("SFTP", marks=pytest.mark.long)])
def test_changed_file_gets_a_later_mtime_and_an_equal_file_keeps_its_mtime(
    fleet: Fleet, by: str, request: pytest.FixtureRequest
) -> None:
    if by == "SFTP":
        request.getfixturevalue("no_rsync")
    fleet.commit("v1", same="s")
    _deploy(fleet)
    same = _time(fleet, "same")
    times = [_time(fleet, "one")]

    for version in ("v2", "v3"):
        fleet.commit(version)
        _deploy(fleet)
        times.append(_time(fleet, "one"))
    assert fleet.inv("deploy.rollback").returncode == 0
    times.append(_time(fleet, "one"))
    _deploy(fleet)  # the files that were sent last, once more
    times.append(_time(fleet, "one"))

    assert (fleet.current("web1") / "one").read_text() == "v3"
    assert times == sorted(set(times))
    assert _time(fleet, "same") == same


def test_reverted_release_has_later_mtimes_than_the_failed_one(fleet: Fleet) -> None:
    fleet.configure(check_timeout=1)
    fleet.commit("v1")
    _deploy(fleet)
    fleet.commit("v2", bad_on="web1")

    assert fleet.inv("deploy").returncode == 1

    current = fleet.current("web1")
    assert (current / "one").read_text() == "v1"
    (failed,) = (release for release in fleet.releases("web1") if release != current)
    assert _time(fleet, "one") > int((failed / "one").stat().st_mtime)


def test_submodules_are_released_at_their_recorded_commits(fleet: Fleet, tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    _repository(inner, "deep")
    _repository(outer, "lib")
    _git(outer, "submodule", "add", "--quiet", str(inner), "sub")
    _git(outer, "commit", "--quiet", "--message", "sub")
    _git(fleet.folder, "submodule", "add", "--quiet", str(outer), "vendor/lib")
    _git(fleet.folder, "submodule", "update", "--init", "--recursive", "--quiet")
    fleet.commit("v1")
    (fleet.folder / "vendor" / "lib" / "lib").write_text("not committed")

    _deploy(fleet)

    vendor = fleet.current("web1") / "vendor" / "lib"
    assert ((vendor / "lib").read_text(), (vendor / "sub" / "deep").read_text()) == ("lib", "deep")
    assert not (vendor / ".git").exists()


def test_missing_submodule_commit_is_refused_with_the_command_to_fix_it(
    fleet: Fleet, tmp_path: Path
) -> None:
    _repository(tmp_path / "lib", "lib")
    _git(fleet.folder, "submodule", "add", "--quiet", str(tmp_path / "lib"), "vendor")
    fleet.commit("v1")
    _git(fleet.folder, "submodule", "deinit", "--quiet", "--force", "vendor")
    _git(fleet.folder, "config", "--unset-all", "core.worktree", check=False)
    modules = fleet.folder / ".git" / "modules"
    modules.rename(fleet.folder / ".git" / "gone")

    for task in ("deploy", "deploy.check"):
        done = fleet.inv(task)
        assert done.returncode == 2
        assert "deploy: submodule vendor: its commit " in done.stderr
        assert "git submodule update --init --recursive" in done.stderr
    assert not (fleet.root("web1") / "releases").exists()


def test_git_lfs_pointers_are_reported(fleet: Fleet) -> None:
    fleet.commit("v1", **{"model.bin": _POINTER.format("0" * 64), "small": "x"})

    done = fleet.inv("deploy")

    assert done.returncode == 0
    assert "model.bin: the release has the Git LFS pointer, not the content" in done.stderr
    assert "git lfs pull" in done.stderr


def test_shallow_clone_is_reported_with_the_command_to_fix_it(fleet: Fleet) -> None:
    fleet.commit("v1")
    fleet.commit("v2")
    (fleet.folder / ".git" / "shallow").write_text(_git(fleet.folder, "rev-parse", "HEAD"))

    shallow = fleet.inv("deploy", "--ref", "v1")
    (fleet.folder / ".git" / "shallow").unlink()
    whole = fleet.inv("deploy", "--ref", "v1")

    assert "v1: is not a revision of this repository; this clone is shallow: run" in shallow.stderr
    assert "git fetch --unshallow --tags" in shallow.stderr
    assert "is on the server, run 'git fetch --tags'" in whole.stderr
    assert (shallow.returncode, whole.returncode) == (2, 2)


def _deploy(fleet: Fleet) -> None:
    done = fleet.inv("deploy")
    assert done.returncode == 0, done.stderr


def _time(fleet: Fleet, name: str) -> int:
    """Return the time of a file of the current release, in seconds as HTTP has them."""
    return int((fleet.current("web1") / name).stat().st_mtime)


def _repository(folder: Path, name: str) -> None:
    folder.mkdir()
    _git(folder, "init", "--quiet", ".")
    (folder / name).write_text(name)
    _git(folder, "add", ".")
    _git(folder, "commit", "--quiet", "--message", name)


def _git(folder: Path, *arguments: str, check: bool = True) -> str:
    own = ("user.name=tests", "user.email=tests@example.com", "protocol.file.allow=always")
    options = [word for setting in own for word in ("-c", setting)]
    done = subprocess.run(
        ["git", *options, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()
