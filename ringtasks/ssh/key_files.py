"""The fault of a private key file, and the command that fixes it.

ssh(1) ignores a key file that it cannot use and goes on without it, so the log-in ends with
"Permission denied": the reason has to be found in the file itself.
"""

from __future__ import annotations

import re
import shlex
import stat
from pathlib import Path
from typing import NamedTuple

__all__ = ["KeyProblem", "problem_of"]

_MAX_BYTES = 64 * 1024
_PUBLIC = re.compile(rb"(ssh-|ecdsa-|sk-|---- BEGIN SSH2 PUBLIC|-----BEGIN PUBLIC)")


class KeyProblem(NamedTuple):
    """``what`` completes "the key file …"; ``fix`` is a command or a setting to change."""

    what: str
    fix: str


def problem_of(path: Path) -> KeyProblem | None:
    """Return the reason for which ssh cannot use a private key file; None if none is found.

    A passphrase is not a fault of the file.
    """
    quoted = shlex.quote(str(path))
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return KeyProblem("is a folder", "set ssh_key to the file of a private key")
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES)
    except FileNotFoundError:
        return KeyProblem("does not exist", "set ssh_key to the file of a private key")
    except OSError as error:
        return KeyProblem(f"cannot be read: {error.strerror}", f"look at: ls -l {quoted}")
    return _problem_of_text(text, path, quoted) or _problem_of_mode(mode, quoted)


def _problem_of_text(text: bytes, path: Path, quoted: str) -> KeyProblem | None:
    if _PUBLIC.match(text):
        private = str(path).removesuffix(".pub")
        return KeyProblem("is a public key", f"set ssh_key to the private key, {private}")
    if text.startswith(b"PuTTY-User-Key-File"):
        fix = f"puttygen {quoted} -O private-openssh -o {quoted}.openssh"
        return KeyProblem("has PuTTY's format", fix)
    if b"PRIVATE KEY-----" not in text:
        return KeyProblem("is not a private key", "set ssh_key to the file of a private key")
    if b"\r" in text:
        return KeyProblem("has Windows line ends (CRLF)", f"sed -i 's/\\r$//' {quoted}")
    if not text.endswith(b"\n"):
        return KeyProblem("lacks its final newline", f"echo >> {quoted}")
    return None


def _problem_of_mode(mode: int, quoted: str) -> KeyProblem | None:
    if not mode & 0o077:  # authfile.c, sshkey_perm_ok
        return None
    shown = f"{stat.S_IMODE(mode):04o}"
    return KeyProblem(f"has mode {shown}: too open, ssh ignores it", f"chmod 600 {quoted}")
