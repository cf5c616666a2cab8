"""The fault of a private key file, and the command that fixes it.

ssh(1) ignores a key file that it cannot use and goes on without it, so the log-in ends with
"Permission denied": the reason has to be found in the file itself.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import os
import re
import shlex
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ringtasks.common import one_look
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.local_user import expanded_home
from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import SSHConfig, expand

from .openssh import run

__all__ = [
    "ENCRYPTED",
    "PUBLIC",
    "KeyProblem",
    "existing_key_file",
    "is_for_device",
    "is_known",
    "keys_in_agent",
    "no_file",
    "problem_of",
    "problem_of_certificate",
    "why_refused",
]

PUBLIC = "is a public key"  # a KeyProblem; with an agent it is none, but names a key of it
ENCRYPTED = "is encrypted"
_MAX_BYTES = 64 * 1024
_PUBLIC = rb"(ssh-|ecdsa-|sk-|---- BEGIN SSH2 PUBLIC|-----BEGIN PUBLIC)"
_BEGIN = rb"(?m)^(?:\xef\xbb\xbf|[ \t])*-----BEGIN (?:\w+ )*PRIVATE KEY-----"
_END = rb"-----END (?:\w+ )*PRIVATE KEY-----"
_OPENSSH = rb"(?s)-----BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END OPENSSH PRIVATE KEY-----"
_SPACES = rb"(?m)^[ \t]+\S|\S[ \t]+$"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAGIC = b"openssh-key-v1\0"  # PROTOCOL.key
_PUBLIC_FIELD = 3  # of `_fields`
_NEW_FILE = "set ssh_key to the file of a private key"
_OTHER_KIND = "use a key of another kind: ssh-keygen -t ed25519"
_AGENT_TIMEOUT = 5.0  # seconds; an agent that does not answer holds no key
_COPY_AGAIN = "copy it again from where it was made, and compare: ssh-keygen -l -f {file}"


class KeyProblem(NamedTuple):
    """``what`` completes "the key file …"; ``fix`` is a command or a setting to change."""

    what: str
    fix: str


def existing_key_file(config: SSHConfig) -> Path | None:
    """Return the path of the host's key file; None if the host names none.

    :raises UsageError: it is not there, or it is not a file.
    """
    if not config.key_path:
        return None
    file = expanded_home(expand(config.key_path))
    if problem := no_file(file):
        if os.path.isdir(file):  # noqa: PTH112  # is_dir raises for a path that is too long
            raise UsageError(f"{config.id}: ssh_key: {file} is a folder: {_NEW_FILE}")
        raise UsageError(f"{config.id}: ssh_key: {problem}: {_NEW_FILE}")
    return file


def is_known(path: Path) -> bool:
    """Return True if a private key is there, or its public key, which an agent may know."""
    return path.exists() or Path(f"{path}.pub").exists()


@one_look.kept
def no_file(path: Path) -> str | None:
    """Return the reason for which a path is that of no file; None: it is that of a file."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"no such file: {path}"
    except OSError as error:
        return f"{error.strerror}: {path}"
    if stat.S_ISDIR(mode):
        return f"a folder, not a file: {path}"
    return None if stat.S_ISREG(mode) else f"no such file: {path}"


def problem_of(path: Path) -> KeyProblem | None:
    """Return the reason for which ssh cannot use a private key file; None if none is found.

    A passphrase is not a fault of the file.
    """
    quoted = shlex.quote(str(path))
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return KeyProblem("is a folder", _NEW_FILE)
        if not stat.S_ISREG(mode):  # a FIFO would block
            return KeyProblem("is not a regular file", _NEW_FILE)
        text = _text_of(path)
    except FileNotFoundError:
        return KeyProblem("does not exist", _NEW_FILE)
    except OSError as error:
        return KeyProblem(f"cannot be read: {error.strerror}", f"look at: ls -l {quoted}")
    return _problem_of_text(text, path, quoted) or _problem_of_mode(mode, quoted)


def why_refused(path: Path) -> KeyProblem | None:
    """Return the reason for which a log-in went on without the key; None if none is found.

    Beside the faults of the file that is a passphrase, which ssh cannot ask for, the kind of the
    key, or a certificate or a public key beside the file.
    """
    found = (
        problem_of(path)
        or problem_of_certificate(Path(f"{path}-cert.pub"))
        or _problem_of_public_key(path)
    )
    if found is not None:
        return found
    text = _text_of(path)
    if b"BEGIN DSA PRIVATE KEY" in text or b"\0\0\0\x07ssh-dss" in (_blob_of(text) or b""):
        return KeyProblem("is a DSA key, which ssh does not offer", _OTHER_KIND)
    if _needs_passphrase(text) and not _is_in_agent(path, text):
        start = "" if os.environ.get("SSH_AUTH_SOCK") else 'eval "$(ssh-agent -s)"; '
        return KeyProblem(ENCRYPTED, f"{start}ssh-add {shlex.quote(str(path))}")
    return None


def keys_in_agent(socket: str | None = None) -> list[bytes]:
    """Return the public keys that an agent lists (``ssh-add -L``), in base64.

    :param socket: in place of ``SSH_AUTH_SOCK``; empty: there is no agent.
    """
    if socket == "":
        return []
    try:
        own = {} if socket is None else {"SSH_AUTH_SOCK": socket}
        done = run(["ssh-add", "-L"], _AGENT_TIMEOUT, os.environ | own)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return [line.split()[1] for line in lines if len(line.split()) > 1]


def _is_in_agent(path: Path, text: bytes) -> bool:
    """Return True if the agent holds the key: then the file's passphrase does not matter."""
    fields = list(_fields(_blob_of(text) or b""))
    if len(fields) > _PUBLIC_FIELD:
        own = base64.b64encode(fields[_PUBLIC_FIELD])
    else:  # the public part of another format is encrypted, too
        try:
            _, own, *_ = _text_of(Path(f"{path}.pub")).split()
        except (OSError, ValueError):
            return False
    return own in keys_in_agent()


def problem_of_certificate(path: Path) -> KeyProblem | None:
    """Return the reason for which a host refuses a user's certificate; None if none is found."""
    from .certificates import why_unusable

    try:
        fault = why_unusable(_text_of(path), time.time())
    except OSError:
        return None  # most keys have none
    shown = f"ssh-keygen -L -f {shlex.quote(str(path))}"
    what = f"has a certificate that {fault}"
    return KeyProblem(what, f"get a new one; this shows it: {shown}") if fault else None


def _problem_of_public_key(path: Path) -> KeyProblem | None:
    """Return a problem if the public key beside the file is another one: ssh offers that one.

    It uses the private key only after the host has accepted the public key (sshconnect2.c).
    """
    try:
        _, offered, *_ = _text_of(Path(f"{path}.pub")).split()
        own = list(_fields(_blob_of(_text_of(path)) or b""))
        is_other = len(own) > _PUBLIC_FIELD and base64.b64decode(offered) != own[_PUBLIC_FIELD]
    except (OSError, ValueError):  # most of them: there is none
        return None
    quoted = shlex.quote(str(path))
    fix = f"ssh-keygen -y -f {quoted} > {quoted}.pub"
    return KeyProblem("has the public key of another one beside it", fix) if is_other else None


def _text_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES)


def _problem_of_text(text: bytes, path: Path, quoted: str) -> KeyProblem | None:
    if not text.strip():
        return KeyProblem("is empty", _COPY_AGAIN.format(file=quoted))
    if re.match(_PUBLIC, text):
        private = str(path).removesuffix(".pub").removesuffix("-cert")
        return KeyProblem(PUBLIC, f"set ssh_key to the private key, {private}")
    if text.startswith(b"PuTTY-User-Key-File"):
        fix = f"puttygen {quoted} -O private-openssh -o {quoted}.openssh"
        return KeyProblem("has PuTTY's format", fix)
    if text.startswith(b"---- BEGIN SSH2 ENCRYPTED PRIVATE"):
        return KeyProblem("has ssh.com's format", f"ssh-keygen -i -f {quoted} > {quoted}.openssh")
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # PowerShell's ">" writes it
        fix = f"key=$(iconv -f UTF-16 -t UTF-8 {quoted}) && echo \"$key\" | tr -d '\\r' > {quoted}"
        return KeyProblem("is encoded in UTF-16", fix)
    if not re.search(_BEGIN, text):
        return KeyProblem("is not a private key", _NEW_FILE)
    if b"\\n" in text and b"\n" not in text.strip():
        fix = f"sed -i 's/\\\\n/\\n/g' {quoted}"
        return KeyProblem("has '\\n' written out in place of line ends", fix)
    if b"\r" in text:
        return KeyProblem("has Windows line ends (CRLF)", f"sed -i 's/\\r$//' {quoted}")
    if problem := _problem_of_layout(text, quoted):
        return problem
    if not re.search(_END, text):
        return KeyProblem("is cut off: its END line is missing", _COPY_AGAIN.format(file=quoted))
    if not _is_whole(text):
        return KeyProblem("is damaged: lines are missing", _COPY_AGAIN.format(file=quoted))
    if not text.endswith(b"\n"):
        return KeyProblem("lacks its final newline", f"echo >> {quoted}")
    return None


def _problem_of_layout(text: bytes, quoted: str) -> KeyProblem | None:
    """Return the fault of bytes around the lines of a key in OpenSSH's format.

    ssh wants its first line at the beginning of the file (sshkey.c, private2_uudecode); OpenSSL,
    which reads the other formats, skips what is before it.
    """
    if not re.search(_OPENSSH, text):
        return None
    if text.startswith(_BYTE_ORDER_MARK):
        fix = f"sed -i '1s/^\\xEF\\xBB\\xBF//' {quoted}"
        return KeyProblem("begins with a byte order mark", fix)
    if b"\n" not in text.strip():
        fix = f"sed -i 's/KEY----- */KEY-----\\n/g; s/ *-----END/\\n-----END/' {quoted}"
        return KeyProblem("has spaces in place of its line ends", fix)
    if re.search(_SPACES, text):
        fix = f"sed -i 's/^[ \\t]*//; s/[ \\t]*$//' {quoted}"
        return KeyProblem("has spaces at the ends of its lines", fix)
    if not re.match(_BEGIN, text):
        fix = f"sed -i '/-----BEGIN/,$!d' {quoted}"
        return KeyProblem("has other lines before its BEGIN line", fix)
    return None


def _problem_of_mode(mode: int, quoted: str) -> KeyProblem | None:
    if not mode & 0o077:  # authfile.c, sshkey_perm_ok
        return None
    shown = f"{stat.S_IMODE(mode):04o}"
    return KeyProblem(f"has mode {shown}: too open, ssh ignores it", f"chmod 600 {quoted}")


def _is_whole(text: bytes) -> bool:
    """Return False if a key in OpenSSH's format ends before its last field."""
    blob = _blob_of(text)
    return blob is None or len(list(_fields(blob))) >= 5  # see `_fields`


def _needs_passphrase(text: bytes) -> bool:
    blob = _blob_of(text)
    if blob is not None:
        return next(_fields(blob), b"none") != b"none"
    # RFC 1421 section 4.6.1.1 (PEM), RFC 5958 section 3 (PKCS #8)
    return b"Proc-Type: 4,ENCRYPTED" in text or b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in text


def is_for_device(text: bytes) -> bool:
    """Return True if the private part of a key is in a FIDO device (OpenSSH's PROTOCOL.u2f)."""
    return re.search(rb"\0\0\0.sk-(ssh|ecdsa)-", _blob_of(text) or b"", re.DOTALL) is not None


def _blob_of(text: bytes) -> bytes | None:
    """Return the decoded content of a key in OpenSSH's format; None: it has another format."""
    found = re.search(_OPENSSH, text)
    if found is None:
        return None
    try:
        return base64.b64decode(found[1])
    except binascii.Error:
        return b""


def _fields(blob: bytes) -> Iterator[bytes]:
    """Yield the cipher, the KDF, its options, the public key and the private part, if whole."""
    at = len(_MAGIC)
    for number in range(5):
        at += 4 if number == _PUBLIC_FIELD else 0  # the number of keys, which is 1
        size = int.from_bytes(blob[at : at + 4], "big")
        field = blob[at + 4 : at + 4 + size]
        if len(field) < size or at + 4 > len(blob):
            return
        yield field
        at += 4 + size
