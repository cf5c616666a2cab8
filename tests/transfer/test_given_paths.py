"""Paths as people type them: empty ones, ``~``, ``.``, and patterns that match odd entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig
from ringtasks.errors import UsageError
from ringtasks.transfer import get, put, sync
from tests.support.transfers import either_way, only

mover = either_way


@pytest.fixture
def config(config: SSHConfig, far: Path) -> SSHConfig:
    return replace(config, work_dir=str(far))


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: put("", "x", ["box"]), "path on this machine, got ''"),
        (lambda: put(["tasks.py", ""], "x", ["box"]), "path on this machine, got ''"),
        (lambda: put([], "x", ["box"]), "expected a file or a folder"),
        (lambda: put("a\0b", "x", ["box"]), "path on this machine"),
        (lambda: get("x", "", ["box"]), "path on this machine, got ''"),
        (lambda: sync("", "x", ["box"]), "path on this machine, got ''"),
        (lambda: sync("x", "", ["box"], pull=True), "path on this machine, got ''"),
        (lambda: sync("", "x", ["box"], pull=True), "path on the host, got ''"),
        (lambda: get("~root/x", "x", ["box"]), r"~root/x: only '~' and .* \./~root/x"),
        (lambda: put("/", "~www-data", ["box"]), "~www-data: only '~' and '~/'"),
    ],
)
def test_path_that_means_no_place_is_refused(call: Callable[[], object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call()


def test_tilde_is_the_home_of_the_side_that_the_path_is_on(
    client: SSHClient, near: Path, far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(near))
    monkeypatch.chdir(far)  # where no folder "~" may appear
    (near / "own").mkdir()
    (near / "own" / "f").write_text("1")

    assert sync("~/own", "there", [client])
    assert sync("there", "~/synced", [client], pull=True)
    assert get("there", "~/got/", [client])
    assert put("~/own/f", "there/~", [client])
    assert get("there/~", "~/got/", [client])
    assert client.scp_from(f"{far}/there/f", "~/copied").success
    assert client.scp_to("~/copied", f"{far}/there/g").success

    assert names(far) == ["there", "there/f", "there/g", "there/~"]
    assert names(near) == sorted(
        ["own", "own/f", "synced", "synced/f", "got", "got/there", "got/there/f", "got/~", "copied"]
    )


@pytest.mark.matrix(2)
@pytest.mark.parametrize("source", [".", "../tree/.", "sub/.."])
def test_folder_without_a_name_stands_for_its_content_each_time(
    client: SSHClient,
    mover: str,
    near: Path,
    far: Path,
    source: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for side in (near, far):
        (side / "tree" / "sub").mkdir(parents=True)
        (side / "tree" / "f").write_text("1")
    monkeypatch.chdir(near / "tree")

    for _ in range(2):
        assert put(source, "up", [client])
        assert put(source, "slash/", [client])
        assert get(f"tree/sub/../{source}", near / "down", [client])

    assert names(far / "up") == names(far / "slash") == names(near / "down") == ["f", "sub"]


@pytest.mark.parametrize(
    ("pattern", "got", "left_out"),
    [
        ("d/*", ["f", "s", "~"], ["gone", "loop"]),
        ("d/.*", [".hidden"], [".lost"]),
        ("d/.?*", [".hidden"], [".lost"]),
    ],
)
def test_pattern_leaves_out_its_own_folder_and_links_that_lead_nowhere(
    client: SSHClient,
    mover: str,
    near: Path,
    far: Path,
    pattern: str,
    got: list[str],
    left_out: list[str],
) -> None:
    (far / "d" / "s").mkdir(parents=True)
    for name in ("beside", "d/f", "d/~", "d/.hidden"):
        (far / name).write_text(name)
    for name in ("gone", "loop", ".lost"):
        (far / "d" / name).symlink_to("loop" if name == "loop" else "nowhere")

    result = only(get(pattern, near, [client]))

    assert result.returncode == 0, result.error
    assert names(near) == got
    assert sorted(result.skipped) == left_out


def test_link_that_leads_nowhere_is_no_missing_file(
    client: SSHClient, near: Path, far: Path
) -> None:
    (far / "latest").symlink_to("runs/gone")

    assert "latest: is a link that leads nowhere" in str(only(get("latest", near, [client])).error)
