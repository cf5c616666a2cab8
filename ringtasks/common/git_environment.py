"""The environment variables that choose a git repository.

git sets them for hooks, and users set them by hand. They are meant for one repository: git itself
removes them before it looks into a submodule (``prepare_submodule_repo_env`` in submodule.c).
"""

from __future__ import annotations

import os

__all__ = ["environment_of_one_repository", "environment_of_other_repositories"]

#: ``git rev-parse --local-env-vars``, without the variables that hold ``git -c`` settings: git
#: passes those on.
_LOCAL = frozenset({
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_DIR",
    "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NO_REPLACE_OBJECTS", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE", "GIT_WORK_TREE",
})  # fmt: skip

#: Those of them that are paths, which may be relative to the current folder.
_PATHS = (
    "GIT_COMMON_DIR", "GIT_GRAFT_FILE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY",
    "GIT_SHALLOW_FILE",
)  # fmt: skip


def environment_of_other_repositories() -> dict[str, str]:
    """Return the environment for a git whose repository is chosen by its current folder alone."""
    return {name: value for name, value in os.environ.items() if name not in _LOCAL}


def environment_of_one_repository(git_folder: str) -> dict[str, str]:
    """Return the environment for a git that runs in another folder, but for this repository.

    :param git_folder: the repository that git found in the current folder, as an absolute path.
    """
    found = dict(os.environ)
    for name in ("GIT_WORK_TREE", "GIT_PREFIX"):  # relative to the current folder
        found.pop(name, None)
    for name in _PATHS:
        if name in found:
            found[name] = os.path.abspath(found[name])  # noqa: PTH100  # links stay as they are
    return {**found, "GIT_DIR": git_folder}
