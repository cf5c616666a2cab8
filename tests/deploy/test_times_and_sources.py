"""The files of a release: their times, submodules, LFS pointers, shallow clones."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from ringtasks.deploy.changes import changes_between
from ringtasks.deploy.source import source_of
from ringtasks.errors import UsageError
from tests.support.deploys import FAILING_RESTART, Fleet
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
    fleet.configure(restart=FAILING_RESTART)
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


@pytest.fixture
def outer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository with a submodule the current folder; its name is not its path."""
    _repository(tmp_path / "lib", "lib")
    folder = tmp_path / "outer"
    _repository(folder, "own")
    add = ("submodule", "add", "--quiet", "--name", "other")
    _git(folder, *add, str(tmp_path / "lib"), "vendor/lib")
    _git(folder, "commit", "--quiet", "--message", "lib")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("is_relative", [True, False])
def test_git_variables_of_the_environment_choose_the_outermost_repository_only(
    outer: Path, monkeypatch: pytest.MonkeyPatch, is_relative: bool
) -> None:
    top = "" if is_relative else f"{outer}/"
    monkeypatch.setenv("GIT_DIR", f"{top}.git")
    monkeypatch.setenv("GIT_WORK_TREE", top or ".")
    for name, value in {"INDEX_FILE": "index", "OBJECT_DIRECTORY": "objects"}.items():
        monkeypatch.setenv(f"GIT_{name}", f"{top}.git/{value}")

    with source_of(None, "HEAD") as source:
        files = {str(path.relative_to(source.folder())) for path in source.folder().rglob("*")}

    assert {"own", "vendor/lib/lib"} <= files


def test_git_dir_of_another_folder_is_named_in_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", ".")

    with pytest.raises(UsageError, match=r"GIT_DIR=\. is set, as git does for hooks: unset it"):
        source_of(None, "HEAD")


def test_head_without_a_commit_is_not_looked_for_on_a_server(outer: Path) -> None:
    _git(outer, "checkout", "--quiet", "--orphan", "empty")
    with pytest.raises(UsageError, match="its current branch has no commit: name a revision"):
        source_of(None, "HEAD")

    _git(outer, "init", "--quiet", "../fresh")
    os.chdir("../fresh")
    with pytest.raises(UsageError, match="it has no commit yet: run 'git commit'"):
        source_of(None, "HEAD")


@pytest.mark.parametrize("is_linked", [False, True])
def test_submodule_that_is_not_checked_out_is_found_by_its_name(
    outer: Path, is_linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_linked:
        _git(outer, "submodule", "deinit", "--quiet", "--force", "vendor/lib")
        (outer / ".git/modules/other").rename(outer / ".git/elsewhere")
        _git(outer, "worktree", "add", "--quiet", "../linked")
        monkeypatch.chdir("../linked")
        _git(Path.cwd(), "submodule", "update", "--init", "--quiet")
    _git(Path.cwd(), "checkout", "--quiet", "--detach")
    _git(Path.cwd(), "rm", "--quiet", "vendor/lib")
    _git(Path.cwd(), "commit", "--quiet", "--message", "without")
    assert not Path("vendor/lib").exists()

    with source_of(None, "HEAD~") as source:
        assert (source.folder() / "vendor/lib/lib").read_text() == "lib"
    (added,) = changes_between(None, _git(Path.cwd(), "rev-parse", "HEAD~")).submodules
    assert (added.error, added.changes.files) == (None, (("added", "lib"),))


def test_submodule_that_the_archive_leaves_out_need_not_be_fetched(
    outer: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    _git(tmp_path, "clone", "--quiet", "--bare", str(outer), str(clone))
    os.chdir(clone)

    with pytest.raises(UsageError, match="a bare repository has no submodules"):
        source_of(None, "HEAD")
    for ignored in ("vendor", "vendor/lib"):
        (outer / ".gitattributes").write_text(f"{ignored} export-ignore\n")
        _git(outer, "add", ".gitattributes")
        _git(outer, "commit", "--quiet", "--message", "attributes")
        _git(clone, "fetch", "--quiet", "origin", "+refs/heads/*:refs/heads/*")
        with source_of(None, "HEAD") as source:
            assert (source.folder() / "own").read_text() == "own"
            assert not (source.folder() / "vendor/lib").exists()


def test_advice_on_a_git_lfs_pointer_in_a_submodule_reaches_the_submodule(outer: Path) -> None:
    (outer / "vendor/lib/lib").write_text(_POINTER.format("0" * 64))
    for folder in (outer / "vendor/lib", outer):
        _git(folder, "commit", "--quiet", "--all", "--message", "second")

    with source_of(None, "HEAD") as source:
        (note,) = source.notes

    assert note.startswith("vendor/lib/lib: the release has the Git LFS pointer, not the content")
    assert "'git submodule foreach --recursive git lfs pull'" in note


def test_repository_that_is_no_submodule_is_refused(outer: Path, tmp_path: Path) -> None:
    _git(outer, "clone", "--quiet", str(tmp_path / "lib"), "nested")
    _git(outer, "add", "nested")
    _git(outer, "commit", "--quiet", "--message", "nested")
    (outer / "nested").rename(tmp_path / "nested")

    with pytest.raises(UsageError, match=r"submodule nested: \.gitmodules does not have it"):
        source_of(None, "HEAD")


def test_changes_within_a_submodule_are_listed(outer: Path) -> None:
    old = _git(outer, "rev-parse", "HEAD")
    (outer / "vendor/lib/lib").write_text("new")
    for folder in (outer / "vendor/lib", outer):
        _git(folder, "commit", "--quiet", "--all", "--message", "second")
    new = _git(outer, "rev-parse", "HEAD")

    (changed,) = changes_between(old, new).submodules
    (added,) = changes_between(None, new).submodules
    (removed,) = changes_between(new, f"{old}~").submodules

    assert (changed.path, changed.changes.files) == ("vendor/lib", (("modified", "lib"),))
    assert [commit.split()[1] for commit in changed.changes.commits] == ["second"]
    assert (added.old, added.changes.files) == (None, (("added", "lib"),))
    assert (removed.new, removed.changes.files) == (None, ())


def test_git_lfs_pointers_are_reported(fleet: Fleet, tmp_path: Path) -> None:
    fleet.commit("v1", **{"model.bin": _POINTER.format("0" * 64), "small": "x"})

    for task in ("deploy.check", "deploy", "deploy"):
        done = fleet.inv(task)
        assert done.returncode == 0
        assert "model.bin: the release has the Git LFS pointer, not the content" in done.stderr
        assert "git lfs pull" in done.stderr
        assert "submodule foreach" not in done.stderr
    (tmp_path / "weights").write_text(_POINTER.format("0" * 64))
    with source_of(str(tmp_path / "weights"), "HEAD") as built:
        assert "weights: the source has the Git LFS pointer" in built.notes[0]


@pytest.mark.parametrize("kind", ["--single-branch", "--depth=1", "--bare", "--origin=up"])
def test_advice_for_a_missing_revision_makes_it_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    server = tmp_path / "server"
    _git(tmp_path, "init", "--quiet", "--initial-branch", "main", str(server))
    for name in ("first", "second"):
        _git(server, "commit", "--quiet", "--allow-empty", "--message", name)
    _git(tmp_path, "clone", "--quiet", kind, server.as_uri(), "clone")
    _git(server, "checkout", "--quiet", "-b", "work/new", "HEAD~")
    new = _git(server, "commit-tree", "-p", "HEAD", "-m", "new", "HEAD^{tree}")
    _git(server, "update-ref", "refs/heads/work/new", new)
    _git(server, "tag", "v7")
    monkeypatch.chdir(tmp_path / "clone")
    with pytest.raises(UsageError) as refused:
        source_of(None, "v7")

    assert ("this clone is shallow" in str(refused.value)) == (kind == "--depth=1")
    for name in ("work/new", "v7", new[:12]):
        assert _by_advice(name) == new


def _by_advice(name: str) -> str:
    """Return the revision of a name, after what the errors advise."""
    for _ in range(2):
        try:
            return source_of(None, name).revision
        except UsageError as error:
            if found := re.search("run '(git fetch .*?)'", str(error)):
                subprocess.run(found[1], shell=True, check=True, capture_output=True)
            elif found := re.search("--ref ([^ ']+)", str(error)):
                name = found[1]
    return source_of(None, name).revision


def test_revision_is_looked_for_on_no_server_if_there_is_none(outer: Path) -> None:
    with pytest.raises(UsageError, match=r"v7: is not a revision of this repository$"):
        source_of(None, "v7")


def test_name_of_a_tag_and_a_branch_releases_the_tag_with_a_note(fleet: Fleet) -> None:
    fleet.commit("v1")
    _git(fleet.folder, "tag", "same")
    _git(fleet.folder, "tag", "v7")
    fleet.commit("v2")
    _git(fleet.folder, "branch", "same")

    alone = fleet.inv("deploy", "--ref", "v7")
    both = fleet.inv("deploy", "--ref", "same")

    assert "note: same is a tag and a branch: the tag is released" in both.stderr
    assert "is a tag" not in alone.stderr
    assert fleet.current("web1").name.split("-")[1] in _git(fleet.folder, "rev-parse", "v7")


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
