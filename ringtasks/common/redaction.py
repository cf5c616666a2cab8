"""Mask secrets in output: each becomes ``***``, also if it arrives in pieces.

These forms of a secret are masked:

* Each of its lines, as GitHub does: a key that a terminal has wrapped or indented is the same key.
* Its base64 forms: ``curl -v`` and Kubernetes print values in base64.  There are three, because the
  bytes before the secret shift it within groups of three bytes.
* Its percent-encoded form: in addresses, and in the errors about them.

Lines shorter than `MIN_LENGTH` are left alone: masking every ``a`` hides nothing and makes the text
unreadable.  Encrypted, compressed and hex forms are not masked: programs do not print them by
chance.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote

__all__ = ["MIN_LENGTH", "MaskedStream", "Masker", "masking"]

#: Length in characters from which a line of a secret is masked.
MIN_LENGTH = 4

_MASK_LENGTH = 3


def masking(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that masks ``secrets`` in a text."""
    return Masker(secrets).text


class Masker:
    """A mask of ``secrets`` for texts and streams; a run of secret characters becomes one mask.

    If secrets overlap, both are masked as a whole.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        lines = {
            line.strip().encode("utf-8", "surrogatepass")
            for secret in secrets
            for line in re.split(r"[\r\n]+", secret)
            if len(line.strip()) >= MIN_LENGTH
        }
        self._forms = tuple(sorted({form for line in lines for form in _forms(line)}))
        self._mask = _mask(self._forms)

    def text(self, text: str) -> str:
        """Return ``text`` with its secrets masked."""
        if not self._forms:
            return text
        stream = self.stream()
        masked = stream.feed(text.encode("utf-8", "surrogatepass")) + stream.end()
        return masked.decode("utf-8", "surrogatepass")

    def stream(self) -> MaskedStream:
        """Return the mask of one stream of bytes that arrive in pieces."""
        return MaskedStream(self._forms, self._mask)


class MaskedStream:
    """One masked stream; it holds back only bytes that may be the beginning of a secret."""

    def __init__(self, forms: tuple[bytes, ...], mask: bytes) -> None:
        self._forms, self._mask = forms, mask
        self._longest = max(map(len, forms), default=0)
        self._first_bytes = frozenset(form[0] for form in forms)
        self._held = b""
        self._hidden_bytes = 0
        """Number of held bytes that belong to a secret whose mask was already returned."""

    def feed(self, chunk: bytes) -> bytes:
        """Return the masked bytes that can be shown now."""
        seen = self._held + chunk
        return self._shown(seen, self._sure_bytes(seen))

    def end(self) -> bytes:
        """Return the rest, at the end of the stream."""
        return self._shown(self._held, len(self._held))

    def _sure_bytes(self, seen: bytes) -> int:
        """Return the position from which ``seen`` may be the beginning of a secret."""
        for at in range(max(0, len(seen) - self._longest + 1), len(seen)):
            tail = seen[at:]
            if tail[0] in self._first_bytes and any(
                len(form) > len(tail) and form.startswith(tail) for form in self._forms
            ):
                return at
        return len(seen)

    def _shown(self, seen: bytes, end: int) -> bytes:
        """Return ``seen`` up to ``end``, masked; the rest is held."""
        shown, at = [], self._hidden_bytes
        for first, last in sorted(_found(seen, self._forms)):
            if first >= end:
                break
            if first >= at:
                shown += [seen[at:first], self._mask]
            at = max(at, last)
        shown.append(seen[at:end])
        self._held, self._hidden_bytes = seen[end:], max(0, at - end)
        return b"".join(shown)


def _found(seen: bytes, forms: tuple[bytes, ...]) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of each secret in ``seen``, overlapping ones too."""
    for form in forms:
        at = seen.find(form)
        while at >= 0:
            yield at, at + len(form)
            at = seen.find(form, at + 1)


def _forms(line: bytes) -> Iterator[bytes]:
    yield line
    yield quote(line, safe="").encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + line)
        # The first characters hold bits of the bytes before, the last those of the bytes after.
        after = -(before + len(line)) % 3
        own = encoded[(0, 2, 3)[before] : len(encoded) - (after + 1 if after else 0)]
        yield own
        yield own.translate(bytes.maketrans(b"+/", b"-_"))


def _mask(forms: tuple[bytes, ...]) -> bytes:
    """Return a mask of a character that is in no secret; another could form one with its text."""
    for char in itertools.chain("*#", map(chr, range(0x2580, 0x3000))):
        if not any(char.encode() in form for form in forms):
            return char.encode() * _MASK_LENGTH
    raise AssertionError("secrets of every character there is")  # more than any variable can hold
