"""Files of a checkpoint that were not written to their end, as their formats tell.

A zip archive (torch.save, Keras, NumPy) has its directory at the end (APPNOTE.TXT section 4.3.16);
the header of a safetensors file says where its last tensor ends, the superblock of an HDF5 file
(format specification, section II.A) where the file ends; an index of shards names them, as does the
``.metadata`` of PyTorch's distributed checkpoints, a pickle.  Any other file counts as whole.

A host may send any content under these names: what does not follow its format counts as cut short.
"""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["cut_files"]

_ZIP = b"PK\x03\x04"
_LENGTH_BYTES = 8
_SAFETENSORS, _INDEX = ".safetensors", ".index.json"
_DISTRIBUTED = ".metadata"
_FIELDS = ("relative_path", "offset", "length")
#: A longer index is not read: its content takes up to a hundred times as much memory.
_MAX_INDEX_BYTES = 16 * 1024 * 1024
#: No header of a safetensors file is longer (its README, "Format").
_MAX_HEADER_BYTES = 100_000_000
#: A member of its header: a quotation mark within a text is escaped.
_OFFSETS = re.compile(rb'"data_offsets"\s*:\s*\[\s*[0-9]+\s*,\s*([0-9]{1,19})\s*\]')
_HDF5 = b"\x89HDF\r\n\x1a\n"
#: For each version of HDF5's superblock, counted from behind the signature: the place of the width
#: of addresses, and of the three addresses of which the last one is the end of the file.
_HDF5_PLACES = {0: (5, 16), 1: (5, 20), 2: (1, 4), 3: (1, 4)}


def cut_files(folder: Path, done: str | None) -> list[Path]:
    """Return the files below ``folder`` that are cut short, or an index that names missing ones.

    :param done: a further file that is read: the one written last, if it is JSON.
    """
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return [path for path in files if _is_cut(path, is_done=str(path).endswith(f"/{done}"))]


def _is_cut(path: Path, *, is_done: bool) -> bool:
    try:
        is_distributed = path.name == _DISTRIBUTED
        if is_distributed or path.name.endswith(_INDEX) or (is_done and path.suffix == ".json"):
            if path.stat().st_size > _MAX_INDEX_BYTES:
                return False
            index = path.read_bytes()
            return _lacks(path, _shard_lengths(index) if is_distributed else _shards(index))
        with path.open("rb") as file:
            if path.suffix == _SAFETENSORS:
                return path.stat().st_size < _length(file)
            start = file.read(len(_HDF5))
            if start == _HDF5:
                return path.stat().st_size < _hdf5_length(file)
            return start.startswith(_ZIP) and not zipfile.is_zipfile(file)
    except (ValueError, RecursionError, MemoryError, OverflowError, zipfile.BadZipFile):
        return True  # no JSON, no whole pickle; a length of 2**60 bytes


def _lacks(index: Path, lengths: dict[str, int]) -> bool:
    """Return whether a file that an index names is missing, or is shorter than the index tells."""
    files = ((index.parent / name, length) for name, length in lengths.items())
    try:
        return any(file.stat().st_size < length for file, length in files)
    except OSError:
        return True  # it is missing, or its name is too long for a file


def _shards(text: bytes) -> dict[str, int]:
    """Return the names of shards in an index, which does not tell their lengths: 0.

    :raises ValueError: it is no JSON, or a name in it is none.
    """
    content: Any = json.loads(text) if text.lstrip().startswith((b"{", b"[")) else None
    names = content.get("weight_map") if isinstance(content, dict) else None
    found = [*names.values()] if isinstance(names, dict) else []
    if not all(isinstance(name, str) for name in found):
        raise ValueError("a name that is no text")
    return dict.fromkeys(found, 0)


def _shard_lengths(index: bytes) -> dict[str, int]:
    """Return the lengths of the shards that a pickle names.

    It is not loaded, since it may hold any code: the fields of its ``_StorageInfo`` objects
    (torch/distributed/checkpoint/filesystem.py) are read from the list of its operations.

    :raises ValueError: it has no end.
    """
    memo: dict[Any, Any] = {}
    fields: dict[Any, Any] = {}
    lengths: dict[str, int] = {}
    last = None
    for opcode, argument, _ in pickletools.genops(index):
        if opcode.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if argument is None else argument] = last
            continue
        value = memo.get(argument) if opcode.name in ("BINGET", "LONG_BINGET") else argument
        if last in _FIELDS:
            fields[last] = value
            name, offset, length = map(fields.get, _FIELDS)
            if last == "length" and type(name) is str and type(offset) is type(length) is int:
                lengths[name] = max(lengths.get(name, 0), offset + length)
        last = value
    return lengths


def _hdf5_length(file: BinaryIO) -> int:
    """Return the length of an HDF5 file whose signature was read; 0: of an unknown version.

    :raises ValueError: it has no superblock.
    """
    head = file.read(64)
    if len(head) < 64:
        raise ValueError("cut within the superblock")
    if head[0] not in _HDF5_PLACES:
        return 0
    place_of_width, at = _HDF5_PLACES[head[0]]
    width = head[place_of_width]
    return int.from_bytes(head[at + 2 * width : at + 3 * width], "little")


def _length(file: BinaryIO) -> int:
    """Return the length of a safetensors file: its header's, and that of the tensors.

    :raises ValueError: the header is cut.
    """
    size = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    header = file.read(min(size, _MAX_HEADER_BYTES))
    if len(header) < size or not (header[:1] == b"{" and header.rstrip().endswith(b"}")):
        raise ValueError("cut within the header")
    return _LENGTH_BYTES + size + max((int(end) for end in _OFFSETS.findall(header)), default=0)
