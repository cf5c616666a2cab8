"""Find the hosts files.  Imports little: a shell's completion needs it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.local_user import expanded_home
from ringtasks.errors import InventoryError

__all__ = ["Located", "locate", "located_at", "trust"]

#: Ends of names of files that are no programs, although some file systems show all as executable.
_NO_PROGRAM = r"(?i)(\.(ya?ml|json|md|txt|rst|ini|cfg|toml|pem|key|pub|bak|orig|rej|pyc|log)|~)\Z"
#: The folders whose programs may run: those of the tasks.py files that Invoke has loaded.
_trusted: set[Path] = set()


class Located(NamedTuple):
    """The files of an inventory."""

    files: tuple[Path, ...]
    programs: tuple[Path, ...] = ()
    """Executable files of the folder, each of which prints hosts."""
    is_trusted: bool = False
    """True if programs may run for it."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The absolute paths of the files and programs."""
        return tuple(str(path.absolute()) for path in (*self.files, *self.programs))


def trust(folder: Path) -> None:
    """Let programs run for the inventory beside a ``tasks.py`` that was loaded, which is code."""
    _trusted.add(folder.resolve())


def located_at(paths: Iterable[str]) -> Located:
    """Return a trusted inventory from its `Located.paths`."""
    known = [Path(path) for path in paths]
    programs = tuple(path for path in known if _is_program(path))
    return Located(tuple(path for path in known if path not in programs), programs, True)


def locate(
    given: str | os.PathLike[str] | None, beside: Path | None = None, *, is_named: bool = True
) -> Located:
    """Return the files of an inventory, and whether programs may run for it.

    The inventory is ``given``, else ``RINGTASKS_HOSTS``, ``./hosts``, or that in ~/.config.
    Programs may run if it was named, lies in ``~/.config/ringtasks``, or beside a ``tasks.py`` that
    was loaded (`trust`): then no folder that a user happens to be in can run a program.

    :param beside: a folder whose ``hosts`` is used if there is no ``./hosts``.
    :param is_named: False if ``given`` comes from a file of the project.
    :raises InventoryError: there is none.
    """
    explicit = given or os.environ.get("RINGTASKS_HOSTS")
    if explicit:
        return _named(expanded_home(explicit), is_named=is_named or not given)
    for folder in (Path("hosts"), *([] if beside is None else [beside / "hosts"])):
        found = Located(*_in_folder(folder), _is_trusted(folder))
        if found.files or found.programs:
            return found
    own = Path("~/.config/ringtasks/hosts.yaml").expanduser()
    if own.is_file():
        return Located((own,), is_trusted=True)
    raise InventoryError(
        f"no inventory: looked for hosts/*.yaml here and for {own}; 'ringtasks "
        "init' writes one, --inventory names another; without one, a host is USER@HOST"
    )


def _named(path: Path, *, is_named: bool) -> Located:
    if not path.exists():
        raise InventoryError("no such file or folder", file=str(path))
    is_trusted = is_named or _is_trusted(path if path.is_dir() else path.parent)
    if not path.is_dir():
        is_program = _is_program(path)
        return Located(() if is_program else (path,), (path,) if is_program else (), is_trusted)
    found = Located(*_in_folder(path), is_trusted)
    if not found.files and not found.programs:
        raise InventoryError("no *.yaml in this folder", file=str(path))
    return found


def _is_trusted(folder: Path) -> bool:
    place = folder.resolve()
    return place.parent in _trusted or place == Path("~/.config/ringtasks").expanduser().resolve()


def _in_folder(folder: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the hosts files of a folder, and its programs."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    real = [path for path in entries if "example" not in path.name.split(".")[1:][-2:]]
    files = tuple(path for path in real if path.suffix in (".yaml", ".yml"))
    return files, tuple(path for path in real if path.name[0] != "." and _is_program(path))


def _is_program(path: Path) -> bool:
    # Nearly no file is executable, so the pattern is compiled last.
    is_executable = path.is_file() and os.access(path, os.X_OK)
    return is_executable and not re.search(_NO_PROGRAM, path.name)
