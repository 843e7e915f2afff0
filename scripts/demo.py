"""The main job on an embedded default: a busybox image, signed, encrypted, served, fetched, proved and run.

Others make the inputs: gpg signs and encrypts, skopeo encrypts, signs and pushes, docker-registry serves. The two
servers listen on loopback; a CONNECT proxy, also on loopback, gives them the names example.com and
registry.example.com, so that no name service and no file of the system has to know them.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gzip
import hashlib
import http.server
import io
import ipaddress
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

HOST, REGISTRY = "example.com", "registry.example.com"
APP = f"{HOST}/app"
IMAGE = f"docker://{REGISTRY}/app:1.0"
MEMORY, PIDS = 64 << 20, 64
SCRIPT = 'echo "hello from busybox, pid $$ on $(hostname)"; read -r _ || true'


class Failed(Exception):
    """A step failed; the text says which and why."""


def run(*argv: str | Path, env: dict[str, str] | None = None, stdin: bytes | None = None) -> str:
    """Run a program to its end and return what it printed; Failed with its last words if it fails."""
    done = subprocess.run(
        [str(word) for word in argv], env=env, input=stdin, capture_output=True, check=False, timeout=300
    )
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
        raise Failed(f"{Path(str(argv[0])).name} exited with {done.returncode}: {words}")
    return done.stdout.decode()


def show(what: str, value: str = "") -> None:
    """Print one fact."""
    print(f"  {what:<12} {value}".rstrip(), flush=True)


# --- the inputs, made by others ---------------------------------------------------------------------------------


def make_root(into: Path) -> None:
    """Make the smallest useful root file system: busybox and a passwd file."""
    busybox = next((Path(p) for p in ("/bin/busybox", "/usr/bin/busybox") if Path(p).exists()), None)
    if busybox is None:
        raise Failed("there is no busybox: install the Debian package busybox-static")
    for name in ("bin", "etc", "tmp", "root"):
        (into / name).mkdir(parents=True)
    (into / "tmp").chmod(0o1777)
    shutil.copy(busybox, into / "bin/busybox")
    for applet in ("sh", "ls", "cat", "echo", "id", "hostname", "sleep", "true", "ps", "mount", "env"):
        (into / "bin" / applet).symlink_to("busybox")
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
    (into / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def make_keys(into: Path, gnupg: dict[str, str]) -> None:
    """Write the signer's public key, the decryption key pair and the passphrase."""
    run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key",
        "Quickstart <quickstart@example.com>", "ed25519", "sign", "30d", env=gnupg)  # fmt: skip
    (into / "signer.asc").write_text(run("gpg", "--batch", "--armor", "--export", "quickstart@example.com", env=gnupg))
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (into / "public.pem").write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    for name, data in (
        ("private.pem", key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())),
        ("passphrase", os.urandom(16).hex().encode()),
    ):  # fmt: skip
        (into / name).touch(0o600)
        (into / name).write_bytes(data)


def make_aci(state: Path, root: Path, gnupg: dict[str, str]) -> None:
    """Write web/app-1.0.aci (tar, gzip, OpenPGP symmetric AES-256) and its detached signature; gpg does both."""
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
    tar = tar_of(root, "rootfs", {"manifest": json.dumps(manifest).encode()})
    run("gpg", "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase-file", state / "passphrase",
        "--symmetric", "--cipher-algo", "AES256", "--output", target,
        env=gnupg, stdin=gzip.compress(tar, mtime=0))  # fmt: skip
    run("gpg", "--batch", "--yes", "--armor", "--detach-sign", "--output", f"{target}.asc", target, env=gnupg)
    shutil.copy(state / "signer.asc", web / "pubkeys.gpg")
    (web / "app").write_text(
        f'<html><head><meta name="ac-discovery" content="{APP} https://{APP}-{{version}}-{{os}}-{{arch}}.{{ext}}">'
        f'<meta name="ac-discovery-pubkeys" content="{APP} https://{HOST}/pubkeys.gpg"></head></html>'
    )


def push(state: Path, env: dict[str, str]) -> None:
    """Let skopeo encrypt the layer, sign the manifest and push both."""
    run("skopeo", "--registries.d", state / "registries.d", "--insecure-policy", "copy", "--quiet",
        "--encryption-key", f"jwe:{state / 'public.pem'}", "--sign-by", "quickstart@example.com",
        "--dest-cert-dir", state / "certs", f"oci:{state / 'layout'}:1.0", IMAGE, env=env)  # fmt: skip


# --- the servers, on loopback -----------------------------------------------------------------------------------


class Site(http.server.SimpleHTTPRequestHandler):
    """The site example.com: discovery pages, images, signatures; quiet."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def guess_type(self, path: str | os.PathLike[str]) -> str:
        """Serve a file without a suffix, a discovery page, as HTML."""
        return super().guess_type(path) if Path(path).suffix else "text/html"


def serve_site(web: Path, state: Path) -> int:
    """Serve ``web`` over HTTPS in a thread; return the port."""

    def handler(*args: object) -> Site:
        return Site(*args, directory=str(web))  # type: ignore[arg-type]

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(state / "server.crt", state / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


def serve_proxy(ports: dict[str, int]) -> int:
    """Serve CONNECT for the names in ``ports`` alone; return the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def connection(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            head = b""
            while b"\r\n\r\n" not in head and len(head) < 1 << 16:
                head += client.recv(4096) or b"\r\n\r\n"
            method, _, rest = head.decode("latin-1").partition(" ")
            name = rest.partition(":")[0]
            if method != "CONNECT" or name not in ports:
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", ports[name])) as server:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=copy, args=(server, client), daemon=True)
                back.start()
                copy(client, server)
                back.join()

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=connection, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


@contextlib.contextmanager
def registry(state: Path):  # noqa: ANN201 - a generator of the port
    """Run Debian's docker-registry over TLS on a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (state / "registry").mkdir(exist_ok=True)
    config = state / "registry.yml"
    config.write_text(
        json.dumps(  # YAML is a superset of JSON
            {
                "version": "0.1",
                "log": {"level": "error", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": str(state / "registry")}},
                "http": {
                    "addr": f"127.0.0.1:{port}",
                    "tls": {"certificate": str(state / "server.crt"), "key": str(state / "server.key")},
                },
            }
        )
    )
    program = shutil.which("docker-registry") or "/usr/bin/docker-registry"
    with (state / "registry.log").open("wb") as log:
        server = subprocess.Popen([program, "serve", config], stdout=log, stderr=log)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if server.poll() is not None:
                raise Failed(f"docker-registry ended: {(state / 'registry.log').read_text()[-500:]}")
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)


# --- the main job -----------------------------------------------------------------------------------------------


def prepare_inputs(state: Path) -> dict[str, str]:
    """Make keys and images once; return the environment in which gpg and skopeo find the signer's key."""
    # A GNUPGHOME's sockets must have short names, and the state may lie deep.
    home = Path(tempfile.mkdtemp(prefix="pyrkt-gpg-"))
    gnupg = os.environ | {"GNUPGHOME": str(home)}
    if (state / "ready").exists() and time.time() - (state / "ready").stat().st_mtime < 20 * 86400:
        shutil.copytree(state / "gnupg", home, dirs_exist_ok=True)
        return gnupg
    for name in ("web", "gnupg", "registry", "layout", "config", "certs", "registries.d"):
        shutil.rmtree(state / name, ignore_errors=True)
    for name in ("web/signatures", "config", "certs", "registries.d"):
        (state / name).mkdir(parents=True)
    make_certificates(state)
    shutil.copy(state / "ca.crt", state / "certs/ca.crt")
    make_keys(state, gnupg)
    root = state / "root"
    shutil.rmtree(root, ignore_errors=True)
    make_root(root)
    make_aci(state, root, gnupg)
    make_layout(root, state / "layout")
    shutil.rmtree(root)
    run("gpgconf", "--kill", "all", env=gnupg)
    shutil.copytree(home, state / "gnupg", ignore=shutil.ignore_patterns("S.*"))
    return gnupg


def configure(state: Path) -> None:
    """Write what an operator would write: whom to believe, where signatures lie, and whose are trusted."""
    for host in (HOST, REGISTRY):
        (state / "config/certs.d" / host).mkdir(parents=True, exist_ok=True)
        shutil.copy(state / "ca.crt", state / "config/certs.d" / host)
    for folder in (state / "registries.d", state / "config/registries.d"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "quickstart.yaml").write_text(
            f"docker:\n  {REGISTRY}:\n    lookaside: https://{HOST}/signatures\n"
            f"    lookaside-staging: file://{state / 'web/signatures'}\n"
        )
    (state / "config/policy.json").write_text(
        json.dumps(
            {
                "default": [{"type": "reject"}],
                "transports": {
                    "docker": {
                        REGISTRY: [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(state / "signer.asc")}]
                    }
                },
            },
            indent=2,
        )
    )


def limits_of(pid: int) -> str:
    """Return the memory and pids limit of ``pid`` as its cgroup has them, cgroup v1 or v2."""
    found = []
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for name, folder, files in (
            ("memory", "memory", ("memory.limit_in_bytes", "memory.max")),
            ("pids", "pids", ("pids.max",)),
        ):
            bases = (f"/sys/fs/cgroup/{folder}",) if name in controllers.split(",") else ("/sys/fs/cgroup",)
            for base in bases:
                for file in files:
                    with contextlib.suppress(OSError):
                        found.append(f"{name} {Path(base + path, file).read_text().strip()} ({base}{path}/{file})")
    return "; ".join(found)


def demonstrate(pyrkt: list[str], reference: str, state: Path, env: dict[str, str]) -> bool:
    """Run the image under limits and show what it did; False (and why, in one line) where this place forbids it."""
    uuid_file = state / "uuid"
    uuid_file.unlink(missing_ok=True)
    limits = [f"--memory={MEMORY}", f"--pids-limit={PIDS}"]
    command = [*pyrkt, "run", f"--uuid-file-save={uuid_file}", reference, *limits]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    assert process.stdin
    assert process.stdout
    assert process.stderr
    first = process.stdout.readline().decode().strip()
    if first:
        status = json.loads(run(*pyrkt, "status", "--format=json", f"--uuid-file={uuid_file}", env=env))
        show("output", first)
        show("bundle", status["apps"][0].get("bundle", ""))
        show("limits", limits_of(int(status["pid"])) or "none: no cgroup could be made")
    process.stdin.close()
    code = process.wait(30)
    words = process.stderr.read().decode(errors="replace").strip()
    show("exit code", str(code))
    if uuid_file.exists() and uuid_file.read_text().strip():
        run(*pyrkt, "rm", uuid_file.read_text().strip(), env=env)
    if words:
        show("note", words.splitlines()[0])
    return code == 0


def job(state: Path, program: str) -> int:
    """Do everything; return the exit code."""
    state.mkdir(mode=0o700, exist_ok=True)
    print("making the inputs (gpg signs and encrypts, skopeo encrypts, signs and pushes)")
    gnupg = prepare_inputs(state)
    configure(state)
    data: list[str] = []
    pyrkt = [program, f"--local-config={state / 'config'}", *data]
    try:
        with registry(state) as registry_port:
            site_port = serve_site(state / "web", state)
            proxy = serve_proxy({HOST: site_port, REGISTRY: registry_port})
            net = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy}"}
            if not (state / "ready").exists():
                push(state, gnupg | net)
                (state / "ready").touch()
            env = dict(os.environ) | net
            run(*pyrkt, "trust", "--skip-fingerprint-review", f"--prefix={APP}", f"https://{HOST}/pubkeys.gpg", env=env)
            results = []
            for reference, key in (
                (f"{APP}:1.0", f"passphrase:file={state / 'passphrase'}"),
                (IMAGE, str(state / "private.pem")),
            ):
                print(f"\n{reference}")
                record = json.loads(
                    run(
                        *pyrkt, "fetch", "--json", "--pull-policy=update", f"--decryption-key={key}", reference, env=env
                    )
                )
                record = record[0] if isinstance(record, list) else record
                show("image", record["id"])
                for signer in record["signers"]:
                    show("signer", f"{signer['name']} {signer['fingerprint']} ({signer['format']})")
                show("encrypted", "yes, decrypted after its integrity was proved" if record["encrypted"] else "no")
                results.append(demonstrate(pyrkt, reference, state, env))
                if not results[-1]:
                    plan = run(*pyrkt, "plan", reference, env=env).splitlines()
                    show("plan", f"{len(plan)} lines; the first: {plan[0]}")
    finally:
        run("gpgconf", "--kill", "all", env=gnupg)
        shutil.rmtree(gnupg["GNUPGHOME"], ignore_errors=True)
    print("\nboth images are in the store now; to run them:")
    shown = os.path.relpath(program)
    print(f"  {shown} run {IMAGE}")
    print(f"  {shown} run {APP}")
    return 0


def main() -> int:
    """Read the arguments, do the job, say in one line what failed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--state", type=Path, required=True)
    arguments.add_argument("--pyrkt", required=True)
    given = arguments.parse_args()
    try:
        return job(given.state.resolve(), given.pyrkt)
    except Failed as failed:
        print(f"quickstart: {failed}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
