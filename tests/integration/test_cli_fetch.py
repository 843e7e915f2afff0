"""pyrkt trust and fetch as a person calls them: keys by discovery, secrets by file and descriptor, what is shown."""

from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import skopeo
from tests.support.gpg import Gpg
from tests.support.pods import Pyrkt, make_aci
from tests.support.tls import Authority
from tests.support.web import Web

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.oci import Answer

pytestmark = [pytest.mark.root, pytest.mark.peers]

HOST = "127.0.0.43"
"""Of the machine itself, and an appc name as well: so discovery asks its port 443."""
APP = f"{HOST}/app"
ACI = "/images/app-1.0.aci"
PASSPHRASE = "open sesame"


@pytest.fixture(scope="module")
def gpg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    made = Gpg(tmp_path_factory.mktemp("gnupg"))
    made.make_key("signer")
    yield made
    made.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, gpg: Gpg, authority: Authority) -> Iterator[Web]:
    """Serves a signed and encrypted ACI as the appc specification says, and its key."""
    folder = tmp_path_factory.mktemp("web")
    sealed = folder / "app.aci.gpg"
    sealed.write_bytes(gpg.encrypt(make_aci(folder / "app.aci", APP), PASSPHRASE))
    with Web(authority.server_context(authority.issue("web", (HOST,))), HOST, 443) as made:
        made.files = {
            "/app": (
                f'<meta name="ac-discovery" content="{APP} https://{HOST}/images/app-{{version}}.{{ext}}">'
                f'<meta name="ac-discovery-pubkeys" content="{APP} https://{HOST}/keys.asc">'
            ).encode(),
            "/keys.asc": gpg.run("--armor", "--export", "signer@example.com"),
            ACI: sealed.read_bytes(),
            f"{ACI}.asc": gpg.sign(sealed, "signer"),
        }
        yield made


@pytest.fixture
def tool(tmp_path: Path, web: Web, authority: Authority) -> Pyrkt:
    """The command with every check on, which believes the authority of ``web``."""
    directory = tmp_path / f"etc/certs.d/{HOST}"
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(authority.cert.read_bytes())
    web.log.clear()
    return Pyrkt(tmp_path, insecure="")


def secret(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def with_descriptor(tool: Pyrkt, text: str, *words: str) -> Answer:
    """Call with ``text`` to be read from the descriptor that N stands for in ``words``."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    try:
        return tool.call(*(word.replace("=N", f"={reader}") for word in words), pass_fds=(reader,))
    finally:
        os.close(reader)


def test_from_a_name_alone_to_a_running_program(tool: Pyrkt, web: Web) -> None:
    """The key comes by discovery, as the image does; the secret by a descriptor."""
    answer = tool.call("fetch", f"{APP}:1.0")
    assert (answer.code, answer.err.count("\n")) == (78, 2)
    assert f"no key is trusted to sign images named {APP}" in answer.err
    assert not web.asked(ACI)
    out = tool.ok("trust", f"--prefix={APP}", "--skip-fingerprint-review")
    assert f'key: "https://{HOST}/keys.asc"' in out
    assert "signer <signer@example.com>" in out
    (key,) = (tool.base / f"etc/trustedkeys/prefix.d/{APP}").iterdir()
    assert key.stat().st_mode & 0o777 == 0o644
    words = ("fetch", "--json", "--decryption-key", "passphrase:fd=N", f"{APP}:1.0")
    answer = with_descriptor(tool, f"{PASSPHRASE}\n", *words)
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    assert (record["name"], record["encrypted"], record["insecure"]) == (APP, True, [])
    assert [signer["fingerprint"] for signer in record["signers"]] == [key.name]
    assert tool.ok("run", APP, "--", "-c", "echo hello") == "hello\n"


@pytest.mark.parametrize("where", ["file", "decryptionkeys.d"])
def test_a_passphrase_from_a_file(tool: Pyrkt, where: str) -> None:
    tool.ok("trust", f"--prefix={APP}", "--skip-fingerprint-review")
    if where == "file":
        words = ["--decryption-key", f"passphrase:file={secret(tool.base / 'secret', PASSPHRASE)}"]
    else:
        words = []
        secret(tool.base / "etc/decryptionkeys.d/app.pass", f"{PASSPHRASE}\n")
    assert json.loads(tool.ok("fetch", "--json", *words, f"{APP}:1.0"))["encrypted"]


@pytest.mark.parametrize("given", ["none", "wrong"])
def test_a_wrong_or_missing_passphrase(tool: Pyrkt, given: str) -> None:
    tool.ok("trust", f"--prefix={APP}", "--skip-fingerprint-review")
    words = (
        ["--decryption-key", f"passphrase:file={secret(tool.base / 'secret', 'sesame')}"] if given == "wrong" else []
    )
    answer = tool.call("fetch", *words, f"{APP}:1.0")
    assert (answer.code, answer.out, answer.err.count("\n")) == (78, "", 2)
    assert "encrypted with a passphrase: AES256" in answer.err
    assert not list((tool.data / "images").iterdir())
    assert not list((tool.data / "tmp").iterdir())


def test_keys_over_plain_http_need_their_own_leave(tool: Pyrkt, gpg: Gpg) -> None:
    """--insecure-options=http is about images: a key that anybody may have sent vouches for nothing."""
    with Web() as plain:
        plain.files["/keys.asc"] = gpg.run("--armor", "--export", "signer@example.com")
        words = ("trust", f"--prefix={APP}", "--skip-fingerprint-review", f"{plain.url}/keys.asc")
        for options in ((), ("--insecure-options=http",)):
            answer = tool.call(*options, *words)
            assert (answer.code, "plain http is not allowed" in answer.err) == (78, True), answer
        assert not plain.log
        tool.ok(*words, "--insecure-allow-http")
    assert len(list((tool.base / "etc/trustedkeys").rglob("*/app/*"))) == 1


def test_a_key_for_every_image(tool: Pyrkt, gpg: Gpg) -> None:
    path = tool.base / "key.asc"
    path.write_bytes(gpg.run("--armor", "--export", "signer@example.com"))
    tool.ok("trust", "--root", "--skip-fingerprint-review", str(path))
    words = ("--decryption-key", f"passphrase:file={secret(tool.base / 'secret', PASSPHRASE)}")
    assert json.loads(tool.ok("fetch", "--json", *words, f"{APP}:1.0"))["signers"]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        pytest.param(("trust",), 2, "give --prefix or --root", id="without-bounds"),
        pytest.param(("trust", "--root", "--prefix=a.test", "k"), 2, "exclude each other", id="both"),
        pytest.param(("trust", "--root"), 2, "needs a key", id="root-by-discovery"),
        pytest.param(("trust", "--prefix=https://a.test", "k"), 2, "has a scheme", id="scheme"),
        pytest.param(("trust", "--prefix=a.test", "/nonexistent"), 66, "no such key file", id="no-file"),
        pytest.param(("trust", "--prefix=a.test", "/"), 2, "is a directory", id="directory"),
        pytest.param(("trust", f"--prefix={APP}/x", f"https://{HOST}/none"), 66, "answers 404", id="no-key-there"),
    ],
)
def test_trust_that_is_refused(tool: Pyrkt, words: tuple[str, ...], code: int, text: str) -> None:
    answer = tool.call(*words)
    assert (answer.code, answer.err.count("\n") <= 2, text in answer.err) == (code, True, True), answer.err
    assert not (tool.base / "etc/trustedkeys").exists()


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout that skopeo encrypted for key.pem; locked.pem is the same key under a password."""
    folder = tmp_path_factory.mktemp("sealed")
    for name in ("key", "other"):
        subprocess.run(
            ["openssl", "genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out",
             f"{folder}/{name}.pem"], check=True)  # fmt: skip
    subprocess.run(
        ["openssl", "pkey", "-in", f"{folder}/key.pem", "-pubout", "-out", f"{folder}/public.pem"], check=True
    )
    subprocess.run(
        ["openssl", "pkey", "-in", f"{folder}/key.pem", "-aes256", "-passout", f"pass:{PASSPHRASE}", "-out",
         f"{folder}/locked.pem"], check=True)  # fmt: skip
    for path in folder.glob("*.pem"):
        path.chmod(0o600)
    skopeo.Layout(path=folder / "plain").image([skopeo.busybox_root()], tag="1")
    skopeo.run("copy", "-q", "--insecure-policy", "--encryption-key", f"jwe:{folder}/public.pem",
               f"oci:{folder}/plain:1", f"oci:{folder}/layout:1")  # fmt: skip
    return folder


@pytest.mark.parametrize("how", ["plain", "file", "fd", "decryptionkeys.d", "second-of-two"])
def test_layers_open_with_a_key_given_in_every_way(tmp_path: Path, sealed: Path, how: str) -> None:
    tool, image = Pyrkt(tmp_path), f"oci:{sealed}/layout:1"
    password = secret(tmp_path / "password", f"{PASSPHRASE}\n")
    if how == "decryptionkeys.d":
        secret(tmp_path / "etc/decryptionkeys.d/a.pem", (sealed / "locked.pem").read_text())
        secret(tmp_path / "etc/decryptionkeys.d/a.pass", PASSPHRASE)
    words = {
        "plain": ["--decryption-key", f"{sealed}/key.pem"],
        "file": ["--decryption-key", f"{sealed}/locked.pem:file={password}"],
        "fd": ["--decryption-key", f"{sealed}/locked.pem:fd=N"],
        "decryptionkeys.d": [],
        "second-of-two": ["--decryption-key", f"{sealed}/other.pem", "--decryption-key", f"{sealed}/key.pem"],
    }[how]
    answer = with_descriptor(tool, PASSPHRASE, "fetch", "--json", *words, image)
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["encrypted"]
    assert "encrypted but not signed" in answer.err


def test_a_wrong_or_missing_key_is_one_line_with_the_recipients(tmp_path: Path, sealed: Path) -> None:
    tool = Pyrkt(tmp_path)
    for words in ([], ["--decryption-key", f"{sealed}/other.pem"]):
        answer = tool.call("fetch", *words, f"oci:{sealed}/layout:1")
        assert (answer.code, answer.out, answer.err.count("\n")) == (78, "", 2)
        assert "encrypted for 1 recipient: RSA-OAEP (2048 bits)" in answer.err
    assert not list((tool.data / "blobs").glob("*/*"))
    assert not list((tool.data / "trees").iterdir())


def test_a_terminal_sees_a_bar_and_is_left_as_it_was(tmp_path: Path) -> None:
    layout = skopeo.Layout(path=tmp_path / "layout")
    layer = [skopeo.Member(name="data", data=os.urandom(24 << 20))]
    layout.image([skopeo.busybox_root(), layer], tag="1")
    master, slave = pty.openpty()
    tool = Pyrkt(tmp_path)
    try:
        process = tool.popen("fetch", f"oci:{tmp_path}/layout:1", stderr=slave, env={**os.environ, "TERM": "xterm"})
        os.close(slave)
        shown = b""
        while part := _read(master):
            shown += part
        out, _ = process.communicate(timeout=60)
    finally:
        os.close(master)
    assert process.returncode == 0, shown
    assert b"layer " in shown
    assert b"MB" in shown
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l"), "the cursor is shown again"
    assert out.decode().startswith("sha256-")
    assert out.count(b"\n") == 1


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError as error:  # how a terminal ends whose last writer has gone
        if error.errno != errno.EIO:
            raise
        return b""
