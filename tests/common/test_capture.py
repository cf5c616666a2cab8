"""Output kept in bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ringtasks.common.capture import Capture


def test_what_fits_is_kept_as_it_is() -> None:
    capture = Capture(10)

    for chunk in (b"abc", b"", b"defg", b"hij"):
        capture.add(chunk)

    assert capture.getvalue() == b"abcdefghij"
    assert capture.dropped_bytes == 0


def test_head_and_tail_are_kept_and_the_gap_is_told() -> None:
    capture = Capture(6)

    for chunk in (b"ab", b"cdefgh", b"ij"):
        capture.add(chunk)

    assert capture.getvalue() == b"abc\n[ringtasks: 4 bytes dropped here]\nhij"


@given(chunks=st.lists(st.binary(max_size=20)), limit=st.integers(0, 50))
def test_memory_is_bounded_and_nothing_is_lost_unsaid(chunks: list[bytes], limit: int) -> None:
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
