"""The metadata service of real pods: what it says, to whom, whatever the network; and what its secrets are worth."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyrkt.bundle import defaults
from pyrkt.plan.steps import decode
from pyrkt.pod.start import pieces
from pyrkt.spec import steps
from tests.support.metadata import (
    JSON_TYPE,
    US_ASCII,
    Said,
    Server,
    form,
    read_all,
    server_pid,
    service_of,
    signature,
)
from tests.support.network import host
from tests.support.oci import eventually
from tests.support.pods import Ordinary, Pyrkt, make_aci, make_layout, ordinary, sha512

pytestmark = [pytest.mark.root, pytest.mark.peers]

UID = 54323
NAP = ("--exec=/bin/sleep", "--", "600")
ASK = "busybox wget -q -O - $AC_METADATA_URL/acMetadata/v1"
SHOW = f"busybox env | busybox grep -E '^(PATH|AC_|container)'; {ASK}/pod/uuid"
HANDLERS = [
    {"name": "pre-start", "exec": ["/bin/sh", "-c", f"({SHOW}) > /seen/before"]},
    {"name": "post-stop", "exec": ["/bin/sh", "-c", f"({SHOW}) > /seen/after"]},
]
IMAGE_NOTES = [
    {"name": "created", "value": "2020-01-01T00:00:00Z"},
    {"name": "homepage", "value": "https://example.com"},
]


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with two ACIs, one of which has annotations and handlers, and with an OCI image."""
    made = Pyrkt(tmp_path_factory.mktemp("metadata"))
    app = {"eventHandlers": HANDLERS, "mountPoints": [{"name": "seen", "path": "/seen"}]}
    made.ok("fetch", str(make_aci(made.base / "web.aci", "example.com/web", app, annotations=IMAGE_NOTES)))
    made.ok("fetch", str(make_aci(made.base / "db.aci", "example.com/db")))
    made.ok("fetch", f"oci:{make_layout(made.base / 'layout')}:bb")
    yield made
    assert made.clean() == []


@contextmanager
def running(tool: Pyrkt, *words: str) -> Iterator[tuple[str, Server]]:
    """Run a pod in the background, for a while."""
    uuid = tool.detached(*words)
    try:
        yield uuid, service_of(tool, uuid)
    finally:
        tool.call("stop", "--force", uuid)


def image_id(tool: Pyrkt, name: str) -> str:
    found = json.loads(tool.ok("image", "list", "--format=json"))
    return str(next(record["id"] for record in found if record["name"] == f"example.com/{name}"))


def write_manifest(tool: Pyrkt, path: Path, **more: Any) -> Path:
    nap = {"exec": ["/bin/sleep", "600"], "user": "0", "group": "0"}
    notes = [{"name": "homepage", "value": "https://pod.example.com"}, {"name": "authors", "value": 'ä & "b"'}]
    value = {
        "acVersion": "0.8.11",
        "acKind": "PodManifest",
        "apps": [
            {"name": "web", "image": {"id": image_id(tool, "web")}, "app": nap, "annotations": notes},
            {"name": "db", "image": {"id": image_id(tool, "db")}, "app": nap},
        ],
    }
    path.write_text(json.dumps(value | more))
    return path


@pytest.mark.parametrize("net", ["none", "host"])
def test_each_document_byte_for_byte(tool: Pyrkt, tmp_path: Path, net: str) -> None:
    notes = [{"name": "b", "value": "2"}, {"name": "a", "value": "1"}]
    manifest = write_manifest(tool, tmp_path / "manifest", annotations=notes)
    with running(tool, f"--net={net}", f"--pod-manifest={manifest}") as (uuid, service):
        said = (tool.directory(uuid) / "pod").read_bytes()
        assert service.ask("pod/manifest") == Said(200, JSON_TYPE, said)
        assert service.ask("pod/uuid") == Said(200, US_ASCII, uuid.encode())
        annotations = service.ask("pod/annotations")
        assert (annotations.status, annotations.kind, json.loads(annotations.body)) == (200, JSON_TYPE, notes)
        assert json.loads(said)["annotations"] == notes
        for app in json.loads(said)["apps"]:
            path, identity = f"apps/{app['name']}", app["image"]["id"]
            assert service.ask(f"{path}/image/id") == Said(200, US_ASCII, identity.encode())
            stored = tool.ok("image", "cat-manifest", identity)
            answer = service.ask(f"{path}/image/manifest")
            assert (answer.status, answer.kind) == (200, JSON_TYPE)
            assert json.loads(answer.body) == json.loads(stored)
        merged = json.loads(service.ask("apps/web/annotations").body)
        assert merged == [
            IMAGE_NOTES[0],
            {"name": "homepage", "value": "https://pod.example.com"},
            {"name": "authors", "value": 'ä & "b"'},
        ]
        assert service.ask("apps/db/annotations") == Said(200, JSON_TYPE, b"[]")
        assert service.ask("apps/other/annotations").status == 404
        assert service.ask("pod/manifest", "POST", b"").status == 405


def test_without_annotations_null(tool: Pyrkt, tmp_path: Path) -> None:
    with running(tool, f"--pod-manifest={write_manifest(tool, tmp_path / 'manifest')}") as (uuid, service):
        assert service.ask("pod/annotations") == Said(200, JSON_TYPE, b"null")
        assert "annotations" not in json.loads((tool.directory(uuid) / "pod").read_text())


def test_an_image_that_is_not_appcs_has_a_manifest_in_its_words(tool: Pyrkt) -> None:
    with running(tool, f"oci:{tool.base}/layout:bb", "--name=box", "--", "sleep", "600") as (uuid, service):
        (app,) = json.loads(service.ask("pod/manifest").body)["apps"]
        found = json.loads(service.ask("apps/box/image/manifest").body)
        assert (found["acKind"], found["app"]["exec"]) == ("ImageManifest", ["sleep", "600"])
        assert service.ask("apps/box/image/id").body.decode() == app["image"]["id"]
        assert re.fullmatch(r"sha512-[0-9a-f]{128}", app["image"]["id"])
        out = tool.ok(
            "exec",
            uuid,
            "sh",
            "-c",
            "echo $AC_APP_NAME $container; wget -q -O - $AC_METADATA_URL/acMetadata/v1/pod/uuid",
        )
        assert out == f"box pyrkt\n{uuid}"


@pytest.mark.parametrize("net", ["none", "host"])
def test_every_process_of_an_app_knows_where_it_is(tool: Pyrkt, net: str) -> None:
    volume = tool.base / f"seen-{net}"
    volume.mkdir()
    words = [f"--net={net}", f"--volume=seen,kind=host,source={volume}", "example.com/web", "--exec=/bin/sh"]
    with running(tool, *words, "--", "-c", f"({SHOW}) > /seen/app; exec sleep 600") as (uuid, service):
        assert eventually(lambda: (volume / "app").exists() and uuid in (volume / "app").read_text(), 10)
        entered = tool.ok("enter", uuid, "/bin/sh", "-c", SHOW)
        executed = tool.ok("exec", uuid, "/bin/sh", "-c", SHOW)
        tool.ok("stop", uuid)
    expected = {
        f"PATH={defaults.PATH}",
        "AC_APP_NAME=web",
        "container=pyrkt",
        f"AC_METADATA_URL=http://{service.address[0]}:{service.address[1]}/{service.token}",
        uuid,
    }
    for said in (*((volume / name).read_text() for name in ("before", "app", "after")), entered, executed):
        assert set(said.split()) == expected


def test_joined_networks(tool: Pyrkt) -> None:
    with host(tool) as there:
        out = tool.ok(
            "run",
            "--net",
            "--mds-register",
            "example.com/db",
            "--exec=/bin/sh",
            "--",
            "-c",
            f"{ASK}/pod/uuid; busybox ip -o -4 a",
        )
        assert re.match(r"[0-9a-f-]{36}1: lo ", out)
        assert " eth0 " in out
        tool.ok("gc", "--grace-period=0")
        assert there.leftovers() == []


# --- signatures ---


def _signed(service: Server, content: bytes) -> bytes:
    answer = service.ask("pod/hmac/sign", "POST", form(content=content))
    assert (answer.status, answer.kind) == (200, US_ASCII)
    return answer.body


def _verified(service: Server, uuid: str, content: bytes, signed: bytes) -> int:
    return service.ask("pod/hmac/verify", "POST", form(content=content, uuid=uuid, signature=signed)).status


def test_what_one_pod_signs_another_verifies_now_and_later(tool: Pyrkt) -> None:
    content = "Old MacDonald had a farm, E+I&E=I%O ü\0".encode()
    key = (tool.data / "metadata/key").read_bytes()
    with (
        running(tool, "example.com/db", *NAP) as (first, one),
        running(tool, "--net=host", "example.com/db", *NAP) as (second, two),
    ):
        signed = _signed(one, content)
        assert signed.decode() == signature(key, first, content)
        assert _signed(two, content) != signed
        assert _verified(one, first, content, signed) == 200
        assert _verified(two, first, content, signed) == 200
        assert _verified(two, second, content, signed) == 403
        assert _verified(two, first, content + b".", signed) == 403
        assert _verified(two, first, content, signed.swapcase()) == 403
        assert two.ask("pod/hmac/verify", "POST", form(content=content, uuid=first)).status == 400
    with running(tool, "example.com/db", *NAP) as (_, later):
        assert _verified(later, first, content, signed) == 200
    with _another_key(tool), running(tool, "example.com/db", *NAP) as (_, other):
        assert _verified(other, first, content, signed) == 403


@contextmanager
def _another_key(tool: Pyrkt) -> Iterator[None]:
    directory = tool.data / "metadata"
    (directory / "key").rename(directory / "old")
    try:
        yield
    finally:
        (directory / "old").rename(directory / "key")


def test_a_key_that_others_may_read_is_refused(tool: Pyrkt) -> None:
    file = tool.data / "metadata/key"
    before = tool.pods()
    file.chmod(0o644)
    try:
        answer = tool.call("run", "example.com/db", "--exec=/bin/true")
    finally:
        file.chmod(0o600)
    assert answer.code == 77
    assert answer.err.splitlines()[0] == f"pyrkt: {file}: has mode 0644 in the place of 0600"
    assert tool.pods() == before


# --- the token ---


def test_each_pod_has_a_token_of_its_own_also_one_made_before(tool: Pyrkt) -> None:
    with running(tool, "example.com/db", *NAP) as (one, first), running(tool, "example.com/db", *NAP) as (two, second):
        assert len({first.token, second.token, first.address, second.address}) == 4
        assert (first.ask("pod/uuid").body.decode(), second.ask("pod/uuid").body.decode()) == (one, two)
        assert (Path(tool.data) / "pods/cache").exists(), "the second one is of a record"
        for record in (tool.data / "pods/cache").rglob("*"):
            if record.is_file():
                assert not {token for token in (first.token, second.token) if token.encode() in record.read_bytes()}


def test_another_pods_token_opens_nothing(tool: Pyrkt) -> None:
    words = ("--net=host", "example.com/db", *NAP)
    with running(tool, *words) as (_, first), running(tool, *words) as (_, second):
        for token in (second.token, "0" * 32, first.token[:-1], first.token.upper(), ""):
            for method, path in (("GET", "pod/uuid"), ("POST", "pod/hmac/sign")):
                answer = first.ask(path, method, base=f"/{token}/acMetadata/v1")
                assert answer == Said(401, US_ASCII, b""), token


def test_the_token_is_shown_to_nobody(tool: Pyrkt) -> None:
    with running(tool, "example.com/db", *NAP) as (uuid, service):
        secret, directory = service.token, tool.directory(uuid)
        shown = [
            tool.ok(*words)
            for words in (
                ["list", "--full"],
                ["list", "--format=json"],
                ["status", uuid],
                ["status", "--format=json", uuid],
                ["cat-manifest", uuid],
                ["logs", uuid],
                ["plan", uuid],
                ["plan", "--json", uuid],
                ["plan", "--json", "example.com/db", *NAP],
            )
        ]
        assert not [text for text in shown if secret in text]
        assert any("AC_METADATA_URL=http://127." in text for text in shown), "but with another one in its place"
        debugged = tool.call("--debug", "run", "example.com/db", "--exec=/bin/sh", "--", "-c", "echo $AC_METADATA_URL")
        assert debugged.out.strip().rpartition("/")[2] not in debugged.err
        # Nobody else comes as far as the pod's directory, and what the service is made from nobody else could read.
        assert directory.stat().st_mode & 0o077 == 0
        assert (directory / "metadata").stat().st_mode & 0o777 == 0o600
        assert [
            path for path in directory.rglob("*") if _others_reach(path, directory) and secret in _content(path)
        ] == []
        knowing = [entry for entry in Path("/proc").glob("[0-9]*/environ") if secret in _content(entry)]
        assert {entry.parent.joinpath("cgroup").read_text() for entry in knowing} == {
            Path(f"/proc/{_first_pid(directory)}/cgroup").read_text()
        }
        assert not [entry for entry in Path("/proc").glob("[0-9]*/cmdline") if secret in _content(entry)]


def _first_pid(directory: Path) -> int:
    return int((directory / "apps/db/pid").read_text().split()[0])


def _others_reach(path: Path, top: Path) -> bool:
    way = [each for each in path.parents if each.is_relative_to(top)]
    return all(each.stat().st_mode & 0o001 for each in way) and path.is_file() and bool(path.stat().st_mode & 0o004)


def _content(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


# --- the process ---


def test_it_is_outside_of_the_pod_and_can_do_nothing(tool: Pyrkt) -> None:
    with running(tool, "example.com/db", *NAP) as (uuid, service):
        assert service.ask("pod/uuid").status == 200
        assert tool.ok("exec", uuid, "busybox", "ps").count("metadata") == 0
        for kind in ("pid", "net", "mnt"):
            own, pods = (os.readlink(f"/proc/{pid}/ns/{kind}") for pid in ("self", service.place))
            assert os.readlink(f"/proc/{service.pid}/ns/{kind}") == own != pods
        assert service.status("Uid").split() == ["65534"] * 4
        assert {service.status(f"Cap{kind}") for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert (service.status("NoNewPrivs"), service.status("Seccomp")) == ("1", "2")
        assert eventually(lambda: os.listdir(f"/proc/{service.pid}/fd") == ["0"], 5)
        assert Path(f"/proc/{service.pid}/environ").read_bytes() == b""
        assert tool.base.name not in Path(f"/proc/{service.pid}/maps").read_text()
        (listener,) = _listening(service.place)
        assert listener == service.address
        print(f"PSS of the service: {service.pss()} KiB")
        assert service.pss() < 300


def _listening(place: int) -> list[tuple[str, int]]:
    """Return who listens in a network namespace."""
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{place}/net/{name}").read_text().splitlines()[1:]
    ]
    return [
        (socket.inet_ntoa(int(address, 16).to_bytes(4, "little")), int(port, 16))
        for address, port in (row[1].split(":") for row in rows if row[3] == "0A")
    ]


def test_it_ends_with_the_pod_and_the_pod_does_not_end_with_it(tool: Pyrkt) -> None:
    with running(tool, "example.com/db", *NAP) as (uuid, service):
        directory = tool.directory(uuid)
        assert service.ask("pod/uuid").status == 200
        with service.connect() as waiting:
            _until_old(service.pid)
            os.kill(service.pid, signal.SIGKILL)
            assert waiting.recv(1) == b""
        # who comes meanwhile only waits
        assert service.ask("pod/uuid").body.decode() == uuid
        again = server_pid(directory)
        assert again not in {0, service.pid}
        assert tool.pod(uuid)["state"] == "running"
        tool.ok("stop", uuid)
        assert not Path(f"/proc/{again}").exists()


def _until_old(pid: int) -> None:
    """Wait until a process has run for a second: one that dies at once would die again."""

    def age() -> float:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        return float(Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")

    assert eventually(lambda: age() > 1.1, 5)


def test_one_that_cannot_live_is_let_be(tool: Pyrkt) -> None:
    with running(tool, "example.com/db", *NAP) as (uuid, service):
        directory = tool.directory(uuid)
        os.kill(service.pid, signal.SIGKILL)  # too young to be tried again, or it has become another one since
        if eventually(lambda: server_pid(directory) not in {0, service.pid}, 0.5):
            os.kill(server_pid(directory), signal.SIGKILL)
        assert eventually(lambda: server_pid(directory) == 0, 5)
        with pytest.raises(ConnectionRefusedError):
            service.ask("pod/uuid")
        assert tool.pod(uuid)["state"] == "running"


def test_a_hundred_at_once_and_some_who_never_finish(tool: Pyrkt) -> None:
    with running(tool, "example.com/db", *NAP) as (uuid, service):
        slow = [service.connect() for _ in range(100)]
        for connection in slow:
            connection.sendall(b"POST /")
        with ThreadPoolExecutor(50) as pool:
            answers = [pool.submit(service.ask, "pod/uuid") for _ in range(100)]
            assert {answer.result().body.decode() for answer in answers} == {uuid}
        for connection in slow:
            connection.close()
        for evil in (
            b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000,
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        ):
            with service.connect() as connection:
                connection.sendall(evil)
                assert re.match(rb"HTTP/1\.1 4(31|11) ", read_all(connection))
        assert service.pid == server_pid(tool.directory(uuid)), "it is the same one all the time"


def test_an_address_that_is_taken_is_said_in_a_line(tool: Pyrkt) -> None:
    uuid = tool.ok("prepare", "--net=host", "example.com/db", "--exec=/bin/true").strip()
    (plan, _), _ = pieces(str(tool.directory(uuid)))
    (address, port) = next(step.args[2:] for step in decode(plan).steps if step.code == steps.METADATA)
    assert isinstance(address, str)
    assert isinstance(port, int)
    with socket.create_server((address, port)):
        answer = tool.call("run-prepared", uuid)
    assert answer.code == 125
    line, hint = answer.err.splitlines()
    assert line == f"pyrkt: serving the pod's metadata at {address}: Address already in use"
    assert "a new pod has another" in hint


# --- an ordinary user ---


@pytest.fixture(scope="module")
def user() -> Iterator[Ordinary]:
    """A user with a data directory and a fetched image."""
    with ordinary(UID) as tool:
        yield tool


@pytest.mark.parametrize("net", ["none", "host"])
def test_an_ordinary_users_pod(user: Ordinary, net: str) -> None:
    image = f"oci:{user.base}/layout:bb"
    with running(user, f"--net={net}", image, "--name=box", "--", "sleep", "600") as (uuid, service):
        inside = "wget -q -O - $AC_METADATA_URL/acMetadata/v1/pod/uuid"
        assert user.ok("exec", uuid, "sh", "-c", inside) == uuid
        assert service.status("Uid").split() == [str(UID)] * 4
        assert {service.status(f"Cap{kind}") for kind in ("Inh", "Prm", "Eff", "Amb")} == {"0" * 16}
        assert (service.status("NoNewPrivs"), service.status("Seccomp")) == ("1", "2")
        assert (user.data / "metadata/key").stat().st_mode & 0o777 == 0o600
        assert (user.data / "metadata/key").stat().st_uid == UID
        signed = _signed(service, b"x")
        assert _verified(service, uuid, b"x", signed) == 200
        user.ok("stop", uuid)
        assert not Path(f"/proc/{service.pid}").exists()


def test_digests_of_stored_images_are_theirs(tool: Pyrkt) -> None:
    """The id that the service tells is that of the file that was fetched."""
    plain = subprocess.run(["gzip", "-dc", tool.base / "db.aci"], capture_output=True, check=True).stdout
    (tool.base / "db.tar").write_bytes(plain)
    assert image_id(tool, "db") == f"sha512-{sha512(tool.base / 'db.tar')}"
