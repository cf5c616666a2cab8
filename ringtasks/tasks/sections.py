"""The sections of Invoke's configuration: ``train``, ``deploy``, with the line of each setting."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from invoke import Config, Context

from ringtasks.common.settings import Place, Section
from ringtasks.common.text import near_names
from ringtasks.errors import InventoryError, UsageError

from .invoke_private import settings_files

__all__ = ["settings_section"]


def settings_section(c: Context, name: str) -> Section:
    """Return a section of Invoke's configuration, as plain values.

    :raises UsageError: it is not a mapping.
    """
    given = _plain(c.config.get(name) or {})
    files = settings_files(c.config)

    def place_in_file(*names: str) -> Place | None:
        found = [_in_file(file, (name, *names)) for file in files]
        return max(found, key=lambda item: item[0], default=(0, None))[1]  # the first of equals

    if not isinstance(given, dict):
        place = place_in_file()
        at = f"{place.shown}: " if place else ""
        raise UsageError(f"{at}{name}: expected a mapping of settings, found {given!r}")
    if not given:
        _warn_of_near_names(c, name)
    variables = _variables(name)

    def place_of(names: tuple[str, ...]) -> Place | None:
        if names[0] in variables:
            return Place(f"INVOKE_{name}_{names[0]}".upper())
        return place_in_file(*names)

    return Section({**given, **variables}, place_of)


def _warn_of_near_names(c: Context, name: str) -> None:
    from ringtasks.output.display import say

    written = {str(key) for key in c.config} - set(Config.global_defaults())
    for near in near_names(name, written, similarity=0.7):
        say(f"warning: the settings have no section {name!r}; is {near!r} a misspelling?")


def _variables(section: str) -> dict[str, Any]:
    """Return the settings of ``INVOKE_SECTION_SETTING`` variables, read as YAML values.

    Invoke reads such a variable only if the setting has a default, and would take a default that a
    section does not set for a setting.
    """
    prefix = f"INVOKE_{section.upper()}_"
    found = {n: text for n, text in os.environ.items() if n.startswith(prefix) and text}
    if not found:
        return {}
    return {n.removeprefix(prefix).lower(): _as_yaml(text) for n, text in found.items()}


def _as_yaml(text: str) -> Any:
    """Return the YAML value of a text; a text such as ``@web``, which YAML refuses, as it is."""
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError):
        return text


def _plain(value: Any) -> Any:
    """Return a setting without the wrapping that Invoke gives to mappings."""
    from invoke.config import DataProxy

    return {k: _plain(v) for k, v in value.items()} if isinstance(value, DataProxy) else value


def _in_file(file: str, names: tuple[str, ...]) -> tuple[int, Place | None]:
    """Return the number of a setting's names that a file has, and the place of the last one."""
    from ringtasks.inventory.yaml_lines import LinedMapping

    here: Any = _lined(file)
    place = None
    for depth, name in enumerate(names):
        if not isinstance(here, LinedMapping) or name not in here:
            return depth, place
        written = here.texts.get(name, ()) if depth == len(names) - 1 else ()
        place = Place(f"{_shown(file)}:{here.lines.get(name)}", written)
        here = here[name]
    return len(names), place


@functools.lru_cache(maxsize=4)
def _lined(file: str) -> Any:
    """Return a YAML file with its lines; None for a file of another format."""
    from ringtasks.inventory.yaml_lines import parse

    try:
        return parse(file, Path(file).read_bytes())
    except (InventoryError, OSError):
        return None


def _shown(file: str) -> str:
    relative = os.path.relpath(file)
    return file if relative.startswith("..") else relative
