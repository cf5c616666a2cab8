"""``inv deploy --diff``: the commits and files that a deploy would change; nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from subprocess import TimeoutExpired
from typing import Any

from ringtasks.deploy.changes import Changes, changes_between
from ringtasks.deploy.preparing import looked_at, new_plan, targets_of
from ringtasks.deploy.release import short
from ringtasks.deploy.rollout import RolloutObserver
from ringtasks.deploy.settings import DeploySettings
from ringtasks.deploy.source import ReleaseSource, source_of
from ringtasks.deploy.target import StepOutcome, Target
from ringtasks.errors import UsageError
from ringtasks.exit_status import USAGE, combined_status
from ringtasks.inventory.model import HostConfig
from ringtasks.output import display
from ringtasks.output.deploy import Answer

__all__ = ["diff"]


def diff(settings: DeploySettings, hosts: Sequence[HostConfig], *, json: bool) -> Answer:
    """Show the changes that a deploy would make on each host; equal ones once."""
    with source_of(settings.source, settings.ref) as source:
        plan = new_plan(settings, source, who="")
        with targets_of(hosts, plan, RolloutObserver()) as targets:
            found = [_found(target, outcome, source) for target, outcome in looked_at(targets)]
        if json:
            display.json_lines(found)
        else:
            _show(found)
        with suppress(UsageError, TimeoutExpired):  # a fault of git changes nothing here
            for note in source.change_notes:
                display.say(f"note: {note}")
    return found, combined_status(fields["returncode"] for fields in found)


def _found(target: Target, outcome: StepOutcome, source: ReleaseSource) -> dict[str, Any]:
    settings, old = target.plan.settings, target.state.revision
    changes, error, returncode = Changes(), outcome.error, outcome.returncode
    if target.report.is_current_known:
        try:
            if settings.source is None:
                changes = changes_between(old, source.revision)
            else:
                from ringtasks.deploy.upload import changes_of

                files = changes_of(target.client, target.place, settings, source)
                changes = Changes(files=files)
        except UsageError as problem:
            error = f"{error}; {problem}" if error else str(problem)
            returncode = returncode or USAGE
    return {
        "host_id": target.place.host,
        "from": old,
        "to": source.revision,
        **changes.to_dict(),
        "error": error,
        "returncode": returncode,
    }


def _show(found: Sequence[dict[str, Any]]) -> None:
    from ringtasks.fleet.folding import folded, groups_of

    texts = ["\n".join(_lines(fields)) for fields in found]
    numbers = range(len(found))
    for group in groups_of(numbers, lambda n: found[n]["host_id"], texts.__getitem__):
        print(display.shown_lines(f"{folded(group.hosts)}: {texts[group.first]}"))


def _lines(fields: dict[str, Any]) -> list[str]:
    lines = [_step(fields), *_changed(fields, "  ")]
    if fields["error"]:
        lines += [f"  {line}" for line in fields["error"].splitlines()]
    elif len(lines) == 1:
        lines.append("  no changes")
    return lines


def _step(fields: dict[str, Any]) -> str:
    ends = (fields["from"], fields["to"])
    return " -> ".join(short(revision) if revision else "nothing" for revision in ends)


def _changed(fields: dict[str, Any], indent: str) -> Iterator[str]:
    """Yield the lines of commits and files; those of a submodule follow its own line."""
    yield from (f"{indent}+ {commit}" for commit in fields["commits"])
    yield from (f"{indent}- {commit}" for commit in fields["left"])
    submodules = {submodule["path"]: submodule for submodule in fields["submodules"]}
    for file in fields["files"]:
        line = f"{indent}{file['change']:8}  {file['path']}"
        submodule = submodules.get(file["path"])
        if submodule is None:
            yield line
            continue
        yield f"{line}  submodule {_step(submodule)}"
        yield from _changed(submodule, indent + "  ")
        if submodule["error"]:
            yield f"{indent}  {submodule['error']}"
