"""Detect the CI and the user who deploys.  Pure, except the user's name from the system.

Each CI sets variables of its own: GitHub (docs.github.com, "Variables reference"), GitLab
("Predefined CI/CD variables reference"), Jenkins ("Using a Jenkinsfile"; the user is from the
plugin "build user vars"), Buildkite ("Environment variables"), CircleCI ("Project values and
variables"), Azure Pipelines ("Predefined variables").  Nearly all of them also set ``CI=true``.
"""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable, Mapping
from urllib.parse import quote

from ringtasks.common.light_typing import NamedTuple

__all__ = ["Build", "found", "who"]

Environ = Mapping[str, str]


class Build(NamedTuple):
    """Run of a CI: the CI's name, the run's URL and the user who started it (or empty)."""

    name: str
    link: str = ""
    actor: str = ""


class _Kind(NamedTuple):
    """Variables of a CI: ``sign`` is set in it, ``link`` and ``actor`` name those to read.

    Of the variables in ``actor``, the first that is set counts.
    """

    name: str
    sign: str
    link: str | Callable[[Environ], str]
    actor: tuple[str, ...] = ()


def found(environ: Environ) -> Build | None:
    """Return the CI whose variables are in ``environ``; None outside of a CI."""
    for kind in _KINDS:
        if environ.get(kind.sign):
            link = environ.get(kind.link, "") if isinstance(kind.link, str) else kind.link(environ)
            actor = next((environ[name] for name in kind.actor if environ.get(name)), "")
            return Build(kind.name, link if link.startswith(("https://", "http://")) else "", actor)
    # Users turn the detection off with "false" or "0".
    if environ.get("CI", "").lower() not in ("", "0", "false"):
        return Build("CI")
    return None


def who(environ: Environ) -> str:
    """Return the user who deploys: the CI's actor, else user and machine, ``ann@laptop``."""
    ci = found(environ)
    if ci and ci.actor:
        return ci.actor
    return f"{_user(environ)}@{socket.gethostname() or 'localhost'}"


def _github_link(environ: Environ) -> str:
    server, repository, run = (
        environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")
    )
    if not (server and repository and run):
        return ""
    attempt = environ.get("GITHUB_RUN_ATTEMPT", "")
    link = f"{server}/{repository}/actions/runs/{run}"
    return f"{link}/attempts/{attempt}" if attempt else link


def _azure_link(environ: Environ) -> str:
    collection, project, build = (
        environ.get(name, "")
        for name in ("SYSTEM_COLLECTIONURI", "SYSTEM_TEAMPROJECT", "BUILD_BUILDID")
    )
    if not (collection and project and build):
        return ""
    return f"{collection.rstrip('/')}/{quote(project)}/_build/results?buildId={build}"


_KINDS = (
    _Kind("GitHub Actions", "GITHUB_ACTIONS", _github_link,
          ("GITHUB_TRIGGERING_ACTOR", "GITHUB_ACTOR")),
    _Kind("GitLab CI", "GITLAB_CI", "CI_JOB_URL", ("GITLAB_USER_LOGIN",)),
    _Kind("Buildkite", "BUILDKITE", "BUILDKITE_BUILD_URL", ("BUILDKITE_BUILD_CREATOR",)),
    _Kind("CircleCI", "CIRCLECI", "CIRCLE_BUILD_URL", ("CIRCLE_USERNAME",)),
    _Kind("Azure Pipelines", "TF_BUILD", _azure_link, ("BUILD_REQUESTEDFOR",)),
    _Kind("Jenkins", "JENKINS_URL", "BUILD_URL", ("BUILD_USER_ID",)),
)  # fmt: skip


def _user(environ: Environ) -> str:
    """Return the user's name, as ``getpass.getuser``; a container's user may have none."""
    for name in ("LOGNAME", "USER"):
        if environ.get(name):
            return environ[name]
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid{os.getuid()}"
