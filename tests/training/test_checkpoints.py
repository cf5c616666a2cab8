"""A checkpoint that is pulled while it is being written is whole, or it is not kept."""

from __future__ import annotations

import os
import pickle
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ringtasks import jobs
from ringtasks.client.ssh_client import SSHClient
from ringtasks.errors import RunNotStartedError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.training.checkpoints import CheckpointPuller, claim, inspect
from ringtasks.training.cut_files import cut_files
from ringtasks.training.files import FileCopyError, TimeLimit, make_folder
from ringtasks.training.outputs import note_files
from ringtasks.training.probe import probe_host
from tests.support.fixtures import MakeSshd


@pytest.fixture
def there(tmp_path: Path) -> Path:
    folder = tmp_path / "host" / "checkpoint"
    folder.mkdir(parents=True)
    return folder


def puller(
    client: SSHClient, there: Path, keep: Path, told: list[str], done: str | None = None
) -> CheckpointPuller:
    return CheckpointPuller(client, str(there), keep, told.append, done)


def test_local_checkpoints_mirror_the_host_including_removals(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    keep = tmp_path / "kept"
    told: list[str] = []
    pulling = puller(client, there, keep, told)

    (there / "old").write_text("1")
    first = pulling.pull(), sorted(file.name for file in keep.iterdir())
    (there / "old").unlink()
    (there / "new").write_text("2")
    second = pulling.pull(), sorted(file.name for file in keep.iterdir())

    assert (first, second) == ((True, ["old"]), (True, ["new"]))
    assert told == []


def test_checkpoints_of_equal_size_and_second_are_distinguished(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    keep = tmp_path / "kept"
    pulling = puller(client, there, keep, [])
    kept = []

    for step in range(6):
        (there / "model").write_text(str(step))
        os.utime(there / "model", ns=(0, 10**18 + step))
        pulling.pull()
        kept.append((keep / "model").read_text())

    assert kept == ["0", "1", "2", "3", "4", "5"]


def test_checkpoint_changed_during_a_pull_does_not_replace_a_complete_one(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    keep = tmp_path / "kept"
    told: list[str] = []
    pulling = puller(client, there, keep, told)
    write(there, "begun")
    assert pulling.pull()
    is_over = threading.Event()

    def train() -> None:
        step = 0
        while not is_over.is_set():
            step += 1
            (there / "model").write_text(str(step))
            time.sleep(0.02)
            (there / "optimizer").write_text(str(step))

    training = threading.Thread(target=train)
    training.start()
    while_training = [pulling.pull() for _ in range(3)]
    kept = (keep / "model").read_text(), (keep / "optimizer").read_text()
    is_over.set()
    training.join()
    write(there, "ended")

    assert while_training == [False, False, False]
    assert kept == ("begun", "begun")
    assert pulling.pull()
    assert (keep / "model").read_text() == "ended"


def test_checkpoint_of_a_run_that_was_killed_meanwhile_does_not_replace_the_last_one(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    keep = tmp_path / "kept"
    is_killed = threading.Event()
    pulling = CheckpointPuller(client, str(there), keep, print, was_cut_off=is_killed.is_set)
    write(there, "whole")
    assert pulling.pull()
    (there / "model").write_text("half of it")
    is_killed.set()

    assert not pulling.pull()
    assert (keep / "model").read_text() == "whole"
    is_killed.clear()
    pulling.stop(None)
    assert not pulling.pull()  # one that was under way
    assert (keep / "model").read_text() == "whole"


def test_half_of_a_checkpoint_written_over_the_last_one_does_not_replace_it(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    keep = tmp_path / "kept"
    told: list[str] = []
    is_killed = threading.Event()
    pulling = CheckpointPuller(
        client, str(there), keep, told.append, "index.json", was_cut_off=is_killed.is_set
    )
    for name in ("shard-1", "shard-2", "index.json"):
        (there / name).write_text("whole")
    assert pulling.pull()
    written = (there / "index.json").stat().st_mtime_ns
    (there / "shard-1").write_text("next")
    os.utime(there / "shard-1", ns=(0, written + 2 * 10**9))
    is_killed.set()

    while_going = pulling.pull()
    pulling.stop(TimeLimit(20))

    assert not while_going
    assert (keep / "shard-1").read_text() == "whole"
    assert told == [
        f"the checkpoint was not pulled: box: {there} has files that are newer than index.json: "
        "the run may have been ended while it wrote"
    ]
    os.utime(there / "index.json", ns=(0, written + 3 * 10**9))
    pulling.stop(TimeLimit(20))
    assert (keep / "shard-1").read_text() == "next"


def test_pull_of_an_earlier_attempt_does_not_share_its_place_with_the_next_one(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    keep, told = tmp_path / "kept", list[str]()
    begun, is_free = threading.Event(), threading.Event()
    write(there, "one")

    def wait() -> bool:
        begun.set()
        return not is_free.wait(20)

    earlier = CheckpointPuller(client, str(there), keep, told.append, was_cut_off=wait)
    pull = threading.Thread(target=earlier.pull)
    pull.start()
    assert begun.wait(20)
    earlier.stop(None)
    later = puller(client, there, keep, told)

    later.stop(TimeLimit(0.1))
    at_once = keep.exists()
    is_free.set()
    pull.join()
    after_the_earlier = keep.exists()
    later.stop(TimeLimit(20))

    assert (at_once, after_the_earlier) == (False, False)
    assert told == ["the checkpoint was not pulled: an earlier pull has not ended"]
    assert (keep / "model").read_text() == "one"


def test_missing_checkpoint_is_no_error_and_an_unreadable_one_is_reported(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    away = SSHClient(SSHConfig("127.0.0.1", 9, name="away", use_control_master=False))

    assert puller(client, there, tmp_path / "kept", told).pull() is False
    assert puller(client, there / "not" / "there", tmp_path / "kept", told).pull() is False
    with pytest.raises(FileCopyError, match="cannot be listed: away: unreachable"):
        inspect(away, str(there))
    assert told == []
    assert not (tmp_path / "kept").exists()


def test_checkpoints_are_pulled_at_each_interval_and_once_more_on_stop(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    keep = tmp_path / "kept"
    pulling = puller(client, there, keep, [])
    write(there, "one")
    pulling.start(0.1)
    deadline = time.monotonic() + 10
    while not keep.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (keep / "model").read_text() == "one"
    write(there, "two")
    pulling.stop(TimeLimit(20))

    assert (keep / "model").read_text() == "two"


def test_last_pull_of_a_checkpoint_has_a_time_limit(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    pulling = CheckpointPuller(client, str(there), tmp_path / "kept", told.append)
    write(there, "one")
    pulling.start(0.1)

    pulling.stop(TimeLimit(1e-6))

    assert told == ["the checkpoint was not pulled: the fetch_timeout of 1e-06 s has passed"]
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    ("done", "why"),
    [
        (None, "box: there is no file in {}"),
        (
            "DONE",
            "box: neither {} nor a folder in it has a DONE that is not empty "
            "and newer than its other files",
        ),
    ],
)
def test_last_pull_says_why_there_is_no_checkpoint(
    client: SSHClient, there: Path, tmp_path: Path, done: str | None, why: str
) -> None:
    told: list[str] = []
    if done:
        (there / "step-1").mkdir()
        (there / "step-1" / done).touch()

    puller(client, there, tmp_path / "kept", told, done).stop(TimeLimit(20))

    assert told == [f"the checkpoint was not pulled: {why.format(there)}"]


def write(folder: Path, text: str) -> None:
    for name in ("model", "optimizer"):
        (folder / name).write_text(text)


@pytest.mark.parametrize("kind", ["folder", "file", "link", "below", "dangling link"])
def test_checkpoints_of_another_run_are_set_aside_once_and_kept(
    client: SSHClient, tmp_path: Path, kind: str
) -> None:
    cwd = tmp_path / "a run's folder"
    name = "deep/ckpt" if kind == "below" else "ckpt"
    folder, elsewhere = cwd / name, tmp_path / "big disk" / "ckpt"
    folder.parent.mkdir(parents=True)
    elsewhere.mkdir(parents=True)
    if kind == "file":
        folder.write_text("old")
    elif kind == "dangling link":
        folder.symlink_to(tmp_path / "nothing")
    else:
        if kind == "link":
            folder.symlink_to(elsewhere)
        folder.mkdir(exist_ok=True)
        (folder / "epoch").write_text("old")

    aside = claim(client, str(cwd), name, "run-2")
    folder.mkdir(exist_ok=True)
    (folder / "epoch").write_text("own")
    again = claim(client, str(cwd), name, "run-2")

    assert aside is not None
    left = Path(aside)
    assert left.name == ".ckpt.before-run-2"
    if kind != "dangling link":
        assert (left if kind == "file" else left / "epoch").read_text() == "old"
    assert again is None
    assert (folder / "epoch").read_text() == "own"
    assert folder.is_symlink() is (kind == "link")


def test_checkpoint_of_a_run_that_has_not_ended_is_left_alone(
    client: SSHClient, there: Path
) -> None:
    cwd, name = str(there.parent), there.name
    claim(client, cwd, name, "one")
    write(there, "of one")
    job = jobs.start(client, "sleep 60", group="one", cwd="~")
    try:
        with pytest.raises(
            RunNotStartedError, match=r"of the run one, which has not ended \(running\)"
        ):
            claim(client, cwd, name, "two")
        assert (there / "model").read_text() == "of one"
    finally:
        job.stop(0)

    assert claim(client, cwd, name, "two") == str(there.with_name(f".{name}.before-two"))


def test_empty_directory_is_left_and_an_unmovable_one_is_reported(
    client: SSHClient, tmp_path: Path
) -> None:
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "epoch").touch()
    (tmp_path / ".full.before-run-2").mkdir()

    assert claim(client, str(tmp_path), "ckpt", "run-2") is None
    with pytest.raises(FileCopyError, match=r"full cannot be set aside: .*way"):
        claim(client, str(tmp_path), "full", "run-2")
    assert (tmp_path / "full" / "epoch").exists()


def test_only_a_complete_checkpoint_replaces_the_local_one(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    keep = tmp_path / "kept"
    told: list[str] = []
    pulling = puller(client, there, keep, told, "trainer_state.json")
    kept = []

    def save(step: int, *names: str) -> None:
        folder = there / f"checkpoint-{step}[x]"
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).write_text(f"{name} {step}")

    save(1, "model")
    nothing_yet = pulling.pull()
    save(1, "trainer_state.json")
    save(2, "model")
    (there / "latest").write_text("1")
    for step in (2, 3):
        pulling.pull()
        kept.append(sorted(str(file.relative_to(keep)) for file in keep.rglob("*")))
        save(step, "trainer_state.json")
    (there / "checkpoint-3[x]" / "trainer_state.json").write_text("")  # power was lost
    pulling.pull()
    kept.append(sorted(file.name for file in keep.iterdir()))

    first = ["checkpoint-1[x]", "checkpoint-1[x]/model", "checkpoint-1[x]/trainer_state.json"]
    assert nothing_yet is False
    assert kept[0] == [*first, "latest"]
    assert "checkpoint-2[x]/trainer_state.json" in kept[1]
    assert kept[2] == ["checkpoint-1[x]", "checkpoint-2[x]", "latest"]
    assert told == []


def _torch(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", "weights " * 9)


def _safetensors(path: Path) -> None:
    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))


def _hdf5(path: Path) -> None:
    addresses = b"".join(n.to_bytes(8, "little") for n in (0, 2**64 - 1, 400, 2**64 - 1))
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + bytes(8) + addresses)
    os.truncate(path, 400)


def _distributed(path: Path) -> None:
    parts = [{"relative_path": "__0_0.distcp", "offset": n, "length": 4} for n in (4, 0)]
    path.write_bytes(pickle.dumps(parts))
    (path.parent / "__0_0.distcp").write_text("8 bytes.")


def _index(path: Path) -> None:
    path.write_text('{"weight_map": {"w": "shard-1", "v": "shard-2"}}')
    for shard in ("shard-1", "shard-2"):
        (path.parent / shard).write_text(shard)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("epoch=1.ckpt", _torch),
        ("model.safetensors", _safetensors),
        ("model.safetensors.index.json", _index),
        ("m.weights.h5", _hdf5),
        (".metadata", _distributed),
    ],
)
def test_file_that_is_cut_short_replaces_no_whole_one(
    client: SSHClient, there: Path, tmp_path: Path, name: str, save: Callable[[Path], None]
) -> None:
    told: list[str] = []
    pulling = puller(client, there, tmp_path / "kept", told)
    save(there / name)
    whole = (there / name).read_bytes()
    assert pulling.pull(), told
    (there / name).write_bytes(whole[: len(whole) // 2])

    while_going = pulling.pull()
    pulling.stop(TimeLimit(20))

    assert while_going is False
    assert (tmp_path / "kept" / name).read_bytes() == whole
    assert told == [f"the checkpoint was not pulled: box: {there}/{name} is cut short"]


@pytest.mark.parametrize("protocol", [2, 5])
def test_shard_of_a_distributed_checkpoint_that_is_cut_short_is_seen(
    tmp_path: Path, protocol: int
) -> None:
    index, shard = tmp_path / ".metadata", tmp_path / "__0_0.distcp"
    _distributed(index)
    index.write_bytes(pickle.dumps(pickle.loads(index.read_bytes()), protocol))

    whole = cut_files(tmp_path, None)
    os.truncate(shard, 7)
    cut = cut_files(tmp_path, None)
    shard.unlink()

    assert (whole, cut, cut_files(tmp_path, None)) == ([], [index], [index])


#: Each follows the beginning of a format: lengths of 2**62 bytes, JSON of other types, or too deep.
CONTENTS_OF_NO_FORMAT = {
    "length.safetensors": b"\0" * 7 + b"\x40{}",
    "list.safetensors": b"\2" + bytes(7) + b"[]",
    "number.index.json": b'{"weight_map": {"a": 3}}',
    "list.index.json": b'{"weight_map": {"a": [1]}}',
    "long.index.json": b'{"weight_map": {"a": "%s"}}' % (b"n" * 300),
    "deep.index.json": b"[" * 200_000,
    "text/.metadata": b"\x8d" + b"\0" * 7 + b"\x40x.",
    "disks.pt": b"\xff".join(
        (b"PK\3\4PK\6\6", b"\xff" * 50, b"PK\6\7", b"\xff" * 14, b"PK\5\6", b"\xff" * 17)
    ),
}


def test_content_of_a_host_that_follows_no_format_is_cut_short(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    (there / "text").mkdir()
    for name, content in CONTENTS_OF_NO_FORMAT.items():
        (there / name).write_bytes(content)
        cut = cut_files(there, None)
        assert cut == [there / name], name
        cut[0].unlink()
    (there / name).write_bytes(content)

    puller(client, there, tmp_path / "kept", told).stop(TimeLimit(20))

    assert told == [f"the checkpoint was not pulled: box: {there}/{name} is cut short"]


def test_checkpoint_whose_last_file_is_cut_short_is_left_out(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    for name, state in (("checkpoint-1", '{"step": 1}'), ("checkpoint-2", '{"step": ')):
        (there / name).mkdir()
        (there / name / "trainer_state.json").write_text(state)
    pulling = puller(client, there, tmp_path / "kept", [], "trainer_state.json")

    assert pulling.pull()
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["checkpoint-1"]
    (there / "checkpoint-2" / "trainer_state.json").write_text('{"step": 2}')
    assert pulling.pull()
    assert (tmp_path / "kept" / "checkpoint-2" / "trainer_state.json").exists()
    for n, state in ((1, '{"step": 11}'), (2, '{"step": ')):  # the second is cut, written over
        (there / f"checkpoint-{n}" / "trainer_state.json").write_text(state)
    assert pulling.pull()
    kept = sorted((tmp_path / "kept").glob("*/trainer_state.json"))
    assert [file.read_text() for file in kept] == ['{"step": 11}', '{"step": 2}']


def test_checkpoint_that_is_being_written_over_the_last_one_does_not_replace_it(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    pulling = puller(client, there, tmp_path / "kept", [], "done")
    for name in ("model", "done"):
        (there / name).write_text("1")
    assert pulling.pull()
    (there / "model").write_text("2")
    os.utime(there / "model", ns=(0, (there / "done").stat().st_mtime_ns + 1))

    assert not pulling.pull()
    assert (tmp_path / "kept" / "model").read_text() == "1"
    pulling.stop(TimeLimit(20))  # the program has ended by itself
    assert (tmp_path / "kept" / "model").read_text() == "2"


def test_checkpoint_of_many_that_is_being_written_over_keeps_its_last_copy(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    is_killed = threading.Event()
    keep = tmp_path / "kept"
    pulling = CheckpointPuller(client, str(there), keep, told.append, "done", is_killed.is_set)

    def save(name: str, epoch: str, *files: str) -> None:
        (there / name).mkdir(exist_ok=True)
        for n, file in enumerate(files):
            (there / name / file).write_text(epoch)
            os.utime(there / name / file, ns=(0, 10**18 + 2 * int(epoch) + n))

    kept = []
    for epoch in "123":
        save("best", epoch, "model", "done")
        save("last", epoch, "model", *(["done"] if epoch < "3" else []))
        assert pulling.pull(), told
        kept.append({name: (keep / name / "model").read_text() for name in ("best", "last")})
    pulling.stop(TimeLimit(20))  # the program has ended by itself
    ended = (keep / "last" / "model").read_text()

    assert kept == [{"best": e, "last": min(e, "2")} for e in "123"]
    assert ended == "3"


def test_directory_with_the_completion_file_is_one_checkpoint(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    pulling = puller(client, there, tmp_path / "kept", [], "done")
    (there / "shards").mkdir()
    (there / "shards" / "1").write_text("1")

    before = pulling.pull()
    (there / "done").write_text("yes")

    assert before is False
    assert pulling.pull()
    assert (tmp_path / "kept" / "shards" / "1").read_text() == "1"


@pytest.mark.parametrize("has_copy", [True, False], ids=["after the copy", "before the copy"])
def test_pulls_go_on_after_a_process_that_ended_while_it_replaced_the_copy(
    client: SSHClient, there: Path, tmp_path: Path, has_copy: bool
) -> None:
    keep, old = tmp_path / "kept", tmp_path / ".kept.old"
    for folder in [old, keep] if has_copy else [old]:
        folder.mkdir()
        (folder / "model").write_text("before")
    (there / "model").write_text("after")
    told: list[str] = []
    pulling = puller(client, there, keep, told)
    pulling.start(0.1)
    kept = (keep / "model").read_text()
    pulling.stop(TimeLimit(20))

    assert (kept, (keep / "model").read_text(), told) == ("before", "after", [])
    assert not old.exists()


def test_folder_without_a_last_file_is_left_out_whatever_its_name(
    client: SSHClient, there: Path, tmp_path: Path
) -> None:
    for name in ("whole", "back\\slash", "st*r"):
        (there / name).mkdir()
        (there / name / "weights").write_text(name)
    (there / "whole" / "done").write_text("1")
    told: list[str] = []

    assert puller(client, there, tmp_path / "kept", told, "done").pull(), told
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["whole"]


@pytest.mark.parametrize("ask", ["claim", "inspect", "note_files", "make_folder", "probe_host"])
def test_answer_that_is_cut_short_is_a_failure(
    make_sshd: MakeSshd, client_key: Path, tmp_path: Path, ask: str
) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "model").write_text("of another run")
    cut = 'ForceCommand sh -c "$SSH_ORIGINAL_COMMAND" | head -n 1'
    server = make_sshd(config=[cut])
    folder = str(tmp_path)
    asks = {
        "claim": lambda client: claim(client, folder, "checkpoint", "run"),
        "inspect": lambda client: inspect(client, f"{folder}/checkpoint"),
        "note_files": lambda client: note_files(client, folder, ["*"], "key"),
        "make_folder": lambda client: make_folder(client, f"{folder}/made"),
        "probe_host": lambda client: _raised(probe_host(client).error),
    }

    with (
        SSHClient(
            SSHConfig(server.address, server.port, server.user, str(client_key), name="box")
        ) as client,
        pytest.raises(FileCopyError, match="cut short"),
    ):
        asks[ask](client)


def _raised(error: str | None) -> None:
    if error is not None:
        raise FileCopyError(error)
