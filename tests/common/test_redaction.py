"""Secrets are masked in texts and streams, in each form in which programs print them."""

from __future__ import annotations

import base64
import itertools
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtasks.common.redaction import MIN_LENGTH, Masker

SECRETS = st.lists(st.text("ab*# \n%é", min_size=1, max_size=12), max_size=4)


def lines_of(secrets: list[str]) -> list[str]:
    found = [line.strip() for secret in secrets for line in secret.split("\n")]
    return [line for line in found if len(line) >= MIN_LENGTH]


def streamed(masker: Masker, content: bytes, cuts: list[int]) -> bytes:
    stream, places = masker.stream(), [0, *sorted(cuts), len(content)]
    pieces = [content[a:b] for a, b in itertools.pairwise(places)]
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.end()])


@given(st.data())
def test_secrets_are_masked_in_any_chunking_and_other_text_is_unchanged(
    data: st.DataObject,
) -> None:
    secrets = data.draw(SECRETS)
    lines = lines_of(secrets)
    parts = st.text("ab*# \n%é", max_size=6) | st.sampled_from([*lines, ""])
    text = "".join(data.draw(st.lists(parts, max_size=8)))
    cuts = data.draw(st.lists(st.integers(0, len(text.encode())), max_size=6))
    masker = Masker(secrets)

    masked = streamed(masker, text.encode(), cuts).decode()

    assert masked == masker.text(text)
    assert not [line for line in lines if line in masked]
    if not any(form in text for line in lines for form in forms(line)):
        assert masked == text
    elif not any(form in text for line in lines for form in set(forms(line)) - {line}):
        assert masked == by_marks(text, lines, mask_of(masked, text, lines))


def test_secret_split_across_chunks_is_masked() -> None:
    stream = Masker(["hunter22"]).stream()

    assert [stream.feed(b"my hunt"), stream.feed(b"er22 is"), stream.end()] == [
        b"my ", b"*** is", b"",
    ]  # fmt: skip


def test_text_that_cannot_start_a_secret_is_not_buffered() -> None:
    stream = Masker(["hunter22"]).stream()

    assert stream.feed(b"Password: ") == b"Password: "


def test_stream_of_overlapping_secrets_is_not_buffered_without_limit() -> None:
    stream = Masker(["0000"]).stream()

    shown = [stream.feed(b"0") for _ in range(1000)] + [stream.feed(b"1")]

    assert b"".join(shown[:4]) == b"***"
    assert b"".join(shown) == b"***1"


def test_overlapping_secrets_are_replaced_by_one_mask() -> None:
    assert Masker(["abab", "bcde"]).text("-ababab-ababcde-") == "-***-***-"


def test_mask_and_its_neighbouring_text_form_no_secret() -> None:
    assert Masker(["a***"]).text("aa***") == "a###"


def test_each_line_of_a_private_key_is_masked_at_any_position() -> None:
    masker = Masker(["-----BEGIN KEY-----\r\nb3BlbnNzaC1rZXk\r\n  AAAAAAAA\r\n"])

    assert masker.text("x AAAAAAAA\n  b3BlbnNzaC1rZXk;") == "x ***\n  ***;"


def test_short_values_are_not_masked() -> None:
    assert Masker(["abc", "a\nb", ""]).text("abc a b") == "abc a b"


@pytest.mark.parametrize("before", ["", "u", "us", "usr"])
@pytest.mark.parametrize("after", ["", "!", "!!", "!!!"])
def test_base64_of_a_secret_is_masked_at_any_position(before: str, after: str) -> None:
    secret = "s3cr3t-t0ken>>>???"
    content = f"{before}{secret}{after}".encode()

    for encoded in (base64.b64encode(content), base64.urlsafe_b64encode(content)):
        masked = Masker([secret]).text(encoded.decode())

        assert "***" in masked
        assert len(masked) <= len("***") + 12


def test_url_containing_a_secret_is_masked() -> None:
    secret = "p@ss/word%"

    assert Masker([secret]).text(f"https://u:{quote(secret, safe='')}@h/") == "https://u:***@h/"


def test_masker_accepts_lone_surrogates() -> None:
    assert Masker(["secret"]).text("\ud800secret\udfff") == "\ud800***\udfff"


def test_masker_repr_shows_no_secret() -> None:
    masker = Masker(["secret"])

    assert "secret" not in repr(masker) + repr(masker.stream())


def forms(line: str) -> list[str]:
    """Those that texts of the alphabet above can hold by chance."""
    return [line, quote(line, safe="")]


def mask_of(masked: str, text: str, lines: list[str]) -> str:
    return next((mask for mask in ("***", "###") if by_marks(text, lines, mask) == masked), "▀▀▀")


def by_marks(text: str, lines: list[str], mask: str) -> str:
    """The plain way: mark each character of a secret; a run of marks is a mask, and where one
    secret ends and the next begins without an overlap, there are two."""
    spans = sorted(
        (match.start(), match.start() + len(line))
        for line in set(lines)
        for match in re.finditer(f"(?={re.escape(line)})", text)
    )
    shown, at = "", 0
    for first, last in spans:
        if first >= at:
            shown += text[at:first] + mask
        at = max(at, last)
    return shown + text[at:]
