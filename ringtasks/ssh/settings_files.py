"""The settings files of ssh: the ones that are read, their versions and texts.

Every run looks at them; OpenSSH is asked (`evaluated_config`) only if they may change something.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import pwd
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ringtasks.common import one_look
from ringtasks.common.local_user import expanded_home
from ringtasks.common.regular_file import read_regular
from ringtasks.inventory.state_files import state_folder

from . import openssh

__all__ = [
    "NO_FILE",
    "SYSTEM_FILE",
    "Version",
    "absolute",
    "file_arguments",
    "files_of",
    "ignored_by_paramiko",
    "include_patterns",
    "is_configured",
    "joined_file",
    "joined_path",
    "local_user",
    "mentions",
    "passwd_home",
    "read_files",
    "text_of",
    "user_file",
    "version_of",
    "versions_of",
]

#: Of a file: changes when it is written or replaced; None: it is not there.
Version = tuple[int, ...] | None

#: In place of a file: no settings but those on the command line (ssh(1), ``-F``).
NO_FILE = "none"
SYSTEM_FILE = Path("/etc/ssh/ssh_config")
_SYSTEM_FOLDER = str(SYSTEM_FILE.parent)
#: A system file with only these lines changes nothing here: Debian's default.
_HARMLESS = (
    ["host", "*"],
    ["include", "/etc/ssh/ssh_config.d/*.conf"],
    ["sendenv", "lang", "lc_*"],
)
#: The first words of lines that change nothing whatever follows.
_HARMLESS_KEYWORDS = ("hashknownhosts", "gssapiauthentication")
#: Paramiko takes such a block for one that matches always.
_UNREAD_MATCH = r"(?im)^\s*match\b.*\s!?(tagged|localnetwork|version|command|sessiontype)\b"
_MOST_INCLUDES = 8  # levels of Include
_INCLUDE = r"(?im)^(\s*include[\s=]+)(.+)$"
_WORD = r'"([^"]*)"|(\S+)'


@one_look.kept
def file_arguments(file: str | None = None) -> tuple[str, ...]:
    """Return the arguments that make any ``ssh`` read the files of ``$HOME`` and of the system.

    :param file: the file to read instead.
    """
    if file is not None:
        return ("-F", file if file == NO_FILE else absolute(file))
    if not is_configured():
        return ()
    home, of_ssh = os.environ.get("HOME", ""), passwd_home()
    if not home or home == of_ssh:
        return ()
    # A relative pattern in the system's file means another folder if that file is included.
    if not any(version_of(str(file)) for file in (user_file(), _user_file(of_ssh))):
        return ()
    return ("-F", str(joined_file(home)))


@one_look.kept
def is_configured(file: str | None = None) -> bool:
    """Return False if no file can change how a host is reached.

    :param file: the file that is read instead of the user's and the system's.
    """
    if file is not None:
        return file != NO_FILE
    is_own = version_of(str(user_file())) is not None  # ssh, too, leaves out what it cannot reach
    return is_own or _is_system_configured(version_of(str(SYSTEM_FILE)))


@one_look.kept
def files_of(file: str | None) -> tuple[str, ...]:
    """Return the paths of the files that are read, the first to count in front.

    :param file: `SSHConfig.ssh_config_file`.
    """
    if file == NO_FILE:
        return ()
    return (str(user_file()), str(SYSTEM_FILE)) if file is None else (absolute(file),)


def read_files(config_file: str | None) -> list[str]:
    """Return the paths of ssh's settings files (ssh_config(5), FILES), included ones too.

    :param config_file: `SSHConfig.ssh_config_file`.
    """
    return [
        found
        for file in files_of(config_file)
        for found in (file, *_included(file, _include_folder(file, config_file), _MOST_INCLUDES))
    ]


@one_look.kept
def mentions(keywords: tuple[str, ...], config_file: str | None) -> bool:
    """Return True if a settings file holds one of the keywords, for whatever host."""
    return any(_mentions(keywords, file, version_of(file)) for file in read_files(config_file))


def ignored_by_paramiko(config_file: str | None) -> str:
    """Return the settings that Paramiko's parser does not understand; empty: there is none."""
    found = [file for file in read_files(config_file) if file not in files_of(config_file)]
    lines = ["Include"] if found else []
    if any(re.search(_UNREAD_MATCH, text_of(file)) for file in files_of(config_file)):
        lines.append("Match by version, tag, network, command or session")
    return " and ".join(lines)


def include_patterns(file: str) -> tuple[str, ...]:
    """Return the patterns of a file's ``Include`` lines, with whole paths.

    A relative one is for the folder of the file that ssh began with, so it is returned for each.
    """
    folders = dict.fromkeys((user_file().parent, SYSTEM_FILE.parent))
    found = (pattern for folder in folders for pattern in _patterns(file, folder, version_of(file)))
    return tuple(dict.fromkeys(found))


def joined_file(home: str) -> Path:
    """Return a file that includes the user's file below ``home``, then the system's.

    :raises OSError: it cannot be written.
    """
    text = _with_home(text_of(str(user_file())), home) + f"\nMatch all\nInclude {SYSTEM_FILE}\n"
    path = joined_path()
    with contextlib.suppress(OSError):
        if read_regular(path) == text.encode() and path.stat().st_uid == os.getuid():
            return path
    from ringtasks.common.atomic_file import replace_file  # most runs write none

    replace_file(path, text)
    return path


def joined_path() -> Path:
    """Return the path of `joined_file`, in the state folder if that can be used."""
    folder = state_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        import tempfile  # seldom needed, and every run loads this module

        folder = Path(tempfile.gettempdir())
    return folder / f"ssh_config-{os.getuid()}"


def _with_home(text: str, home: str) -> str:
    """Return the text of a user's file, its patterns below the home folder made absolute."""

    def absolute(line: re.Match[str]) -> str:
        return line[1] + " ".join(f'"{_absolute(word, home)}"' for word in _words(line[2]))

    return re.sub(_INCLUDE, absolute, text)


@functools.lru_cache(maxsize=64)
def _mentions(keywords: tuple[str, ...], file: str, version: Version) -> bool:
    text, words = _known_text(file, version).lower(), tuple(word.lower() for word in keywords)
    # No regular expression: to compile it takes longer than to look at usual files.
    return any(word in text for word in words) and any(
        line.lstrip().startswith(words) for line in text.splitlines()
    )


def _include_folder(file: str, config_file: str | None) -> Path:
    """Return the folder of relative patterns (ssh_config(5), Include) in a file of `files_of`."""
    is_system = config_file is None and file == str(SYSTEM_FILE)
    return SYSTEM_FILE.parent if is_system else user_file().parent


def _included(file: str, folder: Path, depth: int) -> Iterator[str]:
    for pattern in _patterns(file, folder, version_of(file)):
        for found in sorted(glob.glob(pattern)):  # noqa: PTH207  # a whole path, for each command
            yield found
            if depth:
                yield from _included(found, folder, depth - 1)


@functools.lru_cache(maxsize=64)
def _patterns(file: str, folder: Path, version: Version) -> tuple[str, ...]:
    text = _known_text(file, version)
    if "include" not in text.lower():  # the pattern takes longer to compile than to apply
        return ()
    words = (word for _, line in re.findall(_INCLUDE, text) for word in _words(line))
    return tuple(str(folder / expanded_home(word)) for word in words)


@functools.lru_cache(maxsize=64)
def _known_text(file: str, _version: Version) -> str:
    """Return the text of one version of a file, which is read once for all that look at it."""
    try:
        return Path(file).read_bytes().decode(errors="replace")  # a lone CR ends no line for ssh
    except OSError:
        return ""


def user_file() -> Path:
    """Return the path of the user's file (ssh_config(5), FILES), below ``$HOME``."""
    return _user_file(os.environ.get("HOME"))


@functools.lru_cache(maxsize=4)
def _user_file(home: str | None) -> Path:
    return Path(home or passwd_home() or "/") / ".ssh" / "config"


def absolute(file: str) -> str:
    """Return the path of ``file`` for an ssh that is started in another folder."""
    return str(expanded_home(file).absolute())


def passwd_home() -> str | None:
    """Return the home folder in which ssh looks for its files; None: this user has no entry."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container
        return None


def local_user() -> str | None:
    """Return this user's name in the passwd file."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return None


@one_look.kept
def version_of(file: str) -> Version:
    """Return a value that changes when the file is written or replaced."""
    try:
        status = os.stat(file)  # noqa: PTH116  # for each link of a fleet
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


@one_look.kept
def versions_of(files: tuple[str, ...]) -> Mapping[str, Version]:
    """Return the version of each file, and of the ``ssh`` that reads them."""
    program = openssh.program() or "ssh"
    return {file: version_of(file) for file in (program, *files)}


def text_of(file: str) -> str:
    """Return the file's text; empty if it cannot be read."""
    return _known_text(file, version_of(file))


@functools.lru_cache(maxsize=4)
def _is_system_configured(_version: object) -> bool:
    files = [SYSTEM_FILE, *Path("/etc/ssh/ssh_config.d").glob("*.conf")]
    lines = (line for file in files for line in text_of(str(file)).lower().splitlines())
    return not all(_is_harmless(line.split()) for line in lines)


def _is_harmless(words: list[str]) -> bool:
    is_empty = not words or words[0].startswith("#")
    return is_empty or words in _HARMLESS or (len(words) == 2 and words[0] in _HARMLESS_KEYWORDS)


def _words(line: str) -> list[str]:
    return [quoted or plain for quoted, plain in re.findall(_WORD, line)]


def _absolute(word: str, home: str) -> str:
    if word.startswith("~/"):
        return f"{home}/{word[2:]}"
    # "~user", and what only newer releases of ssh expand, is left to it.
    return word if word.startswith(("/", "~", "%", "$")) else f"{home}/.ssh/{word}"
