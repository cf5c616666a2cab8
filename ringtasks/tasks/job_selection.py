"""The jobs that a task's argument selects, on the hosts where they are."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from invoke import Context, Exit

from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.program_name import as_typed
from ringtasks.common.text import near_names
from ringtasks.errors import UnknownJobError, UsageError
from ringtasks.exit_status import UNREACHABLE, USAGE
from ringtasks.output import display
from ringtasks.output.foreign_text import message
from ringtasks.output.job_table import clock

from .options import clients_of

if TYPE_CHECKING:
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.jobs import HostJobs, Job, JobStatus

__all__ = ["ALL", "LAST", "SelectedJobs", "selected_jobs"]

#: Selects all waiting and running jobs, in place of a job.
ALL = "all"
#: Selects the jobs that the user started last, if no job has that name.
LAST = "last"
#: An id, or the part of it that a table shows.
_ID = r"[0-9a-f]{8,16}"
#: The number of unreached hosts whose reason a message gives.
_MOST_REASONS = 3


class SelectedJobs(NamedTuple):
    """Jobs with their handles; at least one."""

    jobs: list[tuple[JobStatus, Job]]
    missing: str = ""
    """The reason if further jobs of the selection may exist on hosts that were not reached."""
    unreached: Mapping[str, str] = {}
    """The reason for each host that was not reached."""


def selected_jobs(
    c: Context,
    wanted: str | None,
    host: str | None,
    inventory: str | None,
    *,
    prefers_live: bool = False,
    is_shown: bool = False,
) -> SelectedJobs:
    """Return the jobs on these hosts that ``wanted`` selects.

    :param prefers_live: jobs that have ended count only if no other one matches.
    :param is_shown: they are only shown: if the hosts where a job of that name was seen last still
        have one that has not ended, the others are not asked.
    :raises UsageError: no job matches, or a name matches several of one host.
    """
    from ringtasks import jobs

    if not wanted or "" in wanted.split(","):
        raise UsageError(f"expected the id or the name of a job, got {wanted!r}")
    clients = clients_of(c, host, inventory, only_looks=True)
    known = _known(clients, wanted, is_name_enough=is_shown)
    if wanted == ALL:
        every = jobs.each_once(job for own in known for job in own.jobs)
        chosen = [job for job in every if not job.is_ended and job.runs_on is None]
    else:
        names = wanted.split(",")
        chosen = jobs.each_once(
            job for name in names for job in _among(known, name, prefers_live=prefers_live)
        )
    if not chosen:
        raise _none_running(known)
    by_name = {client.config.id: client for client in clients}
    handles = [(job, jobs.Job(by_name[job.host_id], job.id)) for job in chosen]
    unreached = {own.host_id: own.error for own in known if own.error is not None}
    missing = ""
    if unreached or (host is None and len(known) == len(clients)):
        missing = _missing_of_a_start(wanted or "", chosen, known)
    # A name that was used again elsewhere means another job: the last one, or one more to stop.
    if prefers_live or (not is_shown and all(job.is_ended for job in chosen)) or wanted == ALL:
        missing = missing or _missing_of_hosts(wanted or "", chosen, unreached, host or "@all")
    return SelectedJobs(handles, missing, unreached)


def _known(
    clients: Sequence[SSHClient], wanted: str | None, *, is_name_enough: bool
) -> list[HostJobs]:
    """Return the jobs of the hosts that have the job of this id, else those of all hosts.

    Ids are unique: if a host has the job, an unreachable one need not be waited for.

    :param is_name_enough: a job of this name that has not ended counts as well.
    """
    from ringtasks import jobs
    from ringtasks.jobs.job_cache import had_job

    is_id = bool(wanted and re.fullmatch(_ID, wanted))
    if not wanted or not (is_id or is_name_enough):
        return jobs.list(clients)
    first = [client for client in clients if had_job(client.config.id, wanted)]
    try:
        asked = jobs.list(first)
    except UsageError:  # the only host cannot be used
        return jobs.list(clients)
    reached = [own for own in asked if own.error is None]
    own_jobs = [job for own in reached for job in own.jobs if job.runs_on is None]
    if is_id and any(job.id.startswith(wanted) for job in own_jobs):
        return reached
    named = [job for job in own_jobs if wanted in (job.name, job.group) and not job.is_ended]
    if named and is_name_enough:
        _say_who_was_asked(wanted, reached, clients)
        return reached
    return asked + jobs.list([client for client in clients if client not in first])


def _say_who_was_asked(name: str, asked: Sequence[HostJobs], clients: Sequence[SSHClient]) -> None:
    if len(asked) < len(clients):
        names = ", ".join(own.host_id for own in asked)
        display.say(f"{name}: on {names}; '--host @all' also asks the other hosts for that name")


def _among(known: list[HostJobs], name: str, *, prefers_live: bool) -> list[JobStatus]:
    from ringtasks import jobs

    if prefers_live:
        live = [own._replace(jobs=tuple(j for j in own.jobs if not j.is_ended)) for own in known]
        with contextlib.suppress(UnknownJobError):
            return jobs.all_among(name, live)
    try:
        return jobs.all_among(name, known)
    except UnknownJobError as error:
        if name.startswith("@") or name in (own.host_id for own in known):
            raise UsageError(
                f"{name}: no such job; it selects hosts: give '--host {name}', and a job or '{ALL}'"
            ) from error
        if name == LAST and (own_last := _last_start(known)):
            return own_last
        status = UNREACHABLE if error.unasked else USAGE
        said = message(str(error) + _near(name, known) + _known_here(name, known))
        raise Exit(f"ringtasks: {said}", code=status) from error


def _near(name: str, known: list[HostJobs]) -> str:
    """Return the names of jobs that are nearly this one, as advice; empty if there are none."""
    named = dict.fromkeys(job.name for own in known for job in own.jobs if job.name)
    near = near_names(name, named)
    return f"; did you mean {', '.join(near)}?" if near else ""


def _last_start(known: list[HostJobs]) -> list[JobStatus]:
    """Return the jobs that this user started last, and say which these are."""
    from ringtasks.jobs.job import this_user
    from ringtasks.jobs.names import last_by

    found = last_by(this_user(), [job for own in known for job in own.jobs])
    unreached = _unreached(known)
    for job in found:
        name = f" ({job.name})" if job.name else ""
        but = f"; not reached, so unknown: the jobs of {unreached}" if unreached else ""
        display.say(f"{LAST}: job {job.id}{name} on {job.host_id}{but}")
    return found


def _known_here(name: str, known: list[HostJobs]) -> str:
    """Return lines about the hosts that were not reached: their reasons, their last answers."""
    from ringtasks.jobs.job_cache import ended_at_last_answer

    lines, unreached = [], [own for own in known if own.error is not None]
    for own in unreached:
        ended, at = ended_at_last_answer(own.host_id, name)
        if ended:
            ids = ", ".join(ended)
            at_last = f"at its last answer, {clock(at)}, that job had ended ({ids})"
            lines.append(f"{own.host_id}: {at_last}; its log is on the host")
    if len(unreached) <= _MOST_REASONS:
        lines += [own.error or "" for own in unreached]
    return "".join(f"\n{line}" for line in lines)


def _none_running(known: list[HostJobs]) -> Exception:
    """Return the error if `ALL` selects none."""
    if unreached := _unreached(known):
        told = f"no job is running on the hosts that answered; not reached: {unreached}"
        said = message(told + _known_here(ALL, known))
        return Exit(f"ringtasks: {said}", code=UNREACHABLE)
    shows = f"'{as_typed('jobs --all')}' shows those that have ended"
    return UsageError(f"no job is running on these hosts; {shows}")


def _missing_of_a_start(wanted: str, chosen: Iterable[JobStatus], known: Sequence[HostJobs]) -> str:
    """Return a message if a start on several hosts has jobs that are not known."""
    if wanted == ALL:
        return ""
    by_name = [job for job in chosen if not job.id.startswith(tuple(wanted.split(",")))]
    for job in by_name:
        members = {other.id for own in known for other in own.jobs if other.batch == job.batch}
        if job.batch is None or len(members) >= (job.batch_size or 0):
            continue
        why = "were not started, or their folders are gone from their hosts"
        if unasked := _unreached(known):
            hosts = f"hosts that could not be asked: {unasked}"
            why = f"may be on {hosts}; try: {as_typed('check')}"
        return f"{job.name}: {len(members)} of {job.batch_size} jobs are known; the others {why}"
    return ""


def _missing_of_hosts(
    wanted: str, chosen: Sequence[JobStatus], unreached: Collection[str], selector: str
) -> str:
    """Return a message if hosts that were not reached may have a job of a name, or any job."""
    is_by_id = all(
        name == LAST or any(job.id.startswith(name) for job in chosen) for name in wanted.split(",")
    )
    if not unreached or is_by_id:
        return ""
    others = shlex.quote(",".join([selector, *(f"!{host}" for host in unreached)]))
    advice = f"try '{as_typed('check')}', or leave them out: --host {others}"
    return f"not reached, so unknown: the jobs of {', '.join(unreached)}; {advice}"


def _unreached(known: Iterable[HostJobs]) -> str:
    """Return the names of the hosts that were not reached; empty if there are none."""
    return ", ".join(own.host_id for own in known if own.error is not None)
