"""The kinds of inventory sources, each declared once; `fetching` asks those that are providers."""

from __future__ import annotations

from ringtasks.common.light_typing import NamedTuple

__all__ = ["KINDS", "SourceKind"]


class SourceKind(NamedTuple):
    """A kind of source, and what is known of its hosts before it is asked."""

    by_hand: str = ""
    """The advice how to ask it by hand."""
    program: str | None = None
    """The provider's own program."""
    key_variable: str | None = None
    """The environment variable with the key for the provider's HTTP API; None: it has none."""
    user: str | None = None
    """The user of its hosts, if neither the answer nor the file names one."""


KINDS = {
    "tailscale": SourceKind(
        "run 'tailscale status', and 'tailscale up' if it is stopped", "tailscale"
    ),
    "runpod": SourceKind(
        "run 'runpodctl pod list', or set RUNPOD_API_KEY", "runpodctl", "RUNPOD_API_KEY", "root"
    ),
    "vast": SourceKind(
        "run 'vastai show instances --raw', or set VAST_API_KEY", "vastai", "VAST_API_KEY", "root"
    ),
    "lambda": SourceKind("set LAMBDA_API_KEY", None, "LAMBDA_API_KEY", "ubuntu"),
    "ssh_config": SourceKind("run 'ssh -G NAME'"),
    "command": SourceKind(),
}
