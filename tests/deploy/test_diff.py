"""``inv deploy --diff``: commits and files, by host; nothing is changed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.deploys import Fleet
from tests.support.fixtures import fleet_of_one

fleet_size = fleet_of_one


def test_diff_shows_commits_and_files_without_changing_the_hosts(fleet: Fleet) -> None:
    first = fleet.commit("v1", gone="x")
    assert fleet.inv("deploy").returncode == 0
    (fleet.folder / "gone").unlink()
    second = fleet.commit("v2", new="x")
    before = sorted(str(path) for path in fleet.root("web1").rglob("*"))

    shown = fleet.inv("deploy", "--diff")
    (told,) = map(json.loads, fleet.inv("deploy", "--diff", "--json").stdout.splitlines())

    assert shown.returncode == 0, shown.stderr
    assert f"web1: {first[:12]} -> {second[:12]}" in shown.stdout
    files = {(file["change"], file["path"]) for file in told["files"]}
    assert files == {
        ("modified", "one"),
        ("modified", "two"),
        ("added", "new"),
        ("deleted", "gone"),
    }
    assert [commit.split()[1] for commit in told["commits"]] == ["v2"]
    assert "  added     new" in shown.stdout
    assert sorted(str(path) for path in fleet.root("web1").rglob("*")) == before


def test_text_of_commits_is_only_shown(fleet: Fleet) -> None:
    fleet.commit("v1")
    assert fleet.inv("deploy").returncode == 0
    fleet.commit("v2 \x1b[2J\u202e ##[error]forged")

    shown = fleet.inv("deploy", "--diff", GITHUB_ACTIONS="true")

    assert "v2 \N{REPLACEMENT CHARACTER}[2J" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert "\u202e" not in shown.stdout
    assert "##[" not in shown.stdout


def test_diff_to_an_older_revision_lists_the_missing_commits(fleet: Fleet) -> None:
    first = fleet.commit("v1")
    second = fleet.commit("v2")
    assert fleet.inv("deploy").returncode == 0

    (fleet.folder / "one").write_text("not committed")
    older = fleet.inv("deploy", "--diff", "--ref", first)
    same = fleet.inv("deploy", "--diff")
    objects = fleet.folder / ".git" / "objects"
    (objects / second[:2] / second[2:]).unlink()
    with (fleet.folder / ".git" / "config").open("a") as settings:
        settings.write('[remote "origin"]\n\turl = server:app\n')
    lost = fleet.inv("deploy", "--diff", "--ref", first)

    assert f"  - {second[:7]} v2" in older.stdout
    assert "  no changes" in same.stdout
    assert "note: uncommitted changes are not in the release" in same.stderr
    assert "uncommitted" not in older.stderr
    assert lost.returncode == 2
    assert f"its revision {second} is not in this repository; " in lost.stdout
    assert "run 'git fetch --tags origin " in lost.stdout


def test_diff_of_a_built_directory_compares_its_files(fleet: Fleet, tmp_path: Path) -> None:
    built = tmp_path / "built"
    built.mkdir()
    for name, text in {"one": "v1", "two": "v1", "old": "x"}.items():
        (built / name).write_text(text)
    fleet.commit("v1")
    fleet.configure(source=str(built), check=None, check_url=None, restart=None)
    assert fleet.inv("deploy").returncode == 0
    (built / "old").unlink()
    (built / "one").write_text("v2")
    (built / "two").unlink()
    (built / "two").mkdir()
    (built / "two" / "inner").write_text("x")
    (built / "link").symlink_to("one")

    (told,) = map(json.loads, fleet.inv("deploy", "--diff", "--json").stdout.splitlines())

    files = {(file["change"], file["path"]) for file in told["files"]}
    assert files == {
        ("sent", "one"), ("sent", "two/inner"), ("changed", "link"),
        ("deleted", "old"), ("deleted", "two"),
    }  # fmt: skip
