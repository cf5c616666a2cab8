"""Tables of deploys on narrow terminals: hosts, releases and states are whole."""

from __future__ import annotations

import re

import pytest

from tests.support.deploys import Fleet
from tests.support.fixtures import fleet_of_one

fleet_size = fleet_of_one


def test_deploy_tables_show_releases_whole_at_60_and_80_columns(fleet: Fleet) -> None:
    fleet.commit("v1")
    first = fleet.inv("deploy")
    fleet.commit("v2")
    second = fleet.inv("deploy")
    rolled_back = fleet.inv("deploy.rollback")
    old, new = (folder.name for folder in fleet.releases("web1"))

    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    assert f"web1: rolled back to {old}\n" in rolled_back.stderr
    for width in (60, 80):
        for task in ("deploy --dry-run", "deploy.releases", "deploy.status", "deploy.check"):
            done = fleet.inv(*task.split(), COLUMNS=str(width), FORCE_COLOR="1")
            table = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.partition("\n\n")[0])

            assert done.returncode == 0, done.stderr
            assert "web1" in table
            assert "\N{HORIZONTAL ELLIPSIS}" not in table
            if task != "deploy.check":
                assert old in table
            if task == "deploy.releases":
                header, *_ = table.splitlines()
                assert header.split()[-1] == "state"
                assert new in table
                letters = re.sub(r"\s", "", table)
                assert "good,current" in letters
                assert "superseded" in letters


@pytest.mark.matrix(1)
@pytest.mark.parametrize("word", ["left", "superseded"])
def test_release_that_a_rollback_left_is_superseded(fleet: Fleet, word: str) -> None:
    fleet.commit("v1")
    assert fleet.inv("deploy").returncode == 0
    history = fleet.root("web1") / "history"
    (release,) = fleet.releases("web1")
    fields = ["2001-01-01T10:00:00Z", word, release.name, "abc", "ann", "", ""]
    with history.open("a") as file:
        file.write("\t".join(fields) + "\n")

    shown = fleet.inv("deploy.releases").stdout

    assert shown.rstrip().endswith("superseded, current")
    assert "2001-01-01" not in shown  # the time of its deploy
