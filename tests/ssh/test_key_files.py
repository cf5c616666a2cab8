"""A key file that ssh cannot use is named with the command that fixes it."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ringtasks import Connection, SSHClient, SSHConfig
from ringtasks.errors import UsageError
from ringtasks.ssh.inprocess.private_keys import key_of_file, key_of_text
from ringtasks.ssh.key_files import problem_of, why_refused
from tests.support.agents import Agent
from tests.support.fixtures import MakeSshd
from tests.support.sshd import Sshd, make_key


def damaged(path: Path, kind: str) -> Path:
    text = path.read_bytes()
    if kind == "too open":
        path.chmod(0o644)
    elif kind == "public":
        return Path(f"{path}.pub")
    elif kind == "CRLF":
        path.write_bytes(text.replace(b"\n", b"\r\n"))
    elif kind == "no newline":
        path.write_bytes(text.rstrip(b"\n"))
    elif kind == "rubbish":
        path.write_bytes(b"hello\n")
    elif kind == "cut":
        path.write_bytes(text[:200])
    elif kind == "lines missing":
        lines = text.splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:3], *lines[4:]]))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "byte order mark":
        path.write_bytes(b"\xef\xbb\xbf" + text)
    elif kind == "UTF-16":
        path.write_bytes(text.decode().replace("\n", "\r\n").encode("utf-16"))
    elif kind == "indented":
        path.write_bytes(b"".join(b"  " + line for line in text.splitlines(keepends=True)))
    elif kind == "spaces":
        path.write_bytes(text.replace(b"\n", b"  \n"))
    elif kind == "blank lines":
        path.write_bytes(b"\n\n" + text)
    elif kind == "written out":
        path.write_bytes(text.replace(b"\n", b"\\n"))
    elif kind == "one line":
        path.write_bytes(text.replace(b"\n", b" "))
    elif kind == "JSON":
        path.write_bytes(b'{"private_key": "%s"}' % text.replace(b"\n", b"\\n"))
    elif kind == "ssh.com":
        path.write_bytes(b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nP2/5\n")
    elif kind == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif kind == "certificate":
        Path(f"{path}.pub").rename(f"{path}-cert.pub")
        return Path(f"{path}-cert.pub")
    elif kind == "PuTTY":
        path.write_bytes(b"PuTTY-User-Key-File-3: ssh-ed25519\n")
    return path


KINDS = {
    "too open": ("too open", "chmod 600"),
    "public": ("is a public key", "set ssh_key to the private key"),
    "CRLF": ("CRLF", "sed -i"),
    "no newline": ("final newline", "echo >>"),
    "rubbish": ("is not a private key", "set ssh_key"),
    "cut": ("is cut off: its END line is missing", "copy it again"),
    "lines missing": ("is damaged: lines are missing", "copy it again"),
    "empty": ("is empty", "copy it again"),
    "PuTTY": ("PuTTY's format", "puttygen"),
    "byte order mark": ("begins with a byte order mark", "sed -i"),
    "UTF-16": ("is encoded in UTF-16", "iconv -f UTF-16"),
    "indented": ("spaces at the ends of its lines", "sed -i"),
    "spaces": ("spaces at the ends of its lines", "sed -i"),
    "written out": ("has '\\n' written out", "sed -i"),
    "one line": ("has spaces in place of its line ends", "sed -i"),
    "JSON": ("is not a private key", "set ssh_key"),
    "ssh.com": ("ssh.com's format", "ssh-keygen -i"),
    "pipe": ("is not a regular file", "set ssh_key"),
    "certificate": ("is a public key", "/key"),
    "blank lines": ("other lines before its BEGIN line", "sed -i"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_damaged_key_file_is_reported_with_its_fix(tmp_path: Path, kind: str) -> None:
    problem = problem_of(damaged(make_key(tmp_path / "key"), kind))

    assert problem is not None
    assert KINDS[kind][0] in problem.what
    assert KINDS[kind][1] in problem.fix
    assert "-cert" not in problem.fix


@pytest.mark.parametrize(
    "kind", [kind for kind, (_, fix) in KINDS.items() if fix.startswith(("sed -i", "iconv"))]
)
def test_command_shown_for_a_damaged_key_file_fixes_it(tmp_path: Path, kind: str) -> None:
    path = damaged(make_key(tmp_path / "a key"), kind)
    derive = ["ssh-keygen", "-y", "-P", "", "-f", path]
    problem = problem_of(path)
    assert problem is not None
    before = subprocess.run(derive, capture_output=True, check=False)

    subprocess.run(problem.fix, shell=True, check=True)

    assert (before.returncode != 0, problem_of(path)) == (True, None)
    assert subprocess.run(derive, capture_output=True, check=False).returncode == 0


def test_command_shown_for_a_damaged_key_file_leaves_it_alone_if_its_program_fails(
    tmp_path: Path,
) -> None:
    path = damaged(make_key(tmp_path / "key"), "UTF-16")
    before, problem = path.read_bytes(), problem_of(path)
    assert problem is not None

    subprocess.run(f"iconv() {{ return 127; }}; {problem.fix}", shell=True, check=False)

    assert path.read_bytes() == before


def test_valid_key_file_has_no_problem(tmp_path: Path) -> None:
    assert problem_of(make_key(tmp_path / "key")) is None
    assert problem_of(make_key(tmp_path / "enc", "-t", "ed25519", "-N", "secret")) is None


@pytest.mark.parametrize("kind", ["too open", "CRLF", "public", "rubbish", "cut"])
def test_login_failure_caused_by_the_key_file_names_it(
    sshd: Sshd, tmp_path: Path, kind: str, use_control_master: bool
) -> None:
    key = damaged(make_key(tmp_path / "key"), kind)
    config = SSHConfig(
        sshd.address,
        sshd.port,
        sshd.user,
        str(key),
        use_control_master=use_control_master,
        connect_timeout=10,
    )
    with SSHClient(config) as client:
        result = client.run("true")

    assert (result.returncode, result.success) == (255, False)
    assert KINDS[kind][0] in str(result.error)
    assert KINDS[kind][1] in str(result.error)
    assert "overloaded" not in str(result.error)


def configured_by_file(sshd: Sshd, key: Path) -> SSHConfig:
    """The settings for a host whose key is named in ssh's own configuration."""
    settings = Path.home() / ".ssh" / "config"
    settings.parent.mkdir(mode=0o700)
    settings.write_text(f"IdentityFile {key}\n")
    return SSHConfig(sshd.address, sshd.port, sshd.user)


def test_login_failure_caused_by_a_configured_key_or_its_certificate_names_it(
    sshd: Sshd, tmp_path: Path, use_control_master: bool
) -> None:
    key = make_key(tmp_path / "key")
    sign = ["ssh-keygen", "-q", "-s", make_key(tmp_path / "ca"), "-I", "me", "-n", sshd.user]
    subprocess.run([*sign, "-V", "-2h:-1h", f"{key}.pub"], check=True, capture_output=True)
    config = configured_by_file(sshd, key)
    config.use_control_master = use_control_master

    with SSHClient(config) as client:
        expired = str(client.run("true").error)
        certificate = Path(f"{key}-cert.pub").rename(tmp_path / "certificate.pub")
        with (Path.home() / ".ssh" / "config").open("a") as settings:
            settings.write(f"CertificateFile {certificate}\n")
        named_and_expired = str(client.run("true").error)
        certificate.unlink()
        missing = str(client.run("true").error)
        key.chmod(0o644)
        exposed = str(client.run("true").error)

    assert f"the key file {key} has a certificate that has expired" in expired
    assert f"ssh-keygen -L -f {key}-cert.pub" in expired
    assert f"the key file {certificate} has a certificate that has expired" in named_and_expired
    assert f"CertificateFile {certificate} does not exist" in missing
    assert f"the key file {key} " in exposed
    assert f"chmod 600 {key}" in exposed


@pytest.mark.parametrize("passphrase", ["", "secret"])
def test_public_key_of_another_key_beside_the_file_is_named(
    tmp_path: Path, passphrase: str
) -> None:
    key = make_key(tmp_path / "a key", "-t", "ed25519", "-N", passphrase)
    own = why_refused(key)
    make_key(tmp_path / "other").with_suffix(".pub").replace(f"{key}.pub")

    problem = why_refused(key)

    assert problem is not None
    assert "the public key of another one" in problem.what
    assert own is None or own.what == "is encrypted"
    if not passphrase:
        subprocess.run(problem.fix, shell=True, check=True)
        assert why_refused(key) is None


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("too open", "id_ed25519 has mode 0644: too open, ssh ignores it; chmod 600"),
        ("encrypted", "id_ed25519 is encrypted; eval"),
        ("encrypted, in the agent", ""),
        ("absent", "there is no key: no usual one in ~/.ssh, none in an agent or as ssh_key; set"),
        ("absent, in the agent, IdentitiesOnly yes", "IdentitiesOnly in ~/.ssh/config leaves out"),
        (
            "absent, IdentityFile ~/gone",
            "there is no key: IdentityFile ~/gone does not exist; name",
        ),
        ("absent, in the agent, IdentityAgent ~/gone", "there is no key: no usual one in ~/.ssh"),
    ],
)
def test_usual_key_that_cannot_be_used_is_named(
    kind: str,
    named: str,
    make_sshd: MakeSshd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use_control_master: bool,
) -> None:
    if kind == "too open" and not use_control_master:
        named = ""  # Paramiko offers it
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    make_key(folder / "id_ed25519", "-t", "ed25519", "-N", "")
    server = make_sshd(None)
    config = SSHConfig(server.address, server.port, server.user)
    config.use_control_master = use_control_master

    with Agent(tmp_path / "agent") as agent, SSHClient(config) as client:
        if "agent" in kind:
            monkeypatch.setenv("SSH_AUTH_SOCK", agent.path)
            agent.add(folder / "id_ed25519")
        if kind == "too open":
            (folder / "id_ed25519").chmod(0o644)
        elif kind.startswith("absent"):
            (folder / "id_ed25519").unlink()
            (folder / "id_ed25519.pub").unlink()
            (folder / "config").write_text(kind.rpartition(",")[2] if "Ident" in kind else "")
        else:
            encrypt = ["ssh-keygen", "-q", "-p", "-N", "secret", "-f", folder / "id_ed25519"]
            subprocess.run(encrypt, check=True, stdout=subprocess.DEVNULL)
        error = str(client.run("true").error)

    assert named in error
    assert ("the key file" in error) is ("id_ed25519" in named)


@pytest.mark.parametrize("kind", ["a public key", "a folder"])
def test_configured_key_that_is_no_private_key_is_named(
    kind: str,
    sshd: Sshd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use_control_master: bool,
) -> None:
    wrong = tmp_path
    if kind == "a public key":
        wrong = Path(f"{make_key(tmp_path / 'key')}.pub").rename(tmp_path / "unsuffixed")
    config = configured_by_file(sshd, wrong)
    config.use_control_master = use_control_master

    with SSHClient(config) as client:
        error = str(client.run("true").error)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "no-agent"))
        with_agent = str(client.run("true").error)

    assert f"the key file {wrong} is {kind}; set ssh_key" in error
    assert ("the key file" in with_agent) is (kind == "a folder")  # it names a key of the agent


FORMATS: dict[str, tuple[str, ...]] = {
    "OpenSSH": ("-t", "ed25519"),
    "PEM": ("-t", "rsa", "-b", "2048", "-m", "PEM"),
    "PKCS #8": ("-t", "rsa", "-b", "2048", "-m", "PKCS8"),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.matrix(3)
def test_encrypted_key_is_named_with_the_command_that_opens_it(
    sshd: Sshd, tmp_path: Path, name: str, use_control_master: bool
) -> None:
    key = make_key(tmp_path / "key", *FORMATS[name], "-N", "secret")
    config = SSHConfig(sshd.address, sshd.port, sshd.user, str(key))
    config.use_control_master = use_control_master

    with SSHClient(config) as client:
        result = client.run("true")

    assert result.returncode == 255
    assert "the key file is encrypted" in str(result.error)
    # There is no agent.
    assert f'eval "$(ssh-agent -s)"; ssh-add {key}' in str(result.error)


def make_device_key(path: Path) -> None:
    """Write a key whose private part would be in a FIDO device (PROTOCOL.key, PROTOCOL.u2f)."""

    def text(content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + content

    kind, point = text(b"sk-ssh-ed25519@openssh.com"), text(os.urandom(32)) + text(b"ssh:")
    private = b"same" * 2 + kind + point + b"\x01" + text(b"handle") + text(b"") + text(b"")
    private += bytes(range(1, 1 + -len(private) % 8))
    none = text(b"none") * 2 + text(b"") + (1).to_bytes(4, "big")
    blob = b"openssh-key-v1\0" + none + text(kind + point) + text(private)
    begin, end = (f"-----{word} OPENSSH PRIVATE KEY-----\n" for word in ("BEGIN", "END"))
    path.touch(mode=0o600)
    path.write_text(f"{begin}{base64.encodebytes(blob).decode()}{end}")
    public = base64.b64encode(kind + point).decode()
    Path(f"{path}.pub").write_text(f"sk-ssh-ed25519@openssh.com {public}\n")


@pytest.mark.parametrize("is_named", [True, False], ids=["ssh_key", "usual file"])
def test_key_of_a_device_that_is_missing_is_named(
    make_sshd: MakeSshd, is_named: bool, use_control_master: bool
) -> None:
    key = Path.home() / ".ssh" / "id_ed25519_sk"
    key.parent.mkdir(mode=0o700)
    make_device_key(key)
    sshd = make_sshd(key)
    config = SSHConfig(sshd.address, sshd.port, sshd.user, str(key) if is_named else None)
    config.use_control_master = use_control_master

    with SSHClient(config) as client:
        error = str(client.run("true").error)

    if use_control_master:
        assert "ssh: sign_and_send_pubkey: signing failed for ED25519-SK" in error
    else:
        assert f"{key}: only OpenSSH can use a FIDO key: set use_control_master" in error


@pytest.mark.parametrize("name", FORMATS)
def test_encrypted_key_is_opened_by_its_passphrase(sshd: Sshd, tmp_path: Path, name: str) -> None:
    key = make_key(tmp_path / "key", *FORMATS[name], "-N", "secret")
    sshd.authorize(key)
    kwargs = {"key_filename": str(key), "passphrase": "secret", "allow_agent": False}

    with Connection(sshd.address, sshd.user, sshd.port, connect_kwargs=kwargs) as connection:
        assert connection.run("echo in", hide=True, in_stream=False).stdout == "in\n"


def test_folder_as_the_key_file_is_named(tmp_path: Path, use_control_master: bool) -> None:
    config = SSHConfig("127.0.0.1", key_path=str(tmp_path), use_control_master=use_control_master)

    with SSHClient(config) as client, pytest.raises(UsageError, match="is a folder: set ssh_key"):
        client.run("true")


def test_empty_key_variable_is_named_if_the_log_in_is_refused(
    sshd: Sshd, use_control_master: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGTASKS_SSH_KEY", "")
    config = SSHConfig(sshd.address, sshd.port, sshd.user, use_control_master=use_control_master)

    with SSHClient(config) as client:
        result = client.run("true")

    assert "RINGTASKS_SSH_KEY is set but empty" in str(result.error)
    assert "set RINGTASKS_SSH_KEY to the text of the key" in str(result.error)


@pytest.mark.matrix(2)
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: f"\n\n{text}\n",
        lambda text: "".join(f"    {line}\n" for line in text.splitlines()),
    ],
    ids=["CRLF", "no newline", "blank lines", "indented"],
)
@pytest.mark.matrix(2)
def test_key_variable_may_have_other_line_ends_and_spaces(
    tmp_path: Path, change: Callable[[str], str]
) -> None:
    for number, options in enumerate([*FORMATS.values(), ("-t", "ecdsa")]):
        path = make_key(tmp_path / f"key{number}", *options, "-N", "")

        assert key_of_text(change(path.read_text())) == key_of_file(path)


def test_encrypted_key_in_the_key_variable_is_named(tmp_path: Path) -> None:
    for name, options in FORMATS.items():
        text = make_key(tmp_path / name[:3], *options, "-N", "secret").read_text()

        with pytest.raises(ValueError, match="holds an encrypted key"):
            key_of_text(text)


def test_pkcs8_key_is_read(tmp_path: Path) -> None:
    path = make_key(tmp_path / "key", "-t", "rsa", "-b", "2048", "-N", "", "-m", "PEM")
    text = subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", path], capture_output=True, check=True
    ).stdout
    (tmp_path / "pkcs8").write_bytes(text)

    assert b"BEGIN PRIVATE KEY" in text
    assert key_of_file(tmp_path / "pkcs8") == key_of_file(path)
    assert key_of_text(text.decode()) == key_of_file(path)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\\nabc\\n-----END", "written out"),
        ("ssh-ed25519 AAAA", "public key"),
    ],
)
def test_common_mistake_in_the_key_variable_is_named(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint) as caught:
        key_of_text(text)

    assert "abc" not in str(caught.value)
