"""Files of a checkpoint that were not written to their end, as their formats tell.

A zip archive (torch.save, Keras, NumPy) has its directory at the end (APPNOTE.TXT section 4.3.16);
the header of a safetensors file says where its last tensor ends; an index of shards names them.
Any other file counts as whole.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["cut_files"]

_ZIP = b"PK\x03\x04"
_LENGTH_BYTES = 8
_SAFETENSORS, _INDEX = ".safetensors", ".index.json"


def cut_files(folder: Path, done: str | None) -> list[Path]:
    """Return the files below ``folder`` that are cut short, or an index that names missing ones.

    :param done: a further file that is read: the one written last, if it is JSON.
    """
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return [path for path in files if _is_cut(path, is_done=str(path).endswith(f"/{done}"))]


def _is_cut(path: Path, *, is_done: bool) -> bool:
    try:
        if path.name.endswith(_INDEX) or (is_done and path.suffix == ".json"):
            return not all((path.parent / name).exists() for name in _shards(path))
        with path.open("rb") as file:
            if path.suffix == _SAFETENSORS:
                return path.stat().st_size < _length(file)
            return file.read(len(_ZIP)) == _ZIP and not zipfile.is_zipfile(file)
    except ValueError:  # no JSON
        return True


def _shards(index: Path) -> set[str]:
    text = index.read_bytes()
    content: Any = json.loads(text) if text.lstrip().startswith((b"{", b"[")) else None
    names = content.get("weight_map") if isinstance(content, dict) else None
    return {*names.values()} if isinstance(names, dict) else set()


def _length(file: BinaryIO) -> int:
    """Return the length of a safetensors file: its header's, and that of the tensors.

    :raises ValueError: the header is cut.
    """
    start = file.read(_LENGTH_BYTES)
    size = int.from_bytes(start, "little")
    header: dict[str, Any] = json.loads(file.read(size))
    ends = (own["data_offsets"][1] for name, own in header.items() if name != "__metadata__")
    return _LENGTH_BYTES + size + max(ends, default=0)
