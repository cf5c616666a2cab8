"""GPUs are read once for status, start, train and stop, by the tool that the host has."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig, jobs, remote
from ringtasks.errors import JobNotStartedError
from ringtasks.jobs import Gpu
from ringtasks.remote.answers import lines_by_name
from ringtasks.remote.programs import Program
from ringtasks.remote.resources import Resources, parse_resources
from ringtasks.training.preflight import checks
from ringtasks.training.probe import probe_host
from ringtasks.training.settings import Preflight
from tests.support.amd import AMD_SMI_VERSIONS, AmdSmi, RocmSmi
from tests.support.fixtures import Inv, MakeSshd, WriteHosts, gpu_server, in_process, job_host
from tests.support.jobs import JobHost, end_jobs
from tests.support.nvidia import Gpus
from tests.support.shells import SHELLS
from tests.support.sshd import Sshd

server = gpu_server
over_master = in_process
host = job_host

INFOROM = "WARNING: infoROM is corrupted at gpu 0000:81:00.0"
MISMATCH = (
    "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.144"
)


@pytest.fixture
def gpus(tmp_path: Path) -> Gpus:
    return Gpus(tmp_path / "gpus", count=2)


def driver_check(host: JobHost) -> str:
    found = checks(probe_host(host.client), Preflight(), gpus=1)
    return "\n".join(map(str, found))


def test_gpu_rows_are_read_even_if_the_tool_warns_and_fails(host: JobHost, gpus: Gpus) -> None:
    gpus.warn(INFOROM)

    (status,) = jobs.overview([host.client])
    job = host.start("sleep 60", gpus=1)
    train = driver_check(host)

    assert [gpu.is_free for gpu in status.gpus] == [True, True]
    assert INFOROM in status.gpu_message
    assert INFOROM in job.warning
    assert f"GPU driver: answers, 2 GPUs; nvidia-smi ended with exit status 14: {INFOROM}" in train
    assert "GPUs free: 1 of 2" in train


#: As nvidia-smi 580 prints them: its device file, or its library, cannot be opened.
BLOCKED = "Failed to initialize NVML: GPU access blocked by the operating system"
NO_LIBRARY = (
    "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that the "
    "NVIDIA Display Driver is properly installed and present in your system.\n"
    "Please also try adding directory that contains libnvidia-ml.so to your system PATH."
)


@pytest.mark.matrix(2)
@pytest.mark.parametrize(
    ("said", "status"),
    [(MISMATCH, 18), ("No devices were found", 6), (BLOCKED, 17), (NO_LIBRARY, 12)],
)
def test_gpu_tool_error_is_shown_in_full(host: JobHost, gpus: Gpus, said: str, status: int) -> None:
    gpus.fail(said, status)
    whole = said.replace("\n", "; ")

    (seen,) = jobs.overview([host.client])
    with pytest.raises(JobNotStartedError) as refused:
        host.start("true", gpus=1)

    assert whole in seen.gpu_message
    assert whole in str(refused.value)
    assert f"(exit status {status})" in str(refused.value)
    assert whole in driver_check(host)


def test_status_task_shows_the_gpu_tool_error(
    inv: Inv, server: Sshd, gpus: Gpus, write_hosts: WriteHosts
) -> None:
    write_hosts(box={"ssh_host": server.address, "ssh_port": server.port})
    gpus.fail(MISMATCH, 18)

    done = inv("status")

    assert done.returncode == 0
    assert b"Driver/library version mismatch; NVML library version: 550.144" in done.stderr


def test_memory_in_use_by_no_visible_process_is_not_free(host: JobHost, gpus: Gpus) -> None:
    gpus.set(0, memory_used=60_000)
    gpus.set(1, memory_used=4_000)  # below 5 %

    (status,) = jobs.overview([host.client])
    with pytest.raises(JobNotStartedError) as refused:
        host.start("true", gpus=2)
    job = host.start("true", gpus=2, any_memory=True)
    job.wait(20)

    assert [gpu.is_free for gpu in status.gpus] == [False, True]
    assert "GPU 0: 60000 MiB in use by no visible process" in str(refused.value)
    assert "--gpus 2:any-memory" in str(refused.value)
    assert "GPU 0: 60000 MiB in use by no visible process" in driver_check(host)
    needed = checks(probe_host(host.client), Preflight(), gpus=2, any_memory=True)
    assert [each for each in needed if not each.is_passed] == []
    assert job.status().gpus == (0, 1)


def test_gpu_whose_memory_the_driver_cannot_read_is_not_free(host: JobHost, gpus: Gpus) -> None:
    gpus.set(0, memory_used="[GPU requires reset]")
    gpus.set(1, memory_used="[N/A]", memory_total="[N/A]")  # has no memory of its own

    (status,) = jobs.overview([host.client])
    job = host.start("true", gpus=1)
    with pytest.raises(JobNotStartedError, match=r"GPU 0: its memory in use is \[GPU requires"):
        host.start("true", gpus=2)
    job.wait(20)

    assert [gpu.is_free for gpu in status.gpus] == [False, True]
    assert job.status().gpus == (1,)


def test_flag_allows_gpus_with_memory_in_use(
    inv: Inv, server: Sshd, gpus: Gpus, write_hosts: WriteHosts
) -> None:
    write_hosts(box={"ssh_host": server.address, "ssh_port": server.port})
    for n in range(2):
        gpus.set(n, memory_used=60_000)

    refused = inv("start", "--host", "box", "--gpus", "1", "--cmd", "true")
    taken = inv("start", "--host", "box", "--gpus", "1:any-memory", "--cmd", "true")
    wrong = inv("start", "--host", "box", "--gpus", "1:x", "--cmd", "true")

    assert (refused.returncode, taken.returncode, wrong.returncode) == (1, 0, 2)


def test_gpus_are_not_taken_if_their_processes_cannot_be_read(host: JobHost, gpus: Gpus) -> None:
    smi = gpus.bin / "nvidia-smi"
    smi.rename(gpus.bin / "real")
    smi.write_text(
        "#!/bin/sh\ncase $* in *compute-apps*) echo Insufficient Permissions; exit 4 ;; esac\n"
        f'exec {gpus.bin}/real "$@"\n'
    )
    smi.chmod(0o755)

    with pytest.raises(JobNotStartedError, match=r"which processes there are: Insufficient"):
        host.start("true", gpus=1)


def test_gpus_are_not_taken_if_a_process_runs_on_an_instance_of_one(
    host: JobHost, gpus: Gpus
) -> None:
    smi = gpus.bin / "nvidia-smi"
    smi.rename(gpus.bin / "real")
    row = "MIG-4c8d9a1e-6f2b-5a3c-9d7e-0b1f2a3c4d5e, 4711, 9000"
    smi.write_text(
        f"#!/bin/sh\ncase $* in *compute-apps*) echo {row}; exit ;; esac\n"
        f'exec {gpus.bin}/real "$@"\n'
    )
    smi.chmod(0o755)

    with pytest.raises(JobNotStartedError, match=r"which processes there are: .*instance.*4711"):
        host.start("true", gpus=1)


ORIN = "54d0709b-558d-5a59-9c65-0c5fc14a21a4"
A100 = "GPU-7fdaf0a5-179b-f636-d15d-daf243e3ff16"


@pytest.mark.parametrize(
    ("gpu", "app", "in_use"),
    [
        (f"{ORIN}, Orin (nvgpu), [N/A], [N/A], [N/A]", "", ""),
        (f"{ORIN}, NVIDIA Thor, [N/A], [N/A], 0", f"{ORIN}, 4711, 25700", "process 4711"),
        (f"{A100}, A100, 81920, 39, [N/A]", f"{A100}, [Not Supported], [N/A]", "processes that ca"),
        (f"{A100}, A100, 81920, 39, 0", "[GPU is lost], [GPU is lost], [N/A]", "processes that ca"),
        (f"{A100}, A100, 81920, 39, 0", f"{A100}, 52, [Insufficient Permissions]", "process 52"),
        (f"{A100}, A100, 81920, 39, 0", "ERR!, 52, 10", "processes that ca"),
        (f"{A100}, A100, 81920, 39, 0", "Unable to list them: Unknown Error", "processes that ca"),
        (f"{A100}, A100, 81920, 39, 0", "No running processes found", ""),
        (f"{A100}, A100, 81920, [N/A], 0", "", "its memory in use is [N/A]"),
        (f"{A100}, A100, N/A, Unknown Error, 0", "", "its memory in use is Unknown Error"),
    ],
)
def test_gpu_counts_as_free_only_if_its_rows_say_so(
    tmp_path: Path, gpu: str, app: str, in_use: str
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        f"#!/bin/sh\ncase $* in *compute-apps*) echo '{app}' ;; *) echo '0, {gpu}' ;; esac"
    )
    smi.chmod(0o755)

    (found,) = read_gpus(tmp_path).gpus
    at_start = "rt_percent=5 rt_mib=500 rt_read=$(rt_gpus); rt_in_use"
    reserve = Program(jobs.__file__, "reserve.sh").text

    assert found.in_use.startswith(in_use)
    assert found.is_free == (in_use == "")
    if found.are_pids_known:
        assert printed_by(reserve + at_start, tmp_path) == f"0 {found.uuid} {in_use}\n"


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small file system")
def test_gpus_are_read_if_the_temporary_folder_is_full(
    gpus: Gpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus.occupy(1, 4711)
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", small], check=True)
    (small / "filler").write_bytes(bytes(4096))
    monkeypatch.setenv("TMPDIR", str(small))

    try:
        found = read_gpus(gpus.bin)
    finally:
        subprocess.run(["umount", small], check=True)

    assert [gpu.in_use for gpu in found.gpus] == ["", "process 4711"]
    assert found.gpu_message == ""


def host_with(make_sshd: MakeSshd, key: Path, bin: Path) -> JobHost:
    server = make_sshd(environ={"PATH": f"{bin}:{os.environ['PATH']}"})
    config = SSHConfig(server.address, server.port, server.user, str(key), name="amd")
    return JobHost(server.home, SSHClient(config))


@pytest.mark.matrix(3)
@pytest.mark.parametrize("version", AMD_SMI_VERSIONS)
def test_amd_gpus_are_read_with_each_version_of_amd_smi(
    make_sshd: MakeSshd, client_key: Path, tmp_path: Path, version: str
) -> None:
    smi = AmdSmi(tmp_path / "smi", version)
    smi.use(1, 284, 4711)
    smi.use(3, 100_000)
    host = host_with(make_sshd, client_key, smi.bin)

    with host.client:
        job = host.start('echo "$HIP_VISIBLE_DEVICES-$CUDA_VISIBLE_DEVICES"; sleep 60', gpus=2)
        (status,) = jobs.overview([host.client])
        with pytest.raises(JobNotStartedError) as refused:
            host.start("true", gpus=1)
        found = probe_host(host.client)
        job.stop(0.1)

    name = "AMD Instinct MI300X"
    assert status.gpus[0] == Gpu(0, f"GPU-{smi.uuid(0)}", name, 196592, 284, 7, job=job.id)
    assert status.gpus[1].pids == (4711,)
    assert status.gpu_message == ""
    assert [gpu.is_free for gpu in status.gpus] == [False] * 4
    assert host.log(job) == "0,2-\n"
    assert "GPU 3: 100000 MiB in use by no visible process" in str(refused.value)
    assert (found.driver, len(found.gpus), found.free_gpus) == ("ok", 4, 0)
    end_jobs(host.home)


def test_amd_smi_error_is_shown(make_sshd: MakeSshd, client_key: Path, tmp_path: Path) -> None:
    smi = AmdSmi(tmp_path / "smi", "6.4")
    smi.fail("ERROR:root:Unable to detect any GPU devices, check amdgpu version and module status")
    host = host_with(make_sshd, client_key, smi.bin)

    with host.client:
        (status,) = jobs.overview([host.client])
        with pytest.raises(JobNotStartedError, match=r"amd-smi fails \(exit status 20\): ERROR"):
            host.start("true", gpus=1)

    assert status.gpu_message.startswith("amd-smi ended with exit status 20: ERROR:root:Unable")


WARNING = "[WARNING] User is missing the following required groups: render"
DENIED = {"error": "AMDSMI error: Permission Denied", "code": -10}


def printed_by(program: str, bin: Path, *shell: str) -> str:
    """Return what a program prints on a host with the tools in a folder."""
    done = subprocess.run(
        [*(shell or ["sh"]), "-c", Program(remote.__file__, "gpus.sh").text + program],
        env={**os.environ, "PATH": f"{bin}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def read_gpus(bin: Path) -> Resources:
    return parse_resources(lines_by_name(printed_by("rt_gpus", bin)))


def test_text_around_the_documents_of_amd_smi_is_a_warning(tmp_path: Path) -> None:
    smi = AmdSmi(tmp_path / "smi", "6.4", count=2)
    smi.use(1, 284, 4711)
    smi.warn(WARNING)

    found = read_gpus(smi.bin)

    assert [gpu.pids for gpu in found.gpus] == [(), (4711,)]
    assert found.gpu_message == WARNING


def test_amd_gpus_are_not_free_if_their_processes_cannot_be_read(tmp_path: Path) -> None:
    smi = AmdSmi(tmp_path / "smi", "6.1", count=2)
    smi.replace("process", DENIED)
    rocm = RocmSmi(tmp_path / "rocm", is_old=False)
    rocm.tell_processes("Unable to get list of KFD PIDs. A kernel update may be needed")

    found = read_gpus(smi.bin)
    by_rocm = read_gpus(rocm.bin)
    rocm.tell_processes("PID 4711, Not supported on the given system")

    assert [gpu.in_use for gpu in found.gpus] == 2 * ["processes that cannot be read"]
    assert found.gpu_message == DENIED["error"]
    assert [gpu.is_free for gpu in by_rocm.gpus] == [False] * 3
    assert "4711, Not supported" in (again := read_gpus(rocm.bin)).gpu_message
    assert [gpu.is_free for gpu in again.gpus] == [False] * 3


@pytest.mark.parametrize(
    ("command", "document"),
    [
        ("process", [{"gpu": 0, "process_list": "N/A"}, {"gpu": 1, "process_list": []}]),
        *(
            (
                "process",
                [{"gpu": n, "process_list": [{"process_info": {"pid": pid}}]} for n in (0, 1)],
            )
            for pid in ("N/A", 0)
        ),
        ("process", [{"gpu": 0, "process_list": []}]),
        ("list", DENIED),  # without the uuids, a reservation is not found
    ],
)
def test_amd_gpus_are_free_only_if_their_documents_are_complete(
    tmp_path: Path, command: str, document: object
) -> None:
    smi = AmdSmi(tmp_path / "smi", "6.4", count=2)
    smi.replace(command, document)

    assert [gpu.is_free for gpu in read_gpus(smi.bin).gpus] == [False] * 2


def test_tool_is_found_in_the_folder_of_rocm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AmdSmi(tmp_path / "rocm", "6.4", count=2)
    monkeypatch.setenv("ROCM_PATH", str(tmp_path / "rocm"))

    assert len(read_gpus(tmp_path).gpus) == 2


def test_each_amd_gpu_has_an_id_of_its_own(tmp_path: Path) -> None:
    smi = AmdSmi(tmp_path / "smi", "6.1", count=4)
    uuids = ["same", "same", "AMDSMI_STATUS_NOT_SUPPORTED - Feature, not supported", "N/A"]
    smi.replace("list", [{"gpu": n, "uuid": uuid} for n, uuid in enumerate(uuids)])

    found = read_gpus(smi.bin)

    host = os.uname().nodename
    ids = ["GPU-same", *(f"GPU-amd-{host}-{n}" for n in (1, 2, 3))]
    assert [(gpu.uuid, gpu.memory_total_mib) for gpu in found.gpus] == [(i, 196592) for i in ids]


def test_sizes_of_amd_gpus_may_have_other_units_or_none(tmp_path: Path) -> None:
    smi = AmdSmi(tmp_path / "smi", "6.4", count=3)
    sizes: list[object] = [{"value": 191.98, "unit": "GB"}, {"value": 2**30, "unit": "B"}, "N/A"]
    metric = [{"gpu": n, "mem_usage": {"used_vram": size}} for n, size in enumerate(sizes)]
    smi.replace("metric", {"gpu_data": metric})

    found = read_gpus(smi.bin)

    assert [gpu.memory_used_mib for gpu in found.gpus] == [196587, 1024, None]
    assert found.gpus[2].in_use == "its memory in use is [unknown]"


@pytest.mark.parametrize("is_old", [False, True])
def test_amd_gpus_are_read_with_rocm_smi(
    make_sshd: MakeSshd, client_key: Path, tmp_path: Path, is_old: bool
) -> None:
    host = host_with(make_sshd, client_key, RocmSmi(tmp_path / "smi", is_old=is_old).bin)

    with host.client:
        (status,) = jobs.overview([host.client])
        job = host.start("echo $HIP_VISIBLE_DEVICES", gpus=1)
        job.wait(20)

    assert status.gpus == (
        Gpu(0, "GPU-0x1a27b4b5d9b64c1", "Instinct MI210", 65536, 10, 3),
        Gpu(1, "GPU-0x2a27b4b5d9b64c1", "Instinct MI210", 65536, 8202, 3),
        Gpu(2, "GPU-0x3a27b4b5d9b64c1", "Instinct MI210", 65536, 10, 3, (4711,)),
    )
    assert host.log(job) == "0\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_gpu_query_gives_equal_results_in_each_shell_and_awk(tmp_path: Path, shell: str) -> None:
    smi = AmdSmi(tmp_path / "smi", "7.0", count=1)
    if shell.startswith("busybox"):
        (smi.bin / "awk").symlink_to(str(shutil.which("busybox")))

    assert printed_by("rt_gpus", smi.bin, *shell.split()) == (
        f"tool amd-smi 0\ngpu 0, GPU-{smi.uuid(0)}, AMD Instinct MI300X, 196592, 284, 7\n"
    )
