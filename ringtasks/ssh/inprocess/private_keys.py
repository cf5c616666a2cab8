"""Private keys as Paramiko's objects, parsed once until their file changes.

Paramiko tries each kind of key on each file for each connection: a millisecond per host, which a
run on a thousand hosts would spend a thousand times.
"""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import paramiko

from ringtasks.common import one_look
from ringtasks.common.local_user import expanded_home
from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import PRIVATE_KEY_VARIABLE
from ringtasks.ssh.key_files import is_for_device

__all__ = ["KINDS", "key_of_file", "key_of_text", "parsed_key"]

KINDS = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


@one_look.kept
def key_of_file(path: Path) -> paramiko.PKey | None:
    """Return the key in ``path``; None: Paramiko has to read the file.

    That is the case for a key with a passphrase or a certificate, and for a file that cannot be
    read or is not a key.
    """
    if path.name.endswith("-cert.pub") or Path(f"{path}-cert.pub").exists():
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return _key_of_version(path, status.st_ino, status.st_size, status.st_ctime_ns)


@functools.lru_cache(maxsize=64)
def _key_of_version(path: Path, *_version: int) -> paramiko.PKey | None:
    try:
        key = parsed_key(path.read_bytes())
    except (paramiko.SSHException, OSError):
        return None
    public = key.asbytes()
    key.asbytes = lambda: public  # type: ignore[method-assign]  # each log-in asks five times
    return key


@functools.lru_cache(maxsize=8)
def key_of_text(text: str) -> paramiko.PKey:
    """Return the key in ``text``.

    :raises UsageError: it is not a private key, or has a passphrase.
    """
    try:
        return parsed_key(f"{text.strip()}\n".encode())
    except paramiko.PasswordRequiredException:
        raise UsageError(
            f"{PRIVATE_KEY_VARIABLE} holds an encrypted key: give one without a passphrase"
        ) from None
    except paramiko.SSHException:
        expected = f"expected the text of a private key (OpenSSH or PEM){_hint(text)}"
        raise UsageError(f"{PRIVATE_KEY_VARIABLE}: {expected}") from None


def parsed_key(text: bytes, passphrase: str | None = None) -> paramiko.PKey:
    """Return the key that is the content of a file.

    :raises PasswordRequiredException: it has a passphrase, and none is given, or a wrong one.
    :raises SSHException: it cannot be read.
    """
    lines = text.decode("utf-8", "replace")
    if "BEGIN PRIVATE KEY" in lines or "BEGIN ENCRYPTED PRIVATE KEY" in lines:
        lines, passphrase = _as_openssh(text, passphrase), None
    for kind in KINDS:
        try:
            return kind.from_private_key(io.StringIO(lines), passphrase)
        except paramiko.PasswordRequiredException:
            raise
        except (paramiko.SSHException, ValueError, IndexError) as error:  # it is cut off
            last = error
    if is_for_device(text):
        raise paramiko.SSHException("only OpenSSH can use a FIDO key: set use_control_master")
    raise paramiko.SSHException(str(last))


def _as_openssh(pkcs8: bytes, passphrase: str | None) -> str:
    """Return a key in PKCS #8 (RFC 5958), which Paramiko cannot read, in OpenSSH's format."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    is_encrypted = b"BEGIN ENCRYPTED PRIVATE KEY" in pkcs8
    password = passphrase.encode() if passphrase and is_encrypted else None
    try:
        key: Any = load_pem_private_key(pkcs8, password=password)
        openssh: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    except TypeError:
        raise paramiko.PasswordRequiredException("Private key file is encrypted") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        kind = paramiko.PasswordRequiredException if is_encrypted else paramiko.SSHException
        raise kind(str(error)) from None
    return openssh.decode()


def _hint(text: str) -> str:
    """Name a usual mistake; never show the text, which may be secret."""
    if "\\n" in text and "\n" not in text.strip():
        return "; found '\\n' written out: keep the line breaks"
    if "BEGIN" not in text and len(text) < 4096 and expanded_home(text.strip()).is_file():
        return '; found the path of a file: set it to "$(cat FILE)", or use ssh_key'
    if text.startswith(("ssh-", "ecdsa-")):
        return "; found a public key"
    return ""
