"""``inv put``, ``inv get`` and ``inv sync`` as their users see them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ringtasks.output.transfer_bars import tell
from ringtasks.transfer.results import HostTransfer
from tests.support.fixtures import Inv

Write = Callable[..., Path]


def test_put_reports_each_finished_host(inv: Inv, write_hosts: Write, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    write_hosts(box={"work_dir": str(tmp_path / "far")})
    (tmp_path / "file").write_text("hello")

    done = inv("put", "file", "x", "--host", "box")

    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().startswith("box: 1 file, 5 B in ")
    assert done.stdout.decode().endswith("SHA-256 checked\n")
    assert (tmp_path / "far" / "x").read_text() == "hello"


def test_put_json_has_one_object_per_host(inv: Inv, write_hosts: Write, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "x").write_text("hello")
    write_hosts(
        a={"work_dir": str(tmp_path / "far")},
        b={"work_dir": str(tmp_path / "far"), "ssh_host": "127.0.0.2"},
    )

    done = inv("get", "x", "back", "--host", "@all", "--json")

    hosts = {line["host_id"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert sorted(hosts) == ["a", "b"]
    assert hosts["a"]["success"] is True
    assert (hosts["a"]["files"], hosts["a"]["checked"]) == (1, 1)
    assert (tmp_path / "back" / "b" / "x").read_text() == "hello"


def test_put_dry_run_lists_names_without_control_characters(
    inv: Inv, write_hosts: Write, tmp_path: Path
) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "evil\033[2J").write_text("")
    write_hosts(box={"work_dir": str(tmp_path)})
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "new").write_text("")

    done = inv("sync", "near", "far", "--host", "box", "--delete", "--dry-run")

    assert b"box: would copy new\n" in done.stdout
    assert "box: would remove evil\N{REPLACEMENT CHARACTER}[2J\n".encode() in done.stdout
    assert (tmp_path / "far" / "evil\033[2J").exists()


def test_a_replaced_link_is_told_before_and_after(
    inv: Inv, write_hosts: Write, tmp_path: Path
) -> None:
    (tmp_path / "near" / "data").mkdir(parents=True)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "data").symlink_to("../vol\033[2J")
    write_hosts(box={"work_dir": str(tmp_path)})

    before = inv("sync", "near", "far", "--host", "box", "--dry-run")
    after = inv("sync", "near", "far", "--host", "box")

    link = "data -> ../vol\N{REPLACEMENT CHARACTER}[2J"
    assert f"box: would replace the link {link} by a folder\n" in before.stdout.decode()
    assert "make or change data" not in before.stdout.decode()
    assert f"box: the link {link} was replaced by a folder\n" in after.stderr.decode()
    assert (after.returncode, (tmp_path / "far" / "data").is_symlink()) == (0, False)


@pytest.mark.parametrize("program", ["rsync", "none"])
def test_what_is_not_copied_of_a_folder_is_told(
    inv: Inv, write_hosts: Write, tmp_path: Path, program: str
) -> None:
    for folder in ("near", "far"):
        (tmp_path / folder).mkdir()
        os.mkfifo(tmp_path / folder / "pipe")
        (tmp_path / folder / "file").write_text("")
    (tmp_path / "far" / "link").symlink_to("/etc/hostname")
    write_hosts(box={"work_dir": str(tmp_path)})
    (tmp_path / "programs").mkdir()
    for name in ("ssh", *([program] if program == "rsync" else [])):
        (tmp_path / "programs" / name).symlink_to(str(shutil.which(name)))
    path = str(tmp_path / "programs")

    sent = inv("sync", "near", "there", "--host", "box", PATH=path)
    got = inv("sync", "far", "here", "--host", "box", "--pull", PATH=path)
    again = inv("sync", "far", "here", "--host", "box", "--pull", PATH=path)

    told = b"box: not copied (pipes, devices, links that lead out): "
    assert sent.returncode == got.returncode == 0
    assert told + b"pipe\n" in sent.stderr
    for done in (got, again):
        (line,) = [line for line in done.stderr.splitlines() if line.startswith(b"ringtasks: box")]
        assert sorted(line.rpartition(b": ")[2].split(b", ")) == [b"link", b"pipe"]


def test_an_error_of_several_lines_keeps_its_lines(
    inv: Inv, write_hosts: Write, tmp_path: Path
) -> None:
    write_hosts(box={"ssh_port": 1})
    (tmp_path / "file").write_text("hello")

    done = inv("put", "file", "x", "--host", "box")

    assert done.returncode == 255
    assert b"no route worked:\n  direct (" in done.stderr


def test_bad_input_of_file_tasks_exits_2(inv: Inv, write_hosts: Write, tmp_path: Path) -> None:
    write_hosts(box={})
    (tmp_path / "file").write_text("")

    for arguments, said in (
        (("put", "nothing", "x", "--host", "box"), b"nothing: no such file"),
        (("put", "file", "x", "--host", "box", "--fanout", "0"), b"--fanout: expected"),
        (("put", "file", "x"), b"--host is required"),
        (("put", "file", "x", "--host", "other"), b"other"),
        (("sync", "file", "x", "--host", "box"), b"file: is not a folder"),
        (("put", ".", "x", "--host", "box", "--relay"), b"relay: is for one file"),
    ):
        done = inv(*arguments)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_failed_copy_exits_1_and_unreachable_host_exits_255(
    inv: Inv, write_hosts: Write, tmp_path: Path
) -> None:
    write_hosts(box={"work_dir": str(tmp_path)}, gone={"ssh_host": "127.0.0.1", "ssh_port": 1})
    (tmp_path / "file").write_text("")

    failed = inv("put", "file", "no/such", "--host", "box")
    gone = inv("put", "file", "x", "--host", "gone")

    assert (failed.returncode, b"no such folder on the host" in failed.stderr) == (1, True)
    assert (gone.returncode, b"refused" in gone.stderr) == (255, True)


def test_summary_of_a_transfer_counts_what_was_lost(capsys: pytest.CaptureFixture[str]) -> None:
    for count in (1, 2):
        tell(HostTransfer("box", 0, files=count, bytes=2048, elapsed_ms=1000.0, resumed=count))

    assert capsys.readouterr().out == (
        "box: 1 file, 2.0 KiB in 1.0 s (2.0 KiB/s), the link was lost 1 time\n"
        "box: 2 files, 2.0 KiB in 1.0 s (2.0 KiB/s), the link was lost 2 times\n"
    )
