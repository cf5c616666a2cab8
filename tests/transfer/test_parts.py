"""The pure parts of transfers: rsync's flags and output, patterns, pace, places."""

from __future__ import annotations

import pytest

from ringtasks import SSHConfig
from ringtasks.errors import UsageError
from ringtasks.remote.paths import name_of, on_host, words
from ringtasks.transfer.pace import Pace
from ringtasks.transfer.patterns import filter_rules, literal
from ringtasks.transfer.results import TransferProgress
from ringtasks.transfer.rsync_flags import Rules, Version, can_stage, flags, parse_version
from ringtasks.transfer.rsync_output import Change, Meter, parse_change, parse_meter, parse_stat

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
def test_rsyncs_say_their_version_in_different_ways(line: str, version: Version | None) -> None:
    assert parse_version(line) == version


def test_an_rsync_is_told_only_what_it_knows() -> None:
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


def test_what_comes_from_a_host_may_not_lead_out_nor_gain_rights() -> None:
    pulling = flags(Rules(delete=True), NEW, pulls=True, tells_progress=False)
    trying = flags(Rules(dry_run=True), NEW, pulls=True, tells_progress=False)
    pushing = flags(Rules(), NEW, pulls=False, tells_progress=False)

    assert "--chmod=ug-s" in pulling
    assert "--delete" not in pulling
    assert {"--safe-links", "--chmod=ug-s"} <= set(trying)
    assert not {"--safe-links", "--chmod=ug-s"} & set(pushing)


def test_nothing_is_pulled_by_an_rsync_that_cannot_make_links_harmless() -> None:
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
def test_a_line_of_rsyncs_is_understood(line: str, change: Change | None) -> None:
    assert parse_change(line) == change


def test_figures_of_rsyncs_are_understood() -> None:
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


def test_a_literal_path_is_escaped_only_where_a_wildcard_makes_backslashes_special() -> None:
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
def test_a_path_that_is_none_is_refused(remote: str) -> None:
    with pytest.raises(UsageError, match="expected a path"):
        on_host(SSHConfig("box"), remote)


def test_only_wildcards_are_left_to_the_shell() -> None:
    assert words("/a b/$(x)*.p[12]") == "'/a b/$(x)'*'.p'[12]"
    assert words("~/x?") == "\"$HOME\"/'x'?"


@pytest.mark.parametrize("place", ["/", "~", "/a/..", "/a/."])
def test_some_places_have_no_name_of_their_own(place: str) -> None:
    assert name_of(place) == ""


def test_a_link_that_holds_is_not_slowed_down_and_one_that_does_not_is() -> None:
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


def test_time_left_is_known_with_a_total_and_a_rate() -> None:
    assert TransferProgress("box", 10, 30, 10.0).seconds_left == 2.0
    assert TransferProgress("box", 10, None, 10.0).seconds_left is None
    assert TransferProgress("box", 10, 30, 0.0).seconds_left is None
