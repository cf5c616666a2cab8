"""Lines of a stream that arrives in chunks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ringtasks.common.lines import Lines


@given(st.lists(st.binary(max_size=8).map(lambda chunk: chunk.replace(b"\x00", b"\n"))))
def test_stream_lines_do_not_depend_on_chunk_boundaries(chunks: list[bytes]) -> None:
    lines = Lines()

    found = [line for chunk in chunks for line in lines.add(chunk)] + lines.end()

    expected = b"".join(chunks).split(b"\n")
    shown = [line.rstrip(b"\r").split(b"\r")[-1] for line in expected]
    assert found == (shown if expected[-1] else shown[:-1])


def test_endless_line_is_returned_in_pieces() -> None:
    lines = Lines(64 * 1024)

    pieces = [piece for _ in range(10) for piece in lines.add(b"x" * 30_000)] + lines.end()

    assert b"".join(pieces) == b"x" * 300_000
    assert max(map(len, pieces)) <= 100_000
