"""Which CI we run in, and who has started it: what the environment says of that."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Build", "found", "who"]


class Build(NamedTuple):
    """A CI's run: the CI's name, where to look at the run, and who has started it; or empty."""

    name: str
    link: str = ""
    actor: str = ""


#: By the variable that tells each: its name, and the variables of link and actor.
_KNOWN = {
    "GITLAB_CI": ("GitLab CI", "CI_JOB_URL", "GITLAB_USER_LOGIN"),
    "JENKINS_URL": ("Jenkins", "BUILD_URL", "BUILD_USER_ID"),
    "BUILDKITE": ("Buildkite", "BUILDKITE_BUILD_URL", "BUILDKITE_BUILD_CREATOR"),
    "CIRCLECI": ("CircleCI", "CIRCLE_BUILD_URL", "CIRCLE_USERNAME"),
    "CI": ("CI", "", ""),
}


def found(environ: Mapping[str, str]) -> Build | None:
    """The run that we are part of; None: there is no CI."""
    if environ.get("GITHUB_ACTIONS"):
        return Build("GitHub Actions", _github_link(environ), environ.get("GITHUB_ACTOR", ""))
    for variable, (name, link, actor) in _KNOWN.items():
        if environ.get(variable):
            return Build(name, environ.get(link, ""), environ.get(actor, ""))
    return None


def who(environ: Mapping[str, str]) -> str:
    """Who is responsible: who has started the CI's run, else this machine's user."""
    build = found(environ)
    if build and build.actor:
        return build.actor
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def _github_link(environ: Mapping[str, str]) -> str:
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    if not all(environ.get(name) for name in names):
        return ""
    server, repository, run = (environ[name] for name in names)
    return f"{server}/{repository}/actions/runs/{run}"
