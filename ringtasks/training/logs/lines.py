"""Cut the output of a program into lines that hold text alone.

A carriage return, a backspace or a cursor movement redraws a line, as progress bars do, so each of
them ends one, too.  Colours are removed.  Lines do not depend on how the output was cut.
"""

from __future__ import annotations

import re

__all__ = ["LineSplitter"]

#: No line of metrics is that long; the limit bounds the memory if a program never ends a line.
_MAX_PARTIAL_BYTES = 1 << 20

# ECMA-48: colours (SGR) and erasures (EL), which leave the text in position.
_STYLE = re.compile(rb"\x1b\[[\d;:]*[mK]")
_ESCAPE = re.compile(
    rb"\x1b(?:"
    rb"\[[0-?]*[ -/]*[@-~]"  # CSI: the cursor moves
    rb"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC (a title, a link), DCS, SOS, PM, APC
    rb"|[ -/]*[0-~])"
)
#: The filled part of a bar tells no more than the count beside it; without it, the bars of a run
#: are of a few templates.
_FILL = re.compile(rb"%\|[^|\[\]\r\n]{1,600}\| ")
_SAMPLE_BYTES = 4096
#: Colours whose escape character was lost or written out, on lines that end one: "[32mloss[0m",
#: "^[[32m" (cat -v), "#033[32m" (rsyslog).
_COLOURED = re.compile(rb"[^\n]*\[0m[^\n]*")
_STYLE_AS_TEXT = re.compile(rb"(?:\^\[|#033|\\x1b|\\033|\\u001b)?\[[\d;]*m")


class LineSplitter:
    """Takes chunks and returns the lines that they complete; empty ones are left out."""

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return the lines that ``chunk`` completes."""
        end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
        if not end:
            # The end of an endless line is dropped: its beginning is kept, because it identifies
            # the line.
            self._partial = (self._partial + chunk)[:_MAX_PARTIAL_BYTES]
            return b""
        block = self._partial + chunk[: end - 1]
        self._partial = chunk[end:]
        return _clean(block)

    def rest(self) -> bytes:
        """Return the text after the last line's end."""
        block, self._partial = self._partial, b""
        return _clean(block)


def _clean(block: bytes) -> bytes:
    if b"\x1b" in block:
        block = _without_escapes(block)
    if b"[0m" in block:
        block = _COLOURED.sub(lambda line: _STYLE_AS_TEXT.sub(b"", line[0]), block)
    if b"\x08" in block:
        block = block.replace(b"\x08", b"\n")
    if b"%|" in block:
        block = _FILL.sub(b"%|| ", block)
    block = block.replace(b"\r", b"\n")
    if b"\n\n" in block:  # faster than a pattern
        return b"\n".join(filter(None, block.split(b"\n")))
    return block.strip(b"\n")


def _without_escapes(block: bytes) -> bytes:
    # The usual ones are replaced as fixed bytes, which is faster than a pattern.
    start = block.find(b"\x1b")
    for sequence in set(_STYLE.findall(block, start, start + _SAMPLE_BYTES)):
        block = block.replace(sequence, b"")
    block = block.replace(b"\x1b[A", b"\n")
    if b"\x1b" in block:
        block = _STYLE.sub(b"", block)
        if b"\x1b" in block:
            block = _ESCAPE.sub(_replace_escape, block)
    return block


def _replace_escape(found: re.Match[bytes]) -> bytes:
    sequence = found[0]
    if not sequence.startswith(b"\x1b[") or sequence[-1:] in b"hlm":
        return b""
    return b" " if sequence.endswith(b"C") else b"\n"
