"""A registry that lies, from the first request to the last: one error with its exit code, and nothing is stored.

Also what is no lie but bad luck: broken connections, kill -9, and many fetches of one image at once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import ImageRefused, InvalidSpec, NoPermission, NotFound, NotTrusted, PyrktError, Unavailable
from pyrkt.image.pull import FetchRequest, fetch
from pyrkt.image.wire import Limits
from pyrkt.spec.image import Platform
from pyrkt.store import Store
from pyrkt.store.gc import collect, verify
from pyrkt.trust.keystore import Keystore
from pyrkt.trust.policy import Policy
from tests.support import skopeo
from tests.support.skopeo import Layout, Member
from tests.support.tls import Authority
from tests.support.web import Asked, Line, Web, send_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

LIMITS = Limits(connect=2, idle=1, answer=2, document=3, rate=4000, window=1, tries=3, pause=0.01, longest_pause=0.2)
ANYTHING = Policy.parse(b'{"default":[{"type":"insecureAcceptAnything"}]}')
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(slots=True)
class Liar:
    """A registry made of one layout's files, served by the Web of the tests; a scenario then changes a thing or two."""

    web: Web
    layout: Layout
    manifest: bytes
    victim: Web
    layers: list[str] = field(default_factory=list)
    config: str = ""

    def __post_init__(self) -> None:
        document = json.loads(self.manifest)
        self.layers = [layer["digest"] for layer in document["layers"]]
        self.config = document["config"]["digest"]
        self.web.routes["/v2/"] = lambda _, line: line.reply(200)
        for name in os.listdir(self.layout.path / "blobs/sha256"):
            self.web.files[f"/v2/t/app/blobs/sha256:{name}"] = (self.layout.path / "blobs/sha256" / name).read_bytes()
        self.serve("v1", self.manifest)

    def serve(self, pointer: str, data: bytes, kind: str = MANIFEST) -> None:
        """Serve ``data`` as the manifest of a tag and of its digest."""
        for name in (pointer, skopeo.digest(data)):
            self.web.routes[f"/v2/t/app/manifests/{name}"] = lambda _, line: line.reply(200, data, Content_Type=kind)

    def route(self, digest: str, route: Callable[[Asked, Line], None]) -> None:
        self.web.routes[f"/v2/t/app/blobs/{digest}"] = route

    def blob(self, digest: str) -> bytes:
        return self.web.files[f"/v2/t/app/blobs/{digest}"]

    def change(self, **members: object) -> None:
        """Serve the manifest with other members."""
        self.serve("v1", json.dumps(json.loads(self.manifest) | members).encode())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def liar(tmp_path: Path, authority: Authority) -> Iterator[Liar]:
    layout = Layout(path=tmp_path / "layout")
    noise = [[Member(name=f"f{number}", data=random.Random(number).randbytes(400_000))] for number in range(3)]
    image = layout.image(noise, tag="v1", compression="")
    manifest = (layout.path / "blobs" / str(image["digest"]).replace(":", "/")).read_bytes()
    context = authority.server_context(authority.issue("liar"))
    with Web(context) as web, Web(context, host="127.0.0.2") as victim:
        yield Liar(web, layout, manifest, victim)


@pytest.fixture
def request_(tmp_path: Path, authority: Authority, liar: Liar) -> FetchRequest:
    for host in (liar.web.host, liar.victim.host):
        directory = tmp_path / "config/certs.d" / host
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_bytes(authority.cert.read_bytes())
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {liar.web.host: {"auth": "dTpzZWNyZXQ="}}}))
    dirs = ConfigDirs(system="/nonexistent", local=str(tmp_path / "config"))
    return FetchRequest(
        store=Store(tmp_path / "data").open(),
        keystore=Keystore(dirs),
        policy=ANYTHING,
        pull_policy="update",
        platform=Platform(os="linux", architecture="amd64"),
        dirs=dirs,
        limits=LIMITS,
        authfile=tmp_path / "auth.json",
    )


def name_of(liar: Liar) -> str:
    return f"docker://{liar.web.host}/t/app:v1"


def assert_nothing_stored(store: Store) -> None:
    assert store.images.all() == []
    assert list(store.blobs.all()) == []
    assert store.trees.all() == []
    assert os.listdir(store.tmp) == []


def test_an_honest_registry(liar: Liar, request_: FetchRequest) -> None:
    record = fetch(name_of(liar), request_)
    assert len(record.trees) == 3
    assert verify(request_.store) == []


def flipped(liar: Liar) -> None:
    data = bytearray(liar.blob(liar.layers[1]))
    data[300_000] ^= 1
    liar.web.files[f"/v2/t/app/blobs/{liar.layers[1]}"] = bytes(data)


def endless(liar: Liar) -> None:
    data = liar.blob(liar.layers[0])

    def route(_: Asked, line: Line) -> None:
        line.send(b"HTTP/1.1 200 OK\r\n\r\n" + data)
        while not line.ended.is_set():
            line.send(b"x" * 65536)

    liar.route(liar.layers[0], route)


def garbage(liar: Liar) -> None:
    liar.web.files[f"/v2/t/app/blobs/{liar.layers[0]}"] = b"x" * len(liar.blob(liar.layers[0]))


def truncated(liar: Liar) -> None:
    data = liar.blob(liar.layers[2])

    def route(_: Asked, line: Line) -> None:
        line.send(b"HTTP/1.1 200 OK\r\n\r\n" + data[:1000])
        line.hang_up()

    liar.route(liar.layers[2], route)


def slow(liar: Liar) -> None:
    size = len(liar.blob(liar.layers[0]))

    def route(_: Asked, line: Line) -> None:
        line.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        while not line.ended.wait(0.05):
            line.send(b"x")

    liar.route(liar.layers[0], route)


def lying_size(liar: Liar) -> None:
    document = json.loads(liar.manifest)
    document["layers"][0]["size"] += 1
    liar.change(layers=document["layers"])


def smaller_size(liar: Liar) -> None:
    document = json.loads(liar.manifest)
    document["layers"][0]["size"] = 10
    liar.change(layers=document["layers"])


def huge_head(liar: Liar) -> None:
    def route(_: Asked, line: Line) -> None:
        line.send(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 90_000)
        line.hang_up()

    liar.route(liar.layers[0], route)


def unauthorized(liar: Liar) -> None:
    liar.route(liar.layers[0], lambda _, line: line.reply(401, WWW_Authenticate='Basic realm="x"'))


def foreign_redirect(liar: Liar) -> None:
    liar.route(liar.layers[0], lambda _, line: line.reply(307, Location=f"{liar.victim.url}/other"))
    liar.victim.files["/other"] = b"x" * len(liar.blob(liar.layers[0]))


def foreign_realm(liar: Liar) -> None:
    challenge = f'Bearer realm="{liar.victim.url}/token"'
    liar.web.routes["/v2/"] = lambda _, line: line.reply(401, WWW_Authenticate=challenge)


def foreign_urls(liar: Liar) -> None:
    document = json.loads(liar.manifest)
    document["layers"][0]["urls"] = [f"{liar.victim.url}/layer"]
    liar.change(layers=document["layers"])
    liar.route(liar.layers[0], lambda _, line: line.reply(404))


def both_kinds(liar: Liar) -> None:
    liar.change(manifests=[])


def served_as_index(liar: Liar) -> None:
    liar.serve("v1", liar.manifest, INDEX)


def index_of_other_type(liar: Liar) -> None:
    entry = {"mediaType": INDEX, "digest": skopeo.digest(liar.manifest), "size": len(liar.manifest)}
    platform = {"os": "linux", "architecture": "amd64"}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry | {"platform": platform}]}
    liar.serve("v1", json.dumps(index).encode(), INDEX)


def nested_indexes(liar: Liar) -> None:
    kind, data = MANIFEST, liar.manifest
    for _ in range(6):
        entry = {"mediaType": kind, "digest": skopeo.digest(data), "size": len(data)}
        entry["platform"] = {"os": "linux", "architecture": "amd64"}
        data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
        kind = INDEX
        liar.serve("v1", data, INDEX)


def duplicate_keys(liar: Liar) -> None:
    liar.serve("v1", liar.manifest.replace(b'"schemaVersion": 2,', b'"schemaVersion": 2, "schemaVersion": 2,', 1))


def deep(liar: Liar) -> None:
    liar.serve("v1", b'{"a":' * 5000 + b"1" + b"}" * 5000)


def artifact(liar: Liar) -> None:
    document = json.loads(liar.manifest)
    document["config"]["mediaType"] = "application/vnd.oci.empty.v1+json"
    liar.change(config=document["config"])


def digest_as_path(liar: Liar) -> None:
    document = json.loads(liar.manifest)
    document["layers"][0]["digest"] = "sha256:../../../../etc/passwd"
    liar.change(layers=document["layers"])


def huge_config(liar: Liar) -> None:
    document = json.loads(liar.manifest)
    document["config"]["size"] = 1 << 40
    liar.change(config=document["config"])


def repeating_429(liar: Liar) -> None:
    liar.route(liar.layers[0], lambda _, line: line.reply(429, Retry_After="0"))


def other_config(liar: Liar) -> None:
    liar.web.files[f"/v2/t/app/blobs/{liar.config}"] = b"x" * len(liar.blob(liar.config))


def bomb(liar: Liar) -> None:
    """A layer of 30 MB that unpacks to 30 GB, by the digests it has."""
    import zlib

    packer = zlib.compressobj(9, wbits=31)
    data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    digest = skopeo.digest(data)
    liar.web.files[f"/v2/t/app/blobs/{digest}"] = data * 1
    document = json.loads(liar.manifest)
    document["layers"][0] = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest,
                             "size": len(data)}  # fmt: skip
    liar.change(layers=document["layers"])


@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        pytest.param(flipped, ImageRefused, id="flipped-byte"),
        pytest.param(endless, Unavailable, id="endless-body"),
        pytest.param(garbage, ImageRefused, id="garbage"),
        pytest.param(truncated, Unavailable, id="truncated"),
        pytest.param(slow, Unavailable, id="slow"),
        pytest.param(lying_size, ImageRefused, id="declares-more"),
        pytest.param(smaller_size, ImageRefused, id="declares-less"),
        pytest.param(huge_head, Unavailable, id="huge-head"),
        pytest.param(unauthorized, NoPermission, id="401-midway"),
        pytest.param(foreign_redirect, ImageRefused, id="redirect-to-other-content"),
        pytest.param(foreign_realm, NotTrusted, id="foreign-realm"),
        pytest.param(foreign_urls, NotFound, id="foreign-urls"),
        pytest.param(both_kinds, InvalidSpec, id="manifest-and-index"),
        pytest.param(served_as_index, InvalidSpec, id="served-as-index"),
        pytest.param(index_of_other_type, InvalidSpec, id="index-calls-it-index"),
        pytest.param(nested_indexes, InvalidSpec, id="nested-indexes"),
        pytest.param(duplicate_keys, InvalidSpec, id="duplicate-keys"),
        pytest.param(deep, InvalidSpec, id="deep"),
        pytest.param(artifact, InvalidSpec, id="artifact"),
        pytest.param(digest_as_path, InvalidSpec, id="digest-as-path"),
        pytest.param(huge_config, ImageRefused, id="huge-config"),
        pytest.param(repeating_429, Unavailable, id="429"),
        pytest.param(other_config, ImageRefused, id="other-config"),
        pytest.param(bomb, ImageRefused, id="bomb"),
    ],
)
def test_a_lie_ends_in_one_error_and_nothing_is_stored(
    liar: Liar, request_: FetchRequest, scenario: Callable[[Liar], None], error: type[PyrktError]
) -> None:
    scenario(liar)
    began = time.monotonic()
    with pytest.raises(error) as caught:
        fetch(name_of(liar), request_)
    assert time.monotonic() - began < 20
    assert caught.value.exit_code == error.exit_code
    assert caught.value.message.isprintable()
    assert_nothing_stored(request_.store)
    assert all("authorization" not in asked.headers for asked in liar.victim.log)
    assert "secret" not in caught.value.message


def test_after_a_lie_the_truth_is_accepted(liar: Liar, request_: FetchRequest) -> None:
    """No wrong byte of the failed fetch may be taken up by the next one."""
    good = liar.blob(liar.layers[1])
    flipped(liar)
    with pytest.raises(ImageRefused):
        fetch(name_of(liar), request_)
    liar.web.files[f"/v2/t/app/blobs/{liar.layers[1]}"] = good
    assert len(fetch(name_of(liar), request_).trees) == 3
    assert verify(request_.store) == []


def test_a_tag_that_moves_between_requests_changes_nothing(liar: Liar, request_: FetchRequest) -> None:
    """Resolved once: what was judged is what is fetched, whatever the tag says a moment later."""
    first = skopeo.digest(liar.manifest)
    other = json.dumps(json.loads(liar.manifest) | {"annotations": {"evil": "yes"}}).encode()
    count = 0

    def moving(_: Asked, line: Line) -> None:
        nonlocal count
        count += 1
        line.reply(200, liar.manifest if count == 1 else other, Content_Type=MANIFEST)

    liar.web.routes["/v2/t/app/manifests/v1"] = moving
    assert fetch(name_of(liar), request_).id == first.replace(":", "-")
    assert count == 1


def test_a_token_that_runs_out_in_the_middle_of_a_blob(liar: Liar, request_: FetchRequest) -> None:
    digest, data = liar.layers[0], liar.blob(liar.layers[0])
    tokens: list[str] = []

    def token(_: Asked, line: Line) -> None:
        tokens.append(f"t{len(tokens)}")
        line.reply(200, json.dumps({"token": tokens[-1]}).encode())

    def guarded(asked: Asked, line: Line) -> None:
        if asked.headers.get("authorization") != f"Bearer {tokens[-1]}" or (
            len(tokens) == 1 and "range" in asked.headers
        ):
            line.reply(401, WWW_Authenticate=f'Bearer realm="{liar.web.url}/token"')
        elif "range" in asked.headers:
            send_file(asked, line, data)
        else:
            line.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data[:200_000])
            line.hang_up()

    liar.web.routes["/token"] = token
    liar.web.routes["/v2/"] = lambda _, line: line.reply(401, WWW_Authenticate=f'Bearer realm="{liar.web.url}/token"')
    liar.route(digest, guarded)
    assert len(fetch(name_of(liar), request_).trees) == 3
    assert [asked.headers.get("range") for asked in liar.web.asked(f"/v2/t/app/blobs/{digest}")][-1] == "bytes=200000-"


def test_a_later_fetch_resumes_what_an_earlier_one_left(liar: Liar, request_: FetchRequest) -> None:
    digest, data = liar.layers[0], liar.blob(liar.layers[0])

    def broken(asked: Asked, line: Line) -> None:
        start = int(asked.headers.get("range", "bytes=0-")[6:-1])
        if start:
            line.reply(503)
            return
        line.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data[:250_000])
        line.hang_up()

    liar.route(digest, broken)
    with pytest.raises(Unavailable, match="503"):
        fetch(name_of(liar), request_)
    assert_nothing_stored(request_.store)
    del liar.web.routes[f"/v2/t/app/blobs/{digest}"]
    assert len(fetch(name_of(liar), request_).trees) == 3
    assert liar.web.asked(f"/v2/t/app/blobs/{digest}")[-1].headers["range"] == "bytes=250000-"
    assert os.listdir(request_.store.root / "partial") == []
    assert verify(request_.store) == []


FETCHER = """
import sys
from pathlib import Path
from pyrkt.base.dirs import ConfigDirs
from pyrkt.image.pull import FetchRequest, fetch
from pyrkt.store import Store
from pyrkt.trust.keystore import Keystore
from pyrkt.trust.policy import Policy
data, config, name = sys.argv[1:]
dirs = ConfigDirs(system="/nonexistent", local=config)
policy = Policy.parse(b'{"default":[{"type":"insecureAcceptAnything"}]}')
print(fetch(name, FetchRequest(store=Store(data).open(), keystore=Keystore(dirs), policy=policy, dirs=dirs)).id)
"""


def start_fetch(liar: Liar, request: FetchRequest) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FETCHER, str(request.store.root), request.dirs.local, name_of(liar)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_many_at_once_all_succeed_and_fetch_each_blob_once(liar: Liar, request_: FetchRequest) -> None:
    processes = [start_fetch(liar, request_) for _ in range(6)]
    outcomes = [(process.communicate(timeout=60), process.returncode) for process in processes]
    assert [code for _, code in outcomes] == [0] * 6, outcomes
    assert len({out for (out, _), _ in outcomes}) == 1
    for digest in liar.layers:
        assert len(liar.web.asked(f"/v2/t/app/blobs/{digest}")) == 1
    assert verify(request_.store) == []
    assert os.listdir(request_.store.tmp) == []


def test_killed_at_any_moment_the_next_one_succeeds(liar: Liar, request_: FetchRequest) -> None:
    began = time.monotonic()
    process = start_fetch(liar, request_)
    assert process.wait(60) == 0
    process.communicate()
    whole = time.monotonic() - began
    chance = random.Random(7)
    for _ in range(10):
        store = Store(request_.store.root.parent / f"killed-{chance.random()}").open()
        request = replace(request_, store=store)
        process = start_fetch(liar, request)
        time.sleep(whole * chance.uniform(0.3, 1.0))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        assert verify(store) == []
        record = fetch(name_of(liar), request)
        assert len(record.trees) == 3
        collect(store, (), 0, wait=True)
        assert verify(store) == []
        assert os.listdir(store.tmp) == []
        assert store.images.get(record.id) == record
