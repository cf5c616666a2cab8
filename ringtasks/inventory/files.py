"""Find the hosts files.  Imports little: a shell's completion needs it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ringtasks.errors import InventoryError

__all__ = ["find_files"]


def find_files(given: str | os.PathLike[str] | None, beside: Path | None = None) -> list[Path]:
    """Return the hosts files: ``given``, else ``RINGTASKS_HOSTS``, ``./hosts``, or ~/.config.

    :param beside: a folder whose ``hosts`` is used if there is no ``./hosts``.
    :raises InventoryError: there is none.
    """
    explicit = given or os.environ.get("RINGTASKS_HOSTS")
    if explicit:
        path = Path(explicit).expanduser()
        files = _in_folder(path) if path.is_dir() else [path]
        if not path.exists():
            raise InventoryError("no such file or folder", file=str(path))
        if not files:
            raise InventoryError("no *.yaml in this folder", file=str(path))
        return files
    files = _in_folder(Path("hosts"))
    if not files and beside is not None:
        files = _in_folder(beside / "hosts")
    own = Path("~/.config/ringtasks/hosts.yaml").expanduser()
    if not files and own.is_file():
        files = [own]
    if not files:
        raise InventoryError(
            f"no inventory: looked for hosts/*.yaml here and for {own}; write one (see "
            "hosts/distributed_hosts.example.yaml), or name one with --inventory"
        )
    return files


def _in_folder(folder: Path) -> list[Path]:
    found = [*folder.glob("*.yaml"), *folder.glob("*.yml")]
    return sorted(path for path in found if not re.search(r"\.example\.ya?ml$", path.name))
