"""Send one request to Ray's job API, on the head of a cluster.  Needs Ray, and no ringtasks.

The request is JSON in the first argument: ``address``, ``action`` (``submit``, ``follow``,
``stop``), ``id``, and for these ``command``, ``working_dir`` and ``offset``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from typing import Any

#: Exit statuses: the job's outcome, or the reason why there is no answer (sysexits.h).
SUCCEEDED, FAILED, STOPPED, NO_SUCH_JOB, NO_ANSWER = 0, 1, 3, 66, 70
STOP_TIMEOUT = 30.0  # seconds

#: Ray packs all of the folder, since files that are not for the job are not in it.
PACK_ALL = {
    "RAY_RUNTIME_ENV_IGNORE_GITIGNORE": "1",
    "RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES": "",
}


def main() -> int:
    asked = json.loads(sys.argv[1])
    logging.disable(logging.INFO)
    os.environ.update(PACK_ALL)
    try:
        from ray.job_submission import JobSubmissionClient

        client = JobSubmissionClient(asked["address"])
        action = {"submit": submit, "follow": follow, "stop": stop}[asked["action"]]
        return action(client, asked)
    except BrokenPipeError:
        return NO_ANSWER
    except Exception as error:  # noqa: BLE001  # Ray's own are many, and all mean: no answer
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return NO_ANSWER


def submit(client: Any, asked: dict[str, Any]) -> int:
    """Submit the job once only: the caller asks again if an answer was lost."""
    if info_of(client, asked["id"]) is None:
        runtime_env = {"env_vars": {"PYTHONUNBUFFERED": "1"}}
        if asked["working_dir"]:
            runtime_env["working_dir"] = asked["working_dir"]
        client.submit_job(
            entrypoint=asked["command"], submission_id=asked["id"], runtime_env=runtime_env
        )
    return SUCCEEDED


def follow(client: Any, asked: dict[str, Any]) -> int:
    """Print the log from ``offset`` on until the job has ended."""
    printed = asked["offset"]
    while True:
        info = info_of(client, asked["id"])
        if info is None:
            return NO_SUCH_JOB
        printed = asyncio.run(print_log(client, asked["id"], printed))
        info = info_of(client, asked["id"])
        if info is not None and info.status.is_terminal():
            return ended(info)
        time.sleep(0.5)  # the log may end before Ray has recorded the end of the job


async def print_log(client: Any, job_id: str, skip: int) -> int:
    """Print the log after its first ``skip`` bytes; return its length by now."""
    at = 0
    async for text in client.tail_job_logs(job_id):
        chunk = text.encode("utf-8", "surrogateescape")
        at += len(chunk)
        sys.stdout.buffer.write(chunk[max(0, len(chunk) - max(0, at - skip)) :])
        sys.stdout.buffer.flush()
    return max(at, skip)


def stop(client: Any, asked: dict[str, Any]) -> int:
    """Ask Ray to stop the job, and wait until it has ended."""
    if info_of(client, asked["id"]) is None:
        return NO_SUCH_JOB
    client.stop_job(asked["id"])
    deadline = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < deadline:
        info = info_of(client, asked["id"])
        if info is not None and info.status.is_terminal():
            print(f"{asked['id']}: {info.status.value}")
            return SUCCEEDED
        time.sleep(0.2)  # Ray tells of no end; one more request costs it milliseconds
    print(f"{asked['id']}: Ray has not stopped it within {STOP_TIMEOUT:g} s", file=sys.stderr)
    return FAILED


def info_of(client: Any, job_id: str) -> Any:
    """Return Ray's information on the job; None: there is no such job."""
    try:
        return client.get_job_info(job_id)
    except RuntimeError as error:
        if "404" in str(error) or "does not exist" in str(error):
            return None
        raise


def ended(info: Any) -> int:
    status = info.status.value
    if status == "SUCCEEDED":
        return SUCCEEDED
    why = (info.message or "").partition("\n")[0]  # the rest repeats the log
    print(f"Ray: job {status}: {why}".rstrip(": "), file=sys.stderr)
    return STOPPED if status == "STOPPED" else FAILED


if __name__ == "__main__":
    sys.exit(main())
