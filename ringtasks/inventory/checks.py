"""Checks of a host's settings: each returns the value, or raises `UnexpectedValueError`."""

from __future__ import annotations

import re
from typing import Any

from ringtasks.common.setting_checks import Check, expected

__all__ = [
    "ADDRESS_EXPECTED",
    "HOST_NAME_EXPECTED",
    "address",
    "host_address",
    "is_address",
    "is_host_name",
    "is_loopback",
    "jump_address",
    "one_of",
    "public_key",
    "single_line",
    "tcp_port",
    "without_brackets",
]  # fmt: skip

#: Without the characters that ssh(1) refuses both in the name of a host and of a user.
_ADDRESS = r"""(?!-)[^\s\x00-\x1f\x7f'"`;&<>|(){}]+\Z"""
_PUBLIC_KEY_EXPECTED = (
    "a public key such as 'ssh-ed25519 AAAA…', or '@cert-authority ssh-ed25519 AAAA…'"
)
#: An address, in an error.
ADDRESS_EXPECTED = "a name or an address, without spaces, quotes, '`;&<>|(){}' and no - in front"
#: The name of a host, in an error.
HOST_NAME_EXPECTED = "a host name without spaces, commas, '!', '=' and an '@' in front"
# Compiled at first use.
_HOST_NAME = r"[^\s,@!=\x00-\x1f\x7f][^\s,!=\x00-\x1f\x7f]*\Z"
_PUBLIC_KEY = r"(@cert-authority +)?[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( .*)?\Z"


def address(place: str, value: Any) -> str:
    """Return a name or address that no program takes for an option."""
    if not isinstance(value, str) or not (_has_variable(value) or is_address(value)):
        raise expected(place, ADDRESS_EXPECTED, value)
    return without_brackets(value)


def host_address(place: str, value: Any) -> str:
    """Return a name or address of a host, alone."""
    found = address(place, value)
    if not _has_variable(found) and re.search(r"@|^[^:]*:\d*$|://", found):
        raise expected(place, "an address alone: ssh_user and ssh_port take the others", value)
    return found


def jump_address(place: str, value: Any) -> str:
    """Return a name or address of one jump host."""
    found = address(place, value)
    if found.lower() == "none":
        told = "a jump host: leave it out, or set 'ProxyJump none' for the host in ~/.ssh/config"
        raise expected(place, told, value)
    if "," in found:
        raise expected(place, "one jump host, which may have a proxy_jump of its own", value)
    return found


def is_host_name(text: str) -> bool:
    """Return True if an inventory may have a host of that name."""
    return text.isprintable() and re.match(_HOST_NAME, text) is not None


def without_brackets(text: str) -> str:
    """Return an IPv6 address without the brackets of a URL; other text as it is."""
    return text[1:-1] if re.fullmatch(r"\[[0-9A-Fa-f:.]+(%[\w.-]+)?\]", text) else text


def is_address(text: str) -> bool:
    """Return True if the text may be a host or user name: no program takes it for an option."""
    return text.isprintable() and re.match(_ADDRESS, text) is not None


def is_loopback(address: str) -> bool:
    """Return True for ``localhost`` and the addresses of this machine's loopback."""
    import ipaddress  # slow to load, and every program loads this module

    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def single_line(place: str, value: Any) -> str:
    """Return a text of one line."""
    if not isinstance(value, str) or not value or re.search(r"[\x00-\x1f\x7f]", value):
        raise expected(place, "text (in quotes, if it looks like a number)", value)
    return value


def tcp_port(place: str, value: Any) -> int:
    """Return a TCP port."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        quotes = ", without quotes" if isinstance(value, str) and value.isdigit() else ""
        raise expected(place, f"a port from 1 to 65535{quotes}", value)
    return value


def public_key(place: str, value: Any) -> str:
    """Return a host's public key, or that of the authority which certifies it."""
    if not isinstance(value, str) or not (_has_variable(value) or re.match(_PUBLIC_KEY, value)):
        raise expected(place, _PUBLIC_KEY_EXPECTED, value)
    return value


def one_of(*words: str) -> Check:
    """Return the check for one of ``words``."""

    def check(place: str, value: Any) -> str:
        if value not in words:
            raise expected(place, f"one of {', '.join(words)}", value)
        return str(value)

    return check


def _has_variable(value: str) -> bool:
    return "${" in value
