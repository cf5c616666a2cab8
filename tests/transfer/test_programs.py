"""The programs of a transfer in the shells that hosts have."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ringtasks import transfer
from ringtasks.remote.programs import Program, Word
from tests.support.shells import SHELLS, run_in

#: Root without the right to ignore modes, as any other user.
AS_USER = "setpriv --bounding-set=-dac_override,-dac_read_search"
CONTENT = b"some \0 content\n"
PART = {
    "check": "closed",
    "known": "",
    "beginning": ".ringtasks-ab-",
    "version": ".ringtasks-ab-1-",
}


class Host:
    """A host's folder, and one part in it."""

    def __init__(self, shell: str, home: Path) -> None:
        self.shell, self.home, self.name = shell, home, ""

    def said(self, program: str, stdin: bytes = b"", **parameters: str | int) -> str:
        """Run a program; return its stdout."""
        known = {"folder": str(self.home), "name": self.name, "check": "closed"}
        text = Program(transfer.__file__, program).render(**{**known, **parameters})
        found = run_in(self.shell, f"({text})", self.home, stdin)
        assert found.returncode == 0, found
        return found.stdout.decode()

    def find(self, version: str = "1") -> list[str]:
        version = f".ringtasks-ab-{version}-"
        words = self.said("find_part.sh", **{**PART, "version": version, "new": f"{version}f"})
        check, self.name, *size = words.split()
        assert check == "closed"
        return size[4:5]

    def write(self, content: bytes, blocks: int = 0) -> None:
        self.said("write_part.sh", content, block_bytes=4, blocks=blocks, refusal="gone")

    def finish(self, content: bytes = CONTENT, hash_command: str = "sha256sum") -> str:
        return self.said("finish_part.sh", **_final(content, hash_command)).strip()

    def failed_finish(self, hash_command: str) -> str:
        """Finish the part with a tool that fails; return its stderr."""
        part = {"folder": str(self.home), "name": self.name, "check": "closed"}
        program = Program(transfer.__file__, "finish_part.sh")
        text = program.render(**part, **_final(CONTENT, hash_command))
        found = run_in(self.shell, f"({text})", self.home)
        assert (found.returncode, found.stdout) == (1, b""), found
        return found.stderr.decode()


def _final(content: bytes, hash_command: str) -> dict[str, str | int]:
    return {
        "final": "it's",
        "mode": "640",
        "modified": "202601020304.05",
        "hash_command": hash_command,
        "sum": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
    }


@pytest.fixture(params=SHELLS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    home = tmp_path / "it's a home"
    home.mkdir()
    return Host(request.param, home)


def test_part_is_found_again_and_becomes_the_file(host: Host) -> None:
    assert host.find() == []
    host.write(CONTENT[:6])
    assert host.find() == ["6"]
    host.write(CONTENT[4:], blocks=1)

    said = host.finish(), host.finish()

    file = host.home / "it's"
    assert (said, file.read_bytes(), file.stat().st_mode & 0o777) == (("done",) * 2, CONTENT, 0o640)
    assert (file.stat().st_mtime, [*host.home.iterdir()]) == (1767323045, [file])


def test_part_with_other_content_is_removed(host: Host) -> None:
    for hash_command in ("sha256sum", ""):
        host.find()
        host.write(CONTENT[:-1])

        assert (host.finish(hash_command=hash_command), [*host.home.iterdir()]) == ("differs", [])
    assert host.finish() == "gone"


def test_part_is_kept_if_its_content_cannot_be_checked(host: Host) -> None:
    host.find()
    host.write(CONTENT)
    for tool in ("no-such-hasher", "false", "true"):
        failed = host.failed_finish(tool)
        assert f"{tool}: exit status" in failed, failed

    assert host.finish() == "done"
    assert "no-such-hasher: exit status 127" in host.failed_finish("no-such-hasher")


def test_part_of_another_version_is_removed_and_a_folder_is_kept(host: Host) -> None:
    host.find("1")
    host.find("2")
    host.write(CONTENT)
    (host.home / "it's").mkdir()

    assert (host.finish(), [*host.home.iterdir()]) == ("folder", [host.home / "it's"])


def test_part_is_removed(host: Host) -> None:
    host.find()
    host.write(CONTENT)

    host.said("remove_part.sh")

    assert [*host.home.iterdir()] == []


def test_key_writes_while_it_is_allowed_only(host: Host) -> None:
    host.find()
    keys = host.home / ".ssh" / "authorized_keys"
    keys.parent.mkdir()
    keys.write_text("restrict ssh-ed25519 AAAA+/= x\n")
    program = Program(transfer.__file__, "receive_part.sh")
    part = {"folder": str(host.home), "name": host.name, "check": "closed", "file_blocks": 1}

    ended = [
        run_in(host.shell, program.render(**part, blob=blob), host.home, content).returncode
        for blob, content in (("AAAA+/=", b"1"), ("BBBB", b"2"), ("AAAA+/=", b"3" * 10000))
    ]

    assert (ended[:2], ended[2] != 0) == ([0, 1], True)
    assert (host.home / host.name / "part").stat().st_size <= 1024  # of bash's own blocks


def test_path_that_cannot_be_seen_is_denied_and_not_missing(host: Host) -> None:
    closed = host.home / "closed"
    closed.mkdir()
    (closed / "f").touch()
    (host.home / "link").symlink_to("closed/f")
    program = Program(transfer.__file__, "probe.sh")
    seen = {}
    for mode in (0o600, 0o300, 0o700):
        closed.chmod(mode)
        for name in ("closed/f", "link", "closed/[f]*", "closed/x: Permission denied", "none/f"):
            path = f"{host.home}/{name}"
            source = Word(path.replace(" ", "\\ ").replace("'", "\\'"))
            text = program.render(place=path, above="/", sources=[source])
            found = run_in(f"{AS_USER} {host.shell}", text, host.home).stdout.decode()
            place, *items = found.split("\0")
            kind = dict(line.split("=", 1) for line in place.splitlines())["kind"]
            seen[mode, name] = kind, *(item.split("=")[0] for item in items)

    denied, missing, file = ("denied", "denied"), ("nothing",), ("file", "file")
    assert [*seen.values()] == [
        denied, denied, denied, denied, missing,
        file, file, denied, missing, missing,
        file, file, ("nothing", "file"), missing, missing,
    ]  # fmt: skip


def test_links_are_reported_and_the_target_is_entered(host: Host, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (host.home / "bin").mkdir()
    (tmp_path / "volume").mkdir()
    program = Program(transfer.__file__, "enter_target.sh")
    said = []
    for mode in ("dry", "push", "push", "dry", "pull"):
        text = program.render(
            target=str(target),
            mode=mode,
            missing="none",
            mark="m'",
            partial=".rest",
            resumes="",
            folders=["./a b", "./c"],
        )
        found = run_in(host.shell, f"({text}pwd)", host.home)
        links = found.stderr.decode().split("\0")[:-1]
        said.append((Path(found.stdout.decode().strip()).name, links))
        if mode == "push" and not (target / "a b").is_symlink():
            (target / "a b").symlink_to(tmp_path / "volume")
            (target / "c").symlink_to("nowhere")

    links = ["m' link", "./a b", f"{tmp_path}/volume", "m' link", "./c", "nowhere"]
    there, here = "target", host.home.name
    assert said == [(here, []), (there, []), (there, links), (here, links), (there, [])]


@pytest.mark.parametrize("place", ["", "./a b", "./c/d"])
def test_folder_of_an_unfinished_file_is_found(host: Host, place: str) -> None:
    program = Program(transfer.__file__, "enter_target.sh")
    given = {"mode": "push", "missing": "none", "mark": "m", "partial": ".rest"}
    found = []
    for _ in range(2):
        text = program.render(target=".", resumes="", folders=["./a b", "./c"], **given)
        found.append(run_in(host.shell, f'({text}printf %s "$resumes")', host.home).stdout)
        (host.home / place / ".rest").mkdir(parents=True, exist_ok=True)

    assert found == [b"", b"yes"]
