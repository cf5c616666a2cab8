"""The private names of Invoke 2.2 to 2.x that tasks use; no other module of tasks uses one.

A release of Invoke may change these names without notice: pyproject.toml bounds its versions.
"""

from __future__ import annotations

from typing import Any

from invoke import Config, Exit, Task

from ringtasks.common.public_names import PublicNames, private

__all__ = [
    "NAMES", "PublicConfig", "code_folder", "project_prefix", "set_code", "set_name",
    "settings_files",
]  # fmt: skip

#: The private names, by the class that has them; a test checks that they are there.
NAMES: dict[type, set[str]] = {
    Config: {"_load_py", "_project_path", "_project_prefix"}
    | {"_runtime_path", "_system_path", "_user_path"},
    Exit: {"_code"},
    Task: {"_name"},
}


class PublicConfig(PublicNames, Config):
    """Invoke's configuration, whose reading of files a subclass may replace."""

    load_python_file: Any = private("_load_py")


def project_prefix(config: Any) -> str | None:
    """Return the folder of the ``tasks.py`` that Invoke loaded; it may be a parent folder."""
    return getattr(config, "_project_prefix", None)


def code_folder(config: Any) -> str | None:
    """Return the folder of the ``tasks.py`` that was loaded; None in a program that loads none."""
    return None if isinstance(config, PublicConfig) else project_prefix(config)


def settings_files(config: Any) -> list[str]:
    """Return the files of a configuration that were found, the strongest first."""
    kinds = ("_runtime_path", "_project_path", "_user_path", "_system_path")
    return [file for kind in kinds if (file := getattr(config, kind, None))]


def set_code(error: Exit, code: int) -> None:
    """Change the exit status that an `Exit` stands for."""
    error._code = code


def set_name(task: Task[Any], name: str) -> None:
    """Name a task whose own constructor is not called."""
    task._name = name
