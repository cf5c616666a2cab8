"""Git repositories on this machine, and the submodules of a commit."""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from ringtasks.common.git_environment import (
    environment_of_one_repository,
    environment_of_other_repositories,
)
from ringtasks.common.text import joined_lines, printable
from ringtasks.errors import UsageError

__all__ = [
    "SUBMODULE_MODE",
    "TIMEOUT",
    "Repository",
    "Submodule",
    "current_repository",
    "run",
    "way_to_fetch",
]

TIMEOUT = 300.0  # seconds
SUBMODULE_MODE = "160000"  # in git's listings
_NO_WORK_TREE = "a bare repository has no submodules: deploy from a clone with a work tree"
_FETCH = (
    "run 'git submodule update --init --recursive' (a checkout in CI needs 'submodules: recursive')"
)


class Repository(NamedTuple):
    """A repository, with the folder and the environment in which git is to run for it.

    ``folder`` is the top of its work tree, or the repository itself if it has none.
    """

    folder: Path
    environment: Mapping[str, str]

    def git(self, *arguments: str) -> str:
        """Return git's output, without surrounding white space.

        :raises UsageError: git is not installed or fails.
        """
        return os.fsdecode(self.output(*arguments)).strip()

    def output(self, *arguments: str) -> bytes:
        """Return git's output as it is.

        :raises UsageError: git is not installed or fails.
        """
        return run(self.command(*arguments), environment=self.environment)

    def command(self, *arguments: str) -> list[str]:
        """Return the command of a git in this repository; its environment is `environment`."""
        return ["git", "-C", str(self.folder), *arguments]

    @property
    def is_bare(self) -> bool:
        return self.git("rev-parse", "--is-bare-repository") == "true"

    def has(self, name: str) -> bool:
        """Return True if there is an object of this name, ``COMMIT:PATH`` for example."""
        try:
            self.output("cat-file", "-e", name)
        except UsageError:
            return False
        return True

    def write_archive(self, commit: str, file: IO[bytes], *paths: str) -> None:
        """Write the files of a commit as a tar archive, all or those below ``paths``."""
        command = self.command("-c", "tar.umask=0022", "archive", "--format=tar", commit, *paths)
        run(command, environment=self.environment, stdout=file)
        file.seek(0)

    def submodules(self, commit: str, prefix: str = "") -> Iterator[Submodule]:
        """Yield the submodules of a commit that its archive has, those above others first.

        :param prefix: the path of this repository in the outermost one, empty or with ``/``.
        :raises UsageError: the recorded commit of one is not on this machine.
        """
        for path, recorded in self.files(commit):
            if recorded is not None:
                yield from self._submodule(commit, path, recorded, prefix)

    def files(self, commit: str) -> Iterator[tuple[str, str | None]]:
        """Yield the path of each file of a commit; of a submodule also its recorded commit."""
        listed = self.git("ls-tree", "-r", "-z", "--full-tree", commit)
        for entry in filter(None, listed.split("\0")):
            about, _, path = entry.partition("\t")
            mode, _, recorded = about.split()
            yield path, recorded if mode == SUBMODULE_MODE else None

    def _submodule(self, commit: str, path: str, recorded: str, prefix: str) -> Iterator[Submodule]:
        found = self.repository_of(path, commit)
        if found is None or not found.has(f"{recorded}^{{commit}}"):
            if not self._archives(commit, path):
                return
            raise UsageError(self._no_commit(commit, path, recorded, prefix))
        yield Submodule(found, recorded, f"{prefix}{path}/")
        yield from found.submodules(recorded, f"{prefix}{path}/")

    def repository_of(self, path: str, commit: str) -> Repository | None:
        """Return the repository of a submodule; None: it was never fetched."""
        environment = environment_of_other_repositories()
        if (self.folder / path / ".git").exists():
            return Repository(self.folder / path, environment)
        # Those of a linked work tree are in its own folder.
        folders = self.git("rev-parse", "--git-dir", "--git-common-dir").splitlines()
        name = self._name_of(path, commit) or path
        for kept in (self.folder / folder / "modules" / name for folder in folders):
            if (kept / "HEAD").exists():
                # Its own setting names a work tree that may be gone: git would not start.
                chosen = {"GIT_DIR": str(kept), "GIT_WORK_TREE": str(kept)}
                return Repository(kept, {**environment, **chosen})
        return None

    def _name_of(self, path: str, commit: str) -> str | None:
        """Return a submodule's name, which is its first path unless it was given another one."""
        query = ("--null", "--get-regexp", r"^submodule\..*\.path$")
        try:
            found = self.output("config", "--blob", f"{commit}:.gitmodules", *query)
        except UsageError:
            return None  # no such file, or no submodules in it
        pairs = (os.fsdecode(line).partition("\n") for line in found.split(b"\0"))
        keys = (key for key, _, value in pairs if value == path)
        return next((key[len("submodule.") : -len(".path")] for key in keys), None)

    def _archives(self, commit: str, path: str) -> bool:
        """Return whether ``export-ignore`` in .gitattributes lets a path into the archive."""
        with tempfile.TemporaryFile() as archive:
            self.write_archive(commit, archive, "--", path)
            try:
                with tarfile.open(fileobj=archive, mode="r:") as entries:
                    return any(entry.name.rstrip("/") == path for entry in entries)
            except tarfile.ReadError:  # tarfile's word for an archive that is empty
                return False

    def _no_commit(self, commit: str, path: str, recorded: str, prefix: str) -> str:
        name = f"deploy: submodule {printable(prefix + path)}"
        if self._name_of(path, commit) is None:
            return (
                f"{name}: .gitmodules does not have it, so it cannot be fetched: run "
                "'git submodule add URL PATH', or 'git rm --cached PATH' to leave it out"
            )
        advice = _NO_WORK_TREE if self.is_bare else _FETCH
        return f"{name}: its commit {recorded} is not on this machine: {advice}"


class Submodule(NamedTuple):
    """A submodule at its recorded commit; ``prefix`` is its path, with ``/`` at the end."""

    repository: Repository
    commit: str
    prefix: str


def current_repository() -> Repository:
    """Return the repository of the current folder, or the one that ``GIT_DIR`` names.

    :raises UsageError: there is none, or git is not installed.
    """
    told = _git_of_current_folder("rev-parse", "--is-inside-work-tree", "--absolute-git-dir")
    inside, _, found = told.partition("\n")
    folder = _git_of_current_folder("rev-parse", "--show-toplevel") if inside == "true" else found
    return Repository(Path(folder), environment_of_one_repository(found))


def _git_of_current_folder(*arguments: str) -> str:
    try:
        return os.fsdecode(run(["git", *arguments])).strip()
    except UsageError as error:
        if "GIT_DIR" not in os.environ:
            raise
        said = f"GIT_DIR={printable(os.environ['GIT_DIR'])} is set, as git does for hooks"
        raise UsageError(f"{error}; {said}: unset it, or change to the repository") from error


def way_to_fetch(ref: str, repository: Repository) -> str:
    """Return the advice for a revision that is not in a repository."""
    if ref == "HEAD":
        if not repository.git("rev-list", "--all", "--max-count=1"):
            return ": it has no commit yet: run 'git commit'"
        return ": its current branch has no commit: name a revision with --ref"
    short = "--format=%(refname:short)"
    if known := repository.git("for-each-ref", short, f"refs/remotes/*/{ref}").splitlines():
        return f"; for the branch of the server, give '--ref {known[0]}'"
    remotes = repository.git("remote").splitlines()
    if not remotes:
        return ""
    remote = "origin" if "origin" in remotes else remotes[0]
    if repository.git("rev-parse", "--is-shallow-repository") == "true":
        return (
            f"; this clone is shallow: run '{_fetch_all(repository, remote, '--unshallow')}' "
            "(a checkout in CI needs 'fetch-depth: 0')"
        )
    return f"; if {ref} is on the server, run '{_fetch_all(repository, remote)}'"


def _fetch_all(repository: Repository, remote: str, *options: str) -> str:
    """Return the command that fetches all branches and tags: a clone may be of one branch."""
    branches = "heads" if repository.is_bare else f"remotes/{remote}"
    words = ["git", "fetch", *options, "--tags", remote]
    return f'{" ".join(words)} "+refs/heads/*:refs/{branches}/*"'


def run(
    command: list[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
) -> bytes:
    """Run a local program and return its stdout.

    :raises UsageError: the program is not installed, fails, or takes too long.
    """
    try:
        done = subprocess.run(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=TIMEOUT,
            check=False,
        )
    except FileNotFoundError as error:
        raise UsageError(f"deploy: {command[0]} is not on PATH: install it") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"deploy: {command[0]} took more than {TIMEOUT:g} s") from error
    if done.returncode:
        said = joined_lines(done.stderr.decode("utf-8", "replace")).removeprefix("fatal: ")
        raise UsageError(f"deploy: {command[0]}: {said or f'exit status {done.returncode}'}")
    return done.stdout or b""
