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

from ringtasks.common.local_user import expanded_home
from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import PRIVATE_KEY_VARIABLE

__all__ = ["key_of_file", "key_of_text", "key_with_passphrase"]

_KINDS = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


def key_of_file(path: Path) -> paramiko.PKey | None:
    """Return the key in ``path``; None for a file that is left to Paramiko.

    That is a key with a passphrase or with a certificate, an unreadable file, or another file.
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
    for kind in _KINDS:
        try:
            return kind.from_private_key_file(str(path))
        except paramiko.PasswordRequiredException:
            return None
        except (paramiko.SSHException, ValueError, OSError):
            continue
    try:
        return _pkcs8(path.read_bytes())
    except (OSError, ValueError, TypeError):  # TypeError: it has a passphrase
        return None


def key_with_passphrase(path: Path, passphrase: str | None) -> paramiko.PKey | None:
    """Return an encrypted key in PKCS #8; None for a file that is left to Paramiko.

    :raises PasswordRequiredException: there is no passphrase, or it is wrong.
    """
    try:
        return _pkcs8(path.read_bytes(), passphrase)
    except TypeError:
        raise paramiko.PasswordRequiredException("Private key file is encrypted") from None
    except OSError:
        return None
    except ValueError as error:
        raise paramiko.PasswordRequiredException(str(error)) from None


def _pkcs8(text: bytes, passphrase: str | None = None) -> paramiko.PKey | None:
    """Return a key in PKCS #8 (RFC 5958), which Paramiko does not read; None: it is no such key.

    :raises ValueError: it is damaged, or the passphrase is wrong.
    :raises TypeError: it has a passphrase, and none is given.
    """
    is_encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in text
    if not is_encrypted and b"-----BEGIN PRIVATE KEY-----" not in text:
        return None
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    password = passphrase.encode() if passphrase and is_encrypted else None
    key: Any = load_pem_private_key(text, password=password)
    openssh = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    for kind in _KINDS:
        try:
            return kind.from_private_key(io.StringIO(openssh.decode()))
        except (paramiko.SSHException, ValueError):
            continue
    return None


@functools.lru_cache(maxsize=8)
def key_of_text(text: str) -> paramiko.PKey:
    """Return the key in ``text``.

    :raises UsageError: it is not a private key, or has a passphrase.
    """
    for kind in _KINDS:
        try:
            return kind.from_private_key(io.StringIO(text.strip() + "\n"))
        except paramiko.PasswordRequiredException:
            raise _encrypted() from None
        except (paramiko.SSHException, ValueError):
            continue
    try:
        key = _pkcs8(text.encode())
    except TypeError:
        raise _encrypted() from None
    except ValueError:
        key = None
    if key is not None:
        return key
    raise UsageError(
        f"{PRIVATE_KEY_VARIABLE}: expected the text of a private key (OpenSSH or PEM){_hint(text)}"
    )


def _encrypted() -> UsageError:
    return UsageError(
        f"{PRIVATE_KEY_VARIABLE} holds an encrypted key: give one without a passphrase"
    )


def _hint(text: str) -> str:
    """Name a usual mistake; never show the text, which may be secret."""
    if "\\n" in text and "\n" not in text.strip():
        return "; found '\\n' written out: keep the line breaks"
    if "BEGIN" not in text and len(text) < 4096 and expanded_home(text.strip()).is_file():
        return '; found the path of a file: set it to "$(cat FILE)", or use ssh_key'
    if text.startswith(("ssh-", "ecdsa-")):
        return "; found a public key"
    return ""
