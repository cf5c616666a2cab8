"""The pure parts of transfers: rsync's flags and output, patterns, pace, places."""

from __future__ import annotations

import pytest

from ringtasks import SSHConfig
from ringtasks.errors import UsageError
from ringtasks.remote.paths import name_of, on_host, quoted_pattern
from ringtasks.transfer.host_transfer import Pace
from ringtasks.transfer.patterns import filter_rules, literal
from ringtasks.transfer.results import TransferProgress
from ringtasks.transfer.rsync_flags import Rules, Version, can_stage, flags, parse_version
from ringtasks.transfer.rsync_output import (
    Change,
    Meter,
    RsyncOutput,
    parse_change,
    parse_meter,
    parse_stat,
)

MACOS = Version(2, 6, 9)
NEW = Version(3, 2, 7)


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("rsync  version 3.2.7  protocol version 31", Version(3, 2, 7)),
        ("rsync  version 2.6.9  protocol version 29", Version(2, 6, 9)),
        ("rsync  version v3.2.3  protocol version 31", Version(3, 2, 3)),
        ("openrsync: protocol version 29", Version(2, 6, 9, is_open=True)),
        ("rsync error", None),
        ("", None),
    ],
)
def test_version_is_parsed_from_each_rsync_variant(line: str, version: Version | None) -> None:
    assert parse_version(line) == version


def test_rsync_gets_only_options_that_its_version_supports() -> None:
    new = flags(Rules(delete=True), NEW, pulls=False, tells_progress=True)
    old = flags(Rules(delete=True), MACOS, pulls=False, tells_progress=True)

    assert new == [
        "-rlpt",
        "--from0",
        "--exclude-from=-",
        "--stats",
        "--timeout=600",
        "--out-format=ringtasks-file %i %l %n",
        "--no-protect-args",
        "--info=progress2",
        "--no-human-readable",
        "--partial-dir=.ringtasks-partial",
        "--delete",
    ]
    assert set(new) - set(old) == {"--no-protect-args", "--info=progress2", "--no-human-readable"}


def test_pulled_files_cannot_leave_the_target_or_gain_permissions() -> None:
    pulling = flags(Rules(delete=True), NEW, pulls=True, tells_progress=False)
    trying = flags(Rules(dry_run=True), NEW, pulls=True, tells_progress=False)
    pushing = flags(Rules(), NEW, pulls=False, tells_progress=False)

    assert "--chmod=ug-s" in pulling
    assert "--delete" not in pulling
    assert {"--safe-links", "--chmod=ug-s"} <= set(trying)
    assert not {"--safe-links", "--chmod=ug-s"} & set(pushing)


def test_rsync_that_cannot_make_links_harmless_is_not_used_to_pull() -> None:
    assert can_stage(NEW)
    assert not can_stage(MACOS)
    assert not can_stage(Version(3, 0, 9))


@pytest.mark.parametrize(
    ("line", "change"),
    [
        ("ringtasks-file <f+++++++++ 3 a b", Change("sent", "a b", 3)),
        ("ringtasks-file >f..t...... 1,234 x", Change("sent", "x", 1234)),
        ("ringtasks-file *deleting   0 old file", Change("deleted", "old file", 0)),
        ("ringtasks-file cd+++++++++ 4096 sub/", Change("made", "sub/", 4096)),
        ("ringtasks-file .f...p..... 3 x", Change("made", "x", 3)),
        (r"ringtasks-file <f+++++++++ 1 two\#012lines", Change("sent", "two\nlines", 1)),
        (r"ringtasks-file <f+++++++++ 1 \#134#012", Change("sent", r"\#012", 1)),
        ("ringtasks-file", None),
        ("sending incremental file list", None),
    ],
)
def test_rsync_output_line_is_parsed(line: str, change: Change | None) -> None:
    assert parse_change(line) == change


@pytest.mark.parametrize("more", ["", "\nskipping: ringtasks-file <f 1 x"])
def test_rsync_lines_that_come_together_are_read_as_one_by_one(more: str) -> None:
    names = [
        "a b",
        " ",
        "ringtasks-file <f 1 x",
        "1 ringtasks-file <f 1 x",
        "\u2028",
        "\x85",
        "\udcff",
    ]
    items = ["<f+++++++++", "cd+++++++++", "*deleting  ", ".d", "cL+++++++++", "<f.st......"]
    names += [r"two\#012lines", "l\r"]
    lines = [f"ringtasks-file {item} 1,234 {name}" for item in items for name in names]
    together, one_by_one = RsyncOutput(lists=True), RsyncOutput(lists=True)

    together.read("\n".join(lines) + more)
    for line in lines:
        one_by_one.read(line)

    assert together.changes == one_by_one.changes
    assert [change for change in together.changes if change.kind == "sent"] == [
        Change("sent", name, 1234) for _ in range(2) for name in [*names[:7], "two\nlines", "l\r"]
    ]
    assert together.present == one_by_one.present


def test_rsync_statistics_are_parsed() -> None:
    assert parse_meter("     32,768   7%   31.25MB/s    0:00:13") == Meter(32768, 7, 32768000.0)
    assert parse_meter("          2   0%    0.00kB/s    0:00:00 (xfr#1)") == Meter(2, 0, 0.0)
    assert parse_meter("something else") is None
    assert parse_stat("Total bytes sent: 3,001,049") == ("Total bytes sent", 3001049)


def test_later_patterns_override_earlier_ones() -> None:
    rules = Rules(exclude=("*.log", "!keep.log"), ignored=(".git", "odd[1]/"))

    assert list(filter_rules(rules)) == [
        "- .ringtasks-partial/",
        "- /.ringtasks-incoming-*/",
        "+ keep.log",
        "- *.log",
        "- /.git",
        r"- /odd\[1]/",
    ]


def test_backslash_in_a_literal_path_is_escaped_only_beside_a_wildcard() -> None:
    assert literal(r"back\slash") == r"back\slash"
    assert literal(r"back\slash*") == r"back\\slash\*"


@pytest.mark.parametrize(
    ("work_dir", "remote", "place"),
    [
        (None, "x", "~/x"),
        ("/data", "x/y", "/data/x/y"),
        ("~/app", ".", "~/app/."),
        ("app", "x", "~/app/x"),
        ("/data", "/x", "/x"),
        ("/data", "~/x", "~/x"),
    ],
)
def test_a_relative_path_is_below_the_work_dir(
    work_dir: str | None, remote: str, place: str
) -> None:
    assert on_host(SSHConfig("box", work_dir=work_dir), remote) == place


@pytest.mark.parametrize("remote", ["", "a\0b"])
def test_invalid_path_is_refused(remote: str) -> None:
    with pytest.raises(UsageError, match="expected a path"):
        on_host(SSHConfig("box"), remote)


def test_shell_expands_only_wildcards_of_a_remote_path() -> None:
    assert quoted_pattern("/a b/$(x)*.p[12]") == "'/a b/$(x)'*'.p'[12]"
    assert quoted_pattern("~/x?") == "\"$HOME\"/'x'?"


@pytest.mark.parametrize("place", ["/", "~", "/a/..", "/a/."])
def test_path_without_a_last_component_has_no_name(place: str) -> None:
    assert name_of(place) == ""


def test_transfer_rate_is_limited_only_after_an_early_disconnect() -> None:
    pace = Pace()
    assert pace.rate is None

    pace.lost(40_000_000, 60.0)
    assert pace.rate is None

    pace.lost(40_000_000, 2.0)
    assert pace.rate == 10_000_000

    pace.lost(10_000_000, 1.0)
    assert pace.rate == 10_000_000  # of what it did when it was not held back

    pace.lost(1, 60.0)
    assert pace.rate is None


def test_remaining_time_requires_a_total_and_a_rate() -> None:
    assert TransferProgress("box", 10, 30, 10.0).seconds_left == 2.0
    assert TransferProgress("box", 10, None, 10.0).seconds_left is None
    assert TransferProgress("box", 10, 30, 0.0).seconds_left is None
