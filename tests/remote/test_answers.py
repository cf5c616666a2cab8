"""Values of hosts' answers have their type and bounds, or the answer is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtasks.remote.answers import (
    MAX_COUNT,
    AnswerError,
    Fields,
    decimal,
    disk_space,
    exit_status,
    json_fields,
    or_none,
    process_id,
    unix_time,
    whole,
)

READERS = (whole, decimal, process_id, exit_status, unix_time)


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (whole, "0", 0),
        (whole, " 42\r", 42),
        (whole, "0007", 7),
        (whole, str(MAX_COUNT), MAX_COUNT),
        (decimal, "0.52", 0.52),
        (decimal, "1e3", 1000.0),
        (process_id, "4194304", 4194304),
        (exit_status, "255", 255),
        (unix_time, "1700000000.25", 1700000000.25),
    ],
)
def test_a_number_within_its_bounds_is_read(read: Any, text: str, value: float) -> None:
    assert read(text, "it") == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (whole, ""),
        (whole, "²"),
        (whole, "٣"),
        (whole, "1_000"),
        (whole, "+1"),
        (whole, "-1"),
        (whole, "1 2"),
        (whole, "9" * 5000),
        (whole, str(MAX_COUNT + 1)),
        (decimal, "nan"),
        (decimal, "inf"),
        (decimal, "1e999"),
        (decimal, "0x10"),
        (decimal, "９"),
        (process_id, "0"),
        (process_id, str(2**31)),
        (exit_status, "256"),
        (exit_status, "failed"),
        (unix_time, "1e12"),
        (unix_time, "-1"),
    ],
)
def test_text_that_is_not_a_number_is_refused(read: Any, text: str) -> None:
    with pytest.raises(AnswerError, match="it: "):
        read(text, "it")

    assert or_none(read, text) is None


def test_a_million_digits_are_refused_with_a_short_message() -> None:
    with pytest.raises(AnswerError) as refused:
        whole("9" * 1_000_000, "pid")

    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": ' + "[" * 33 + "]" * 33 + "}",
        '{"a":' * 100_000,
        "[" * 1_000_000,
        '{"a": "' + "x" * 5_000_000 + '"}',
    ],
    ids=lambda text: text[:16],
)
def test_hostile_json_is_refused(text: str) -> None:
    with pytest.raises(AnswerError):
        json_fields(text)


def test_json_fields_are_read_with_their_types() -> None:
    told = json_fields('{"name": "a\\ud800", "pid": 7, "load": 1, "at": {"x": "3"}, "no": null}')

    assert told.text("name") == "a?"
    assert told.whole("pid") == 7
    assert told.decimal("load") == 1.0
    assert told.fields("at").whole("x") == 3
    assert told.optional(told.text, "no") is None
    assert told.optional(told.whole, "absent") is None


@pytest.mark.parametrize(
    "read",
    [
        lambda told: told.text("number"),
        lambda told: told.text("text", at_most=2),
        lambda told: told.whole("flag"),
        lambda told: told.whole("text"),
        lambda told: told.whole("fraction"),
        lambda told: told.whole("number", at_most=6),
        lambda told: told.decimal("list"),
        lambda told: told.fields("list"),
        lambda told: told.text("absent"),
        lambda told: told.optional(told.text, "number"),
    ],
)
def test_a_field_of_another_type_is_refused(read: Callable[[Fields], object]) -> None:
    told = json_fields(
        '{"number": 7, "text": "abc", "flag": true, "list": [1, 2], "fraction": 1.5}'
    )

    with pytest.raises(AnswerError):
        read(told)


@pytest.mark.parametrize(
    ("line", "bytes_"),
    [
        ("/dev/vda 264212084 37008748 69382164 35% /", (264212084 * 1024, 69382164 * 1024)),
        ("map auto home 100 60 40 60% /System/Volumes/Data home", (102400, 40960)),
        ("/dev/vda 100 104 -4 104% /", (102400, 0)),  # the reserve of root is in use
        ("/dev/vda 100 60 40 60%", (102400, 40960)),
        ("df: no file systems processed", (None, None)),
        ("/dev/vda 1" + "0" * 30 + " 1 1 1% /", (None, None)),
        ("", (None, None)),
    ],
)
def test_space_of_a_disk_is_read_from_a_line_of_df(
    line: str, bytes_: tuple[int | None, int | None]
) -> None:
    assert disk_space(line) == bytes_


@given(st.text())
def test_answer_readers_raise_only_their_own_error(text: str) -> None:
    for read in READERS:
        value = or_none(read, text)  # type: ignore[arg-type]  # mypy joins them to a builtin
        assert value is None or math.isfinite(value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.binary() | st.builds(lambda value, at: json.dumps(value)[:at].encode(), values, st.none())
)
def test_any_json_raises_only_the_readers_own_error(text: bytes) -> None:
    try:
        told = json_fields(text)
    except AnswerError:
        return
    for name in told:
        for read in (told.text, told.whole, told.decimal, told.fields):
            try:
                read(name)
            except AnswerError as error:
                str(error).encode()
