"""An SFTP server that tells what it was told to, however impossible that is.

It is started by a real sshd as its ``Subsystem sftp`` (`HostileTree.subsystem`), so that what it
says passes the same way as any host's. It keeps nothing and writes nothing.

Source: draft-ietf-secsh-filexfer-02.
"""

from __future__ import annotations

import json
import posixpath
import random
import stat
import struct
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["Entry", "HostileTree", "random_tree"]

_INIT, _VERSION, _STATUS, _HANDLE, _DATA, _NAME, _ATTRS = 1, 2, 101, 102, 103, 104, 105
_OPEN, _CLOSE, _READ, _LSTAT, _FSTAT, _OPENDIR, _READDIR = 3, 4, 5, 7, 8, 11, 12
_REALPATH, _STAT, _READLINK = 16, 17, 19
_OK, _EOF, _NO_SUCH_FILE, _UNSUPPORTED = 0, 1, 2, 8
_KINDS = {
    "file": stat.S_IFREG, "folder": stat.S_IFDIR, "link": stat.S_IFLNK, "pipe": stat.S_IFIFO,
    "device": stat.S_IFCHR, "socket": stat.S_IFSOCK, "none": 0,
}  # fmt: skip
_NAMES_AT_ONCE = 100

#: Names of a `random_tree`; few, so that many entries have the same. Bytes, as text in Latin-1.
_NAMES = (
    "a", "A", "b", "tasks.py", "invoke.yaml", ".git", "..", ".", "-", "-rf", "\n", "a\nb", "x\0y",
    "~", "\xc3\xa9", "e\xcc\x81", "\xff\xfe", "\x1b[2J", "x" * 255, "y" * 4096, "../tasks.py",
    "/etc/x", ".ringtasks-incoming-0123456789abcdef", ".ringtasks-partial", "*", "$(id)", "CON",
)  # fmt: skip
_TARGETS = (
    "..", "../..", "a", "b/..", "a/../..", "/", "/etc/passwd", "../tasks.py", "../../tasks.py", "",
    ".", "./a/./../..", "x" * 5000, "\0", "../../outside/file", "a/b/../../../tasks.py",
)  # fmt: skip


@dataclass
class Entry:
    """One thing that the server tells of; two may have the same path.

    :param path: below the server's root; its bytes are the text's in Latin-1, so that any name can
        be told.
    :param kind: a key of `_KINDS`.
    :param text: a file's content, or a link's target.
    :param announced: the size that is told; None: the true one.
    :param endless: reading a file, or listing a folder, never ends.
    :param listed_as: the name in the listing of its folder; None: the path's last part.
    """

    path: str
    kind: str = "file"
    text: str = ""
    mode: int = 0o644
    announced: int | None = None
    modified: int = 1_600_000_000
    endless: bool = False
    listed_as: str | None = None

    def attributes(self) -> bytes:
        size = len(self.text) if self.announced is None else self.announced
        plain = 0o755 if self.kind == "folder" and self.mode == 0o644 else self.mode
        mode = _KINDS[self.kind] | plain
        return struct.pack(">IQIII", 0x0D, size, mode, self.modified, self.modified)


def random_tree(top: str, chance: random.Random) -> list[Entry]:
    """Return a folder ``top`` with entries that no file system holds."""
    folders = [top]
    entries = [Entry(top, "folder", endless=chance.random() < 0.02)]
    for _ in range(chance.randint(1, 12)):
        name = chance.choice(_NAMES)
        plain = name.replace("/", "_")
        place = f"{chance.choice(folders)}/{plain}"
        kind = chance.choice(("file", "file", "folder", "folder", "link", "link", *_KINDS))
        if kind == "folder" and plain not in (".", ".."):
            folders.append(place)
        entries.append(
            Entry(
                place,
                kind,
                chance.choice(_TARGETS) if kind == "link" else "evil()",
                mode=chance.choice((0o644, 0, 0o7777, 0o4755, 0o177777)),
                announced=chance.choice((None, None, None, 0, 5, 2**31, 2**56, 2**64 - 1)),
                modified=chance.choice((0, 1_600_000_000, 2**32 - 1)),
                endless=kind == "file" and chance.random() < 0.05,
                listed_as=name,
            )
        )
    chance.shuffle(entries)
    return entries


class HostileTree:
    """The entries of one server, in a file that it reads.

    :param file: where that is; it is written by `tell`.
    :param root: the path on the host that the entries' paths begin at.
    """

    def __init__(self, file: Path, root: Path) -> None:
        self._file, self.root = file, root
        self.tell([])

    @property
    def subsystem(self) -> str:
        """For ``Sshd(sftp=…)``."""
        return f"{sys.executable} {__file__} {self._file}"

    def tell(self, entries: Sequence[Entry]) -> None:
        """Sessions that are opened from now on tell of these."""
        told = [{**asdict(entry), "path": f"{self.root}/{entry.path}"} for entry in entries]
        self._file.write_text(json.dumps(told))


class _Server:
    def __init__(self, entries: Sequence[Entry], source: BinaryIO, sink: BinaryIO) -> None:
        self._entries, self._source, self._sink = entries, source, sink
        self._handles: list[Any] = []

    def run(self) -> None:
        while head := self._source.read(5):
            size, kind = struct.unpack(">IB", head)
            body = self._source.read(size - 1)
            if kind == _INIT:
                self._send(_VERSION, struct.pack(">I", 3))
                continue
            number, rest = body[:4], body[4:]
            answer, content = self._answer(kind, rest)
            self._send(answer, number + content)

    def _answer(self, kind: int, rest: bytes) -> tuple[int, bytes]:
        text, after = _string(rest) if kind < 200 else (b"", b"")
        if kind in (_CLOSE,):
            return _status(_OK)
        if kind == _READ:
            return self._read(int.from_bytes(text, "big"), *struct.unpack(">QI", after))
        if kind == _READDIR:
            return self._names(int.from_bytes(text, "big"))
        if kind == _FSTAT:
            return _ATTRS, self._handles[int.from_bytes(text, "big")].attributes()
        path = _normal(text.decode("latin-1"))
        if kind == _REALPATH:
            return _NAME, struct.pack(">I", 1) + _packed(path) * 2 + struct.pack(">I", 0)
        kinds = {
            _OPEN: ("file",),
            _OPENDIR: ("folder",),
            _READLINK: ("link",),
            _STAT: tuple(kind for kind in _KINDS if kind != "link"),
            _LSTAT: tuple(_KINDS),
        }.get(kind)
        if kinds is None:
            return _status(_UNSUPPORTED)
        entry = self._find(path, kinds)
        if entry is None:
            return _status(_NO_SUCH_FILE)
        if kind == _READLINK:
            told = _packed(entry.text) * 2 + struct.pack(">I", 0)
            return _NAME, struct.pack(">I", 1) + told
        if kind in (_STAT, _LSTAT):
            return _ATTRS, entry.attributes()
        self._handles.append(self._listing(path, entry) if kind == _OPENDIR else entry)
        return _HANDLE, _packed((len(self._handles) - 1).to_bytes(4, "big").decode("latin-1"))

    def _find(self, path: str, kinds: Sequence[str]) -> Entry | None:
        found = [entry for entry in self._entries if _normal(entry.path) == path]
        return next((entry for entry in found if entry.kind in kinds), None)

    def _listing(self, path: str, folder: Entry) -> Any:
        inside = [
            entry
            for entry in self._entries
            if posixpath.dirname(_normal(entry.path)) == path and _normal(entry.path) != path
        ]

        def listed() -> Any:
            yield from inside
            number = 0
            while folder.endless:
                number += 1
                yield Entry(f"{path}/{number}", "folder", endless=True)

        return listed()

    def _names(self, handle: int) -> tuple[int, bytes]:
        entries = self._handles[handle]
        told = [entry for entry, _ in zip(entries, range(_NAMES_AT_ONCE), strict=False)]
        if not told:
            return _status(_EOF)
        parts = []
        for entry in told:
            name = entry.listed_as or posixpath.basename(entry.path)
            parts.append(_packed(name) * 2 + entry.attributes())
        return _NAME, struct.pack(">I", len(told)) + b"".join(parts)

    def _read(self, handle: int, offset: int, size: int) -> tuple[int, bytes]:
        entry = self._handles[handle]
        content = entry.text.encode("latin-1")
        piece = b"x" * size if entry.endless else content[offset : offset + size]
        if not piece:
            return _status(_EOF)
        return _DATA, struct.pack(">I", len(piece)) + piece

    def _send(self, kind: int, body: bytes) -> None:
        self._sink.write(struct.pack(">IB", len(body) + 1, kind) + body)
        self._sink.flush()


def _normal(path: str) -> str:
    return posixpath.normpath(posixpath.join("/", path))


def _packed(text: str) -> bytes:
    raw = text.encode("latin-1")
    return struct.pack(">I", len(raw)) + raw


def _string(data: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:4], "big")
    return data[4 : 4 + size], data[4 + size :]


def _status(code: int) -> tuple[int, bytes]:
    return _STATUS, struct.pack(">I", code) + _packed("told") + _packed("")


def _main() -> None:
    told = json.loads(Path(sys.argv[1]).read_text())
    _Server([Entry(**entry) for entry in told], sys.stdin.buffer, sys.stdout.buffer).run()


if __name__ == "__main__":
    _main()
