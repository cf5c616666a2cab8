"""Host certificates as they come over the network."""

from __future__ import annotations

import base64
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringtasks.ssh.certificates import certified
from ringtasks.ssh.host_keys import HostKey
from tests.support.sshd import make_key

NAMES = ("box", "192.0.2.1")


class Signed:
    """A key, its certificate as it is sent, and the authority that has made it."""

    def __init__(self, folder: Path, authority_type: str = "ed25519") -> None:
        bits = ["-b", "2048"] if authority_type == "rsa" else []
        authority = make_key(folder / "authority", "-t", authority_type, *bits, "-N", "")
        own = make_key(folder / "own")
        signing = ["ssh-keygen", "-q", "-s", authority, "-I", "id", "-h", "-n", "box", f"{own}.pub"]
        subprocess.run(signing, check=True)
        self.key = HostKey.parse(Path(f"{own}.pub").read_text())
        self.authority = HostKey.parse(Path(f"{authority}.pub").read_text())
        self.blob = base64.b64decode(Path(f"{own}-cert.pub").read_text().split()[1])


@pytest.fixture(scope="module", params=["ed25519", "ecdsa", "rsa"])
def signed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Signed:
    return Signed(tmp_path_factory.mktemp("signed"), request.param)


def test_valid_certificate_names_its_authority(signed: Signed) -> None:
    assert certified(signed.blob, signed.key, NAMES, time.time()) == (signed.authority, "")


def test_certificate_of_another_key_is_refused(signed: Signed) -> None:
    found = certified(signed.blob, signed.authority, NAMES, time.time())

    assert found.refusal_reason == "it is for another key"


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_modified_certificate_is_never_valid(signed: Signed, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(signed.blob) - 1))
    kept = data.draw(st.integers(at, min(len(signed.blob), at + 8)))
    changed = signed.blob[:at] + data.draw(st.binary(max_size=8)) + signed.blob[kept:]

    try:
        found = certified(changed, signed.key, NAMES, time.time())
    except ValueError:
        return
    assert changed == signed.blob or found.refusal_reason or found.authority != signed.authority


def test_certificate_with_a_compressed_point_cannot_be_read(tmp_path: Path) -> None:
    blob = Signed(tmp_path, "ecdsa").blob
    start = (65).to_bytes(4, "big")  # of an uncompressed point on P-256: SEC 1, section 2.3.3

    with pytest.raises(ValueError, match="point"):
        certified(blob.replace(start + b"\4", start + b"\2"), HostKey("", ""), NAMES, 0)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_invalid_certificate_cannot_be_parsed(blob: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        certified(blob, HostKey("ssh-ed25519", ""), NAMES, 0)
