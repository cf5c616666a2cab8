"""Claims of ``inv train`` and ``inv deploy``, and the truth on the host (see `claims`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.claims import CASES, Case, Result, is_unknown

__all__ = ["ALL_CASES", "Deploy", "Train"]

_RELEASE = "20260101T000000Z-abcdefabcdef-0001"
_MARK = ".ringtasks-release"


class Train(Case):
    longest = 3.0

    def prepare(self) -> None:
        self.status = self.chance.choice([0, 0, 3])
        self.source = self.near / "src"
        self.source.mkdir()
        (self.source / "data").write_bytes(self.chance.randbytes(20_000))

    def settings(self) -> dict[str, Any]:
        command = (
            f"{self.notes('began')}; cp data model; echo epoch 1/1 loss=1; sleep 0.1; "
            f"{self.notes('done')}; exit {self.status}"
        )
        train = {
            "command": command,
            "hosts": "box",
            "cwd": "~/run",
            "sync_up": str(self.source),
            "fetch": ["model"],
            "runs": str(self.near / "runs"),
            "preflight": {"min_disk_gb": 0},
            "lost_after": 5,
        }
        return {"train": train}

    def arguments(self, host: str) -> list[str]:
        return ["train"]

    def false_claims(self, result: Result | None) -> list[str]:
        began, done = self._lines("began"), self._lines("done")
        found = [f"it ran {began} times"] if began > 1 else []
        found += self._of_record()
        if result is None:
            return found
        if result.returncode == self.status and done != 1:
            found.append(f"claims exit status {self.status}, ended {done} times")
        is_told = b"not fetched" in result.stderr
        if result.returncode in (0, 3) and not self._is_fetched() and not is_told:
            found.append("claims that the model was fetched")
        if result.returncode == 2 and began and not is_unknown(result):
            found.append("claims that no host took it, and it began")
        return found

    def _is_fetched(self) -> bool:
        # On a full disk the command's cp(1) leaves a part of it.
        there = _content(self.home / "run" / "model")
        return [file.read_bytes() for file in (self.near / "runs").glob("*/model")] == [there]

    def _of_record(self) -> list[str]:
        found = []
        for file in (self.near / "runs").glob("*/run.json"):
            try:
                state = json.loads(file.read_text())["state"]
            except ValueError:
                return ["run.json is half a file"]
            right = {"succeeded": self.status == 0, "failed": self.status == 3}.get(state, True)
            if not right or (state == "succeeded" and self._lines("done") != 1):
                found.append(f"the record claims that it {state}")
        return found


class Deploy(Case):
    longest = 3.0

    def prepare(self) -> None:
        self.source = self.near / "app"
        self.source.mkdir()
        self.root = self.home / "srv"
        self.new = {name: self.chance.randbytes(10_000) for name in ("one", "two")}
        for name, content in self.new.items():
            (self.source / name).write_bytes(content)
        self.is_bad = self.chance.random() < 0.3
        self.before = _RELEASE if self.chance.random() < 0.6 else None
        if self.before is not None:
            self._release_before()

    def _release_before(self) -> None:
        folder = self.root / "releases" / _RELEASE
        folder.mkdir(parents=True)
        for name in self.new:
            (folder / name).write_bytes(b"old")
        (folder / _MARK).write_text(f"id={_RELEASE}\n")
        (self.root / "current").symlink_to(f"releases/{_RELEASE}")

    def settings(self) -> dict[str, Any]:
        deploy = {
            "hosts": "box",
            "path": "~/srv",
            "source": str(self.source),
            "build": ["echo built > built"],
            "restart": "echo x >> ../../restarts",
            "check": "false" if self.is_bad else "cmp one one",
            "check_timeout": 1,
        }
        return {"deploy": deploy}

    def arguments(self, host: str) -> list[str]:
        return ["deploy", "--json"]

    def false_claims(self, result: Result | None) -> list[str]:
        link = self.root / "current"
        current = link.readlink().name if link.is_symlink() else None
        found = [] if self._is_whole(current) else [f"{current} is half a release"]
        if result is None:
            return found
        is_deployed = current not in (None, self.before)
        if result.returncode == 0 and (not is_deployed or self.is_bad):
            found.append("claims that it was deployed")
        for line in result.stdout.splitlines():
            found += self._of_host(json.loads(line), current, is_deployed)
        return found

    def _of_host(self, told: dict[str, Any], current: str | None, is_deployed: bool) -> list[str]:
        state = told["end_state"]
        found = []
        if is_deployed != (state == "deployed") and state in (
            "deployed", "untouched", "built, not switched", "reverted",
        ):  # fmt: skip
            found.append(f"claims {state!r}, and {current} is current")
        if told["is_current_known"] and told["current"] != current:
            found.append(f"claims that {told['current']} is current, not {current}")
        if told["success"] != (state == "deployed"):
            found.append(f"claims success {told['success']} and {state!r}")
        return found

    def _is_whole(self, current: str | None) -> bool:
        if current is None:
            return self.before is None
        folder = self.root / "releases" / current
        there = {name: _content(folder / name) for name in self.new}
        if current == _RELEASE:
            return there == dict.fromkeys(self.new, b"old")
        return there == self.new and _content(folder / "built") == b"built\n"


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None


ALL_CASES: dict[str, type[Case]] = {**CASES, "train": Train, "deploy": Deploy}
