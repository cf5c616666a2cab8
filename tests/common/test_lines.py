"""Lines of a stream that arrives in chunks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ringtasks.common.lines import LineBuffer


@given(st.lists(st.binary(max_size=8).map(lambda chunk: chunk.replace(b"\x00", b"\n"))))
def test_stream_lines_do_not_depend_on_chunk_boundaries(chunks: list[bytes]) -> None:
    lines = LineBuffer()

    found = [line for chunk in chunks for line in lines.feed(chunk)] + lines.rest()

    expected = b"".join(chunks).split(b"\n")
    assert found == (expected if expected[-1] else expected[:-1])


def test_endless_line_is_returned_in_pieces() -> None:
    lines = LineBuffer()

    pieces = [piece for _ in range(10) for piece in lines.feed(b"x" * 30_000)] + lines.rest()

    assert b"".join(pieces) == b"x" * 300_000
    assert max(map(len, pieces)) <= 100_000
