"""What the demonstration starts from: a busybox image of each family, made, signed and encrypted by others.

gpg signs and encrypts, skopeo encrypts, signs and pushes. Where one of them is missing, the images go without what it
would have done to them.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import hashlib
import io
import ipaddress
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST, REGISTRY = "example.com", "registry.example.com"
APP = f"{HOST}/app"
IMAGE = f"docker://{REGISTRY}/app:1.0"
SIGNER = "quickstart@example.com"
# On a terminal it ends at once; given a pipe it stays until that is closed, so that its limits can be read meanwhile.
SCRIPT = 'read -r host </proc/sys/kernel/hostname; echo "hello, pid $$ on $host"; [ -t 0 ] || read -r _ || true'
FRESH_S = 20 * 86400
"""The keys and certificates made here live for 30 days."""
PACKAGES = {"gpg": "gnupg", "skopeo": "skopeo", "docker-registry": "docker-registry", "busybox": "busybox-static"}


class Failed(Exception):
    """A step failed; the text says which and why."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The programs of others that there are; "" for one that is missing."""

    gpg: str
    skopeo: str
    registry: str
    busybox: str

    @classmethod
    def find(cls) -> Tools:
        """Look for each on PATH."""
        gpg, skopeo, registry, busybox = (shutil.which(name) or "" for name in PACKAGES)
        return cls(gpg=gpg, skopeo=skopeo, registry=registry, busybox=busybox)

    def missing(self) -> list[str]:
        """Return the Debian packages of those that are missing."""
        found = (self.gpg, self.skopeo, self.registry, self.busybox)
        return [package for package, path in zip(PACKAGES.values(), found, strict=True) if not path]

    @property
    def served(self) -> bool:
        """Whether there is a registry, and somebody to push to it."""
        return bool(self.registry and self.skopeo)


def run(*argv: str | Path, env: dict[str, str] | None = None, stdin: bytes = b"") -> str:
    """Run a program to its end and return what it printed; Failed with its words if it fails."""
    command = [str(word) for word in argv]
    try:
        done = subprocess.run(command, env=env, input=stdin, capture_output=True, check=False, timeout=300)
    except subprocess.TimeoutExpired:
        raise Failed(f"{Path(command[0]).name} did not end within five minutes") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
        line = " ".join(words.splitlines()[:2])
        raise Failed(f"{Path(command[0]).name} exited with {done.returncode}: {line}")
    return done.stdout.decode()


# --- the root file system and its two forms -----------------------------------------------------------------------


def make_root(busybox: str, into: Path) -> None:
    """Make the smallest useful root file system: busybox, or else the host's shell, and a passwd file."""
    for name in ("bin", "etc", "tmp", "root"):
        (into / name).mkdir(parents=True)
    (into / "tmp").chmod(0o1777)
    if busybox:
        shutil.copy(busybox, into / "bin/busybox")
        for applet in ("sh", "ls", "cat", "echo", "id", "hostname", "sleep", "true", "ps", "mount", "env"):
            (into / "bin" / applet).symlink_to("busybox")
    else:
        shutil.copy("/bin/sh", into / "bin/sh")
        for library in re.findall(r"/\S+", run("ldd", "/bin/sh")):
            target = into / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)
    (into / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    (into / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")


def tar_of(root: Path, prefix: str = "", extra: dict[str, bytes] | None = None) -> bytes:
    """Return a tar of ``root``, the same for the same content."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        return entry

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in (extra or {}).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(plain(entry), io.BytesIO(data))
        if prefix:
            tar.add(root, prefix, recursive=False, filter=plain)
        for path in sorted(root.rglob("*")):
            tar.add(path, f"{prefix}/{path.relative_to(root)}".lstrip("/"), recursive=False, filter=plain)
    return out.getvalue()


def make_layout(root: Path, into: Path) -> None:
    """Write an OCI image layout of one gzip layer, as the image specification describes it."""
    blobs = into / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    tar = tar_of(root)
    layer = put(gzip.compress(tar, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh", "-c", SCRIPT]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest()]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [layer],
    }
    described = put(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    described["annotations"] = {"org.opencontainers.image.ref.name": "1.0"}
    (into / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (into / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def make_aci(tools: Tools, state: Path, root: Path, gnupg: dict[str, str]) -> None:
    """Write web/app-1.0-OS-ARCH.aci (tar, gzip, OpenPGP symmetric AES-256), its signature and the discovery page."""
    arch = {"x86_64": "amd64"}.get(os.uname().machine, os.uname().machine)
    manifest = {
        "acKind": "ImageManifest",
        "acVersion": "0.8.11",
        "name": APP,
        "labels": [
            {"name": "version", "value": "1.0"},
            {"name": "os", "value": "linux"},
            {"name": "arch", "value": arch},
        ],
        "app": {"exec": ["/bin/sh", "-c", SCRIPT], "user": "0", "group": "0"},
    }
    web = state / "web"
    target = web / f"app-1.0-linux-{arch}.aci"
    packed = gzip.compress(tar_of(root, "rootfs", {"manifest": json.dumps(manifest).encode()}), mtime=0)
    keys = ""
    if tools.gpg:
        run(tools.gpg, "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase-file", state / "passphrase",
            "--symmetric", "--cipher-algo", "AES256", "--output", target, env=gnupg, stdin=packed)  # fmt: skip
        run(tools.gpg, "--batch", "--yes", "--armor", "--detach-sign", "--output", f"{target}.asc", target, env=gnupg)
        shutil.copy(state / "signer.asc", web / "pubkeys.gpg")
        keys = f'<meta name="ac-discovery-pubkeys" content="{APP} https://{HOST}/pubkeys.gpg">'
    else:
        target.write_bytes(packed)
    (web / "app").write_text(
        f'<html><head><meta name="ac-discovery" content="{APP} https://{APP}-{{version}}-{{os}}-{{arch}}.{{ext}}">'
        f"{keys}</head></html>"
    )


# --- keys and certificates ----------------------------------------------------------------------------------------


def make_certificates(into: Path) -> None:
    """Write ca.crt and a server certificate (server.crt, server.key) for both names and loopback."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
        )

    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pyrkt quickstart CA")])
    root = (
        certificate("pyrkt quickstart CA", authority, issuer)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority, hashes.SHA256())
    )
    names = [x509.DNSName(HOST), x509.DNSName(REGISTRY), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        certificate(HOST, key, issuer)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(authority, hashes.SHA256())
    )
    (into / "ca.crt").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    (into / "server.crt").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    _secret(into / "server.key", _private(key))


def make_keys(tools: Tools, into: Path, gnupg: dict[str, str]) -> None:
    """Write the signer's public key, the decryption key pair and the passphrase."""
    if tools.gpg:
        run(tools.gpg, "--batch", "--quiet", "--passphrase", "", "--quick-generate-key",
            f"Quickstart <{SIGNER}>", "ed25519", "sign", "30d", env=gnupg)  # fmt: skip
        (into / "signer.asc").write_text(run(tools.gpg, "--batch", "--armor", "--export", SIGNER, env=gnupg))
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (into / "public.pem").write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    _secret(into / "private.pem", _private(key))
    _secret(into / "passphrase", os.urandom(16).hex().encode())


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _secret(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_bytes(data)


# --- all of it, once ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def signer(tools: Tools, state: Path) -> Iterator[dict[str, str]]:
    """Make keys and images where they are not there yet; yield the environment in which the signer's key is found."""
    # The sockets in a GNUPGHOME need short names, and the state may lie deep.
    home = Path(tempfile.mkdtemp(prefix="pyrkt-gpg-"))
    gnupg = os.environ | {"GNUPGHOME": str(home)}
    try:
        if is_ready(tools, state):
            shutil.copytree(state / "gnupg", home, dirs_exist_ok=True)
        else:
            _make(tools, state, gnupg)
            shutil.copytree(home, state / "gnupg", ignore=shutil.ignore_patterns("S.*"))
        yield gnupg
    finally:
        if tools.gpg:
            # The agent that gpg starts outlives it.
            subprocess.run(["gpgconf", "--kill", "all"], env=gnupg, capture_output=True, check=False)
        shutil.rmtree(home, ignore_errors=True)


def _make(tools: Tools, state: Path, gnupg: dict[str, str]) -> None:
    for path in state.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for name in ("web/signatures", "config", "certs"):
        (state / name).mkdir(parents=True)
    make_certificates(state)
    shutil.copy(state / "ca.crt", state / "certs/ca.crt")
    make_keys(tools, state, gnupg)
    root = state / "root"
    make_root(tools.busybox, root)
    make_aci(tools, state, root, gnupg)
    make_layout(root, state / "layout")
    shutil.rmtree(root)


def _stamp(tools: Tools) -> str:
    return hashlib.sha256(repr(tools).encode() + Path(__file__).read_bytes()).hexdigest()


def is_ready(tools: Tools, state: Path) -> bool:
    """Tell whether everything has been made, with these tools and by this program, and is young enough."""
    stamp = state / "ready"
    try:
        return stamp.read_text() == _stamp(tools) and time.time() - stamp.stat().st_mtime < FRESH_S
    except FileNotFoundError:
        return False


def publish(tools: Tools, state: Path, env: dict[str, str]) -> str:
    """Let skopeo encrypt the image and push it, signed if gpg is there, unless that is done; return its reference."""
    layout, encrypted = state / "layout", state / "encrypted"
    reference = IMAGE if tools.served else f"oci:{encrypted if tools.skopeo else layout}:1.0"
    if tools.skopeo and not is_ready(tools, state):
        signing = ["--sign-by", SIGNER] if tools.served and tools.gpg else []
        run(tools.skopeo, "--registries.d", state / "config/registries.d", "--insecure-policy", "copy", "--quiet",
            "--encryption-key", f"jwe:{state / 'public.pem'}", *signing,
            "--dest-cert-dir", state / "certs", f"oci:{layout}:1.0", reference, env=env)  # fmt: skip
    if not is_ready(tools, state):
        (state / "ready").write_text(_stamp(tools))
    return reference
