"""The lines of a known-hosts file, and those of them that are about a host.  Pure.

Their meaning is OpenSSH's (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT; ``hostfile.c``): names may be
hashed, patterns or negated, and are compared without regard to case.  In one respect this is
stricter: OpenSSH skips a line that it cannot read, and so accepts any key from a host whose pin was
damaged.  Here such a line is kept, so that the hosts that it may be about can be refused.
"""

from __future__ import annotations

import base64
import re
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from ringtasks.common.light_typing import NamedTuple

from .host_keys import HostKey

__all__ = [
    "CERT_AUTHORITY",
    "REVOKED",
    "Entries",
    "Entry",
    "UnreadableLine",
    "known_name",
    "names_of",
]

CERT_AUTHORITY, REVOKED = "@cert-authority", "@revoked"

_BLANKS = r"[ \t]+"
_PLAIN = r"[A-Za-z0-9_.:\[\]-]+\Z"
_ESCAPED = r"%[0-9A-F]{2}"
_PATTERN_CHARACTERS = frozenset("*?!")
# The form of nearly all lines: to parse half a million of them step by step takes seconds.
_USUAL = (
    rb"^([\w.:\[\],-]+|\|1\|[A-Za-z0-9+/]{27}=\|[A-Za-z0-9+/]{27}=) ssh-ed25519 "
    rb"(AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43})(?: [^\0\n]*)?$"
)
_KEY_TYPE = r"(ssh|ecdsa|sk|rsa)-"
_HASH = "|1|"  # hostfile.h, HASH_MAGIC: the only kind
_HASH_BYTES = 20  # of HMAC-SHA1, and of its salt


class Entry(NamedTuple):
    """One line: the marker or ``""``, the names as written, and the key."""

    marker: str
    names: str
    key: HostKey

    @property
    def is_for_all(self) -> bool:
        """True if no particular host is named."""
        wanted = [name for name in self.names.split(",") if not name.startswith("!")]
        return all(not name.strip("*") for name in wanted)

    def __str__(self) -> str:
        return " ".join(filter(None, (self.marker, self.names, *self.key)))


class UnreadableLine(NamedTuple):
    """A line that cannot be read; ``number`` counts from 1."""

    number: int
    text: str


class Entries:
    """The entries of a file.

    :param only_marked: skip the lines without a marker.
    """

    def __init__(self, content: bytes = b"", *, only_marked: bool = False) -> None:
        self.damaged: list[UnreadableLine] = []
        self.has_marked = False
        """True if any line has a marker."""
        self._named: dict[str, list[Entry]] = {}
        self._patterns: list[Entry] = []
        self._usual: dict[bytes, list[bytes]] = {}
        self._hashed: list[tuple[bytes, bytes, bytes]] = []
        self._hashed_about: dict[str, list[bytes]] = {}
        if content and not only_marked:
            content = self._without_usual(content)
        for number, raw in enumerate(content.split(b"\n"), start=1):
            line = raw.strip(b" \t\r")
            if not line or line.startswith(b"#") or (only_marked and not line.startswith(b"@")):
                continue
            text = line.decode("utf-8", "surrogateescape")
            try:
                self.add(_entry(text))
            except ValueError:
                self.damaged.append(UnreadableLine(number, text))
                self.has_marked |= text.startswith("@")

    def _without_usual(self, content: bytes) -> bytes:
        """Keep the lines of the usual form; return the content with empty lines in their place."""
        usual_line = re.compile(_USUAL, re.MULTILINE)
        for names, blob in usual_line.findall(content):
            if names.startswith(b"|"):
                _, _, salt, digest = names.split(b"|")
                self._hashed.append((salt, digest, blob))
                continue
            for name in names.lower().split(b","):
                self._usual.setdefault(name, []).append(blob)
        return usual_line.sub(b"", content)

    def _usual_about(self, name: str) -> Iterator[Entry]:
        if self._hashed and name not in self._hashed_about:
            is_digest = _digest_test(name)
            self._hashed_about[name] = [
                blob
                for salt, digest, blob in self._hashed
                if is_digest(a2b_base64(salt), a2b_base64(digest))
            ]
        named = self._usual.get(_encoded(name).lower(), ())
        for blob in (*named, *self._hashed_about.get(name, ())):
            yield Entry("", name, HostKey("ssh-ed25519", blob.decode()))

    def add(self, entry: Entry) -> None:
        """Add one more line."""
        self.has_marked |= bool(entry.marker)
        if entry.names.startswith("|") or not _PATTERN_CHARACTERS.isdisjoint(entry.names):
            self._patterns.append(entry)
            return
        for name in entry.names.lower().split(","):
            self._named.setdefault(name, []).append(entry)

    def about(self, names: Iterable[str]) -> Iterator[Entry]:
        """Yield the lines about a host that has these names."""
        for name in names:
            yield from self._usual_about(name)
            yield from self._named.get(name.lower(), ())
            for entry in self._patterns:
                if _matches(entry.names, name):
                    yield entry

    def damage_about(
        self, names: Sequence[str], addresses: Sequence[str] = (), *, is_pinned: bool
    ) -> UnreadableLine | None:
        """Return an unreadable line that may be about a host that has these names.

        :param addresses: other names of the host, which count for lines with a marker.
        :param is_pinned: another line holds a key of the host. Then only a line counts that is
            certainly about this host; else also one that may have been joined to the host's line,
            or whose names cannot be read.
        """
        for damage in self.damaged:
            fields = [*re.split(_BLANKS, damage.text), ""]
            is_marked = fields[0].startswith("@")
            first = fields[is_marked]
            if any(_matches(first, name) for name in (*names, *(addresses if is_marked else ()))):
                return damage
            if is_pinned:
                continue
            before_keys = [f for f, following in pairwise(fields) if re.match(_KEY_TYPE, following)]
            if not first or not first.isprintable() or _is_unreadable_hash(first):
                return damage
            if any(_may_end_with(field, name) for field in before_keys for name in names):
                return damage
        return None


def known_name(name: str) -> str:
    """Return the name under which a host's line is written.

    It is the host's own name, with every byte escaped (``%23``) that has a meaning in such a file,
    or to a program that reads it.
    """
    if re.match(_PLAIN, name):
        return name
    bytes_of = name.encode("utf-8", "surrogateescape")
    return "".join(chr(b) if re.match(_PLAIN, chr(b)) else f"%{b:02X}" for b in bytes_of)


def names_of(name: str) -> tuple[str, ...]:
    """Return the names that a host's lines may have: `known_name`, and its former form."""
    written = known_name(name)
    if written == name or re.search(r"[\s,]", name) or re.search(_ESCAPED, name):
        return (written,)
    return (written, name)


def _entry(text: str) -> Entry:
    """Parse one line.

    :raises ValueError: it cannot be read.
    """
    marker = ""
    if text.startswith("@"):
        marker, _, text = text.partition(" ")  # for OpenSSH a tab does not end a marker
        text = text.lstrip(" \t")
    names, key = [*re.split(_BLANKS, text, maxsplit=1), ""][:2]
    is_known = marker in ("", CERT_AUTHORITY, REVOKED) and not names.startswith("@")
    # Editors leave a byte order mark before the first name, and no reader would see it.
    if not is_known or not names.isprintable() or "\0" in text or _is_unreadable_hash(names):
        raise ValueError(text)
    return Entry(marker, names, HostKey.parse(key))


def _matches(names: str, name: str) -> bool:
    """Return True if a line with these names is about the host (``match_maybe_hashed``)."""
    if names.startswith("|"):
        return _is_hash_of(names, name)
    is_match = False
    for pattern in names.lower().split(","):
        is_negated = pattern.startswith("!")
        if _glob(pattern[is_negated:]).match(name.lower()):
            if is_negated:
                return False
            is_match = True
    return is_match


def _glob(pattern: str) -> re.Pattern[str]:
    """Compile a pattern; ``match_pattern`` knows only ``*`` and ``?``."""
    parts = re.split(r"(\*+|\?)", pattern)
    text = "".join(".*" if p[:1] == "*" else "." if p == "?" else re.escape(p) for p in parts)
    return re.compile(text + r"\Z", re.DOTALL)


def _is_hash_of(hashed: str, name: str) -> bool:
    found = _salt_and_hash(hashed)
    return found is not None and _digest_test(name)(*found)


def _digest_test(name: str) -> Callable[[bytes, bytes], bool]:
    """Return a test whether a digest with a salt is that of the name."""
    from hmac import digest  # few files have hashed names, and every run loads this module

    # ssh-keygen -H hashes a name in lower case, and ssh looks for the name as given.
    own, lower = _encoded(name), _encoded(name.lower())

    def is_digest(salt: bytes, expected: bytes) -> bool:
        is_own = digest(salt, own, "sha1") == expected
        return is_own or (own != lower and digest(salt, lower, "sha1") == expected)

    return is_digest


def _is_unreadable_hash(names: str) -> bool:
    return names.startswith("|") and _salt_and_hash(names) is None


def _salt_and_hash(hashed: str) -> tuple[bytes, bytes] | None:
    try:
        salt, digest = (
            base64.b64decode(part, validate=True)
            for part in hashed.removeprefix(_HASH).split("|", 1)
        )
    except ValueError:
        return None
    is_sound = hashed.startswith(_HASH) and len(salt) == len(digest) == _HASH_BYTES
    return (salt, digest) if is_sound else None


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _may_end_with(field: str, name: str) -> bool:
    """Return True if the host's line may have been joined to the text before it."""
    start = field.rfind(_HASH)
    if start >= 0 and _is_hash_of(field[start:], name):
        return True
    return any(part.endswith(name.lower()) for part in field.lower().split(","))
