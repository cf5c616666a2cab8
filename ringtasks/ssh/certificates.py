"""Certificates, checked as OpenSSH checks them (``sshkey_cert_check_authority``).

OpenSSH checks certificates itself on its own connections; this is for the connections in process,
since Paramiko reads a certificate's key but never checks its signature.
"""

from __future__ import annotations

import base64
from collections.abc import Collection

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)

from .host_keys import Certified, HostKey

__all__ = ["certified", "is_for", "why_unusable"]

_SHA1 = b"\0\0\0\7ssh-rsa"  # RFC 4253 section 6.6: the start of a signature by RSA and SHA-1

#: A point of a curve in its compressed form is not implemented in cryptography.
_UNSUPPORTED = (UnsupportedAlgorithm, NotImplementedError)


def certified(blob: bytes, key: HostKey, names: Collection[str], now: float) -> Certified:
    """Return a certificate's authority, with the reason against it for this host, if there is one.

    :param key: the key that the server has proven to have.
    :param names: the host's names; one of them must be a principal of the certificate.
    :param now: Unix seconds.
    :raises ValueError: the certificate cannot be read.
    """
    try:
        certificate = _read(blob)
        authority = HostKey.parse(_text(certificate.signature_key()))
    except _UNSUPPORTED as error:
        raise ValueError(str(error)) from error
    return Certified(authority, _refusal_reason(certificate, blob, key, names, now))


def is_for(blob: bytes, key: bytes) -> bool:
    """Return True if a certificate is for a public key; both are in the wire format (RFC 4253).

    :raises ValueError: the certificate cannot be read.
    """
    try:
        encoded = _text(_read(blob).public_key())
    except _UNSUPPORTED as error:
        raise ValueError(str(error)) from error
    return base64.b64decode(encoded.split()[1]) == key


def why_unusable(line: bytes, now: float) -> str:
    """Return the reason for which no user can log in by a certificate, as a predicate; else "".

    :param line: the text of its file.
    :param now: Unix seconds.
    """
    try:
        found = load_ssh_public_identity(line.strip())
    except (ValueError, *_UNSUPPORTED):
        return "cannot be read"
    if not isinstance(found, SSHCertificate) or found.type is not SSHCertificateType.USER:
        return "is not a user's"
    if now < found.valid_after:
        return "is not yet valid"
    return "has expired" if now >= found.valid_before else ""


def _read(blob: bytes) -> SSHCertificate:
    kind = blob[4 : 4 + int.from_bytes(blob[:4], "big")]
    found = load_ssh_public_identity(kind + b" " + base64.b64encode(blob))
    if not isinstance(found, SSHCertificate):
        raise ValueError("it is a plain key")
    return found


def _refusal_reason(
    certificate: SSHCertificate, blob: bytes, key: HostKey, names: Collection[str], now: float
) -> str:
    if HostKey.parse(_text(certificate.public_key())) != key:
        return "it is for another key"
    if certificate.type is not SSHCertificateType.HOST:
        return "it is not a host certificate"
    if now < certificate.valid_after:
        return "it is not yet valid"
    if now >= certificate.valid_before:
        return "it has expired"
    principals = [name.decode("utf-8", "replace") for name in certificate.valid_principals]
    # Up to OpenSSH 10.2 a certificate without principals is valid for every host.
    if principals and not set(principals) & set(names):
        return f"it is for {', '.join(principals)}, and not for {' or '.join(names)}"
    if certificate.critical_options:
        return "it has critical options, which are not known"
    return _fault_of_signature(certificate, blob)


def _fault_of_signature(certificate: SSHCertificate, blob: bytes) -> str:
    authority = certificate.signature_key()
    if isinstance(authority, RSAPublicKey):
        size_bytes = (authority.key_size + 7) // 8
        if blob[-(len(_SHA1) + 4 + size_bytes) :].startswith(_SHA1):
            return "it is signed with SHA-1"  # ssh_config(5), CASignatureAlgorithms
    try:
        certificate.verify_cert_signature()
    except InvalidSignature:
        return "its signature is wrong"
    return ""


def _text(key: object) -> str:
    encoded: bytes = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)  # type: ignore[attr-defined]  # every public key has it
    return encoded.decode()
