"""Output kept in bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ringtasks.common.capture import Capture


def test_output_within_the_limit_is_kept_unchanged() -> None:
    capture = Capture(10)

    for chunk in (b"abc", b"", b"defg", b"hij"):
        capture.add(chunk)

    assert capture.getvalue() == b"abcdefghij"
    assert capture.dropped_bytes == 0


def test_capture_keeps_head_and_tail_and_reports_the_gap() -> None:
    capture = Capture(6)

    for chunk in (b"ab", b"cdefgh", b"ij"):
        capture.add(chunk)

    assert capture.getvalue() == b"abc\n[ringtasks: 4 bytes dropped here]\nhij"


@given(chunks=st.lists(st.binary(max_size=20)), limit=st.integers(0, 50))
def test_capture_is_bounded_and_reports_every_dropped_byte(chunks: list[bytes], limit: int) -> None:
    capture = Capture(limit)
    everything = b"".join(chunks)

    for chunk in chunks:
        capture.add(chunk)

    kept = capture.getvalue()
    if capture.dropped_bytes == 0:
        assert kept == everything
    else:
        head, gap, tail = kept.partition(
            b"\n[ringtasks: %d bytes dropped here]\n" % capture.dropped_bytes
        )
        assert gap
        assert len(head) + len(tail) + capture.dropped_bytes == len(everything)
        assert len(head) + len(tail) <= limit
        assert everything.startswith(head)
        assert everything.endswith(tail)
