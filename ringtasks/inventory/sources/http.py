"""Ask a provider's HTTP API: one GET with the key in a header, within limits of time and size."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from ringtasks.common.text import bounded
from ringtasks.inventory.checks import is_loopback

from .kinds import KEYS, api_key, masked
from .model import Deadline, SourceError
from .programs import MAX_BYTES

__all__ = ["check_url", "get"]

_CHUNK = 1024 * 1024


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: the key is for one server only."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def get(kind: str, url: str, deadline: Deadline) -> bytes:
    """Return the body of the answer.

    :raises SourceError: no key is set, or there is no such answer.
    """
    check_url(url)
    request = urllib.request.Request(url, headers=_headers(kind))  # noqa: S310  # checked above
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=deadline.left()) as response:
            return _body(response, deadline)
    except urllib.error.HTTPError as error:
        with error:
            raise SourceError(_refusal(kind, error)) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, TimeoutError):
            raise deadline.passed() from None
        told = bounded(masked(str(reason) or type(reason).__name__))
        raise SourceError(f"{urlsplit(url).hostname}: {told}") from None


def check_url(url: str) -> None:
    """Refuse an address to which a key must not be sent.

    :raises SourceError: it is neither https nor on this machine.
    """
    try:
        parts = urlsplit(url)
        is_here = parts.scheme == "http" and is_loopback(parts.hostname or "")
        is_fit = parts.scheme == "https" and bool(parts.hostname)
        is_clean = url.isascii() and url.isprintable() and " " not in url and parts.port != 0
    except ValueError:
        is_here = is_fit = is_clean = False
    if not (is_here or is_fit) or not is_clean or "@" in parts.netloc:
        raise SourceError(f"url: expected https://…, found {bounded(url)!r}")


def _headers(kind: str) -> dict[str, str]:
    # Some of these servers refuse the name of Python's own client.
    return {
        "Authorization": f"Bearer {api_key(kind)}",
        "Accept": "application/json",
        "User-Agent": "ringtasks",
    }


def _body(response: http.client.HTTPResponse, deadline: Deadline) -> bytes:
    body = bytearray()
    while chunk := response.read1(_CHUNK):  # read() would wait for all of it, past the deadline
        body += chunk
        if len(body) > MAX_BYTES:
            raise SourceError(f"answered more than {MAX_BYTES // 1024**2} MiB")
        deadline.left()
    return bytes(body)


def _refusal(kind: str, error: urllib.error.HTTPError) -> str:
    try:
        evidence = error.read(2000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        evidence = ""
    advice = f"; check {KEYS[kind]}" if error.code in (401, 403) else ""
    told = bounded(masked(evidence)) or bounded(str(error.reason))
    return f"HTTP status {error.code}: {told}{advice}"
