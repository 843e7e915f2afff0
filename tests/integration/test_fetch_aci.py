"""pyrkt fetch of ACIs: built with tarfile, signed and encrypted by gpg, served over HTTPS with meta discovery."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import tarfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import ImageRefused, InvalidSpec, NoPermission, NotFound, NotTrusted, PyrktError, Unavailable
from pyrkt.image import discovery
from pyrkt.image.pull import FetchRequest, fetch
from pyrkt.image.wire import Limits
from pyrkt.spec.image import Platform
from pyrkt.store import Rootfs, Store
from pyrkt.store.gc import collect, verify
from pyrkt.trust.keys import DecryptionKeys
from pyrkt.trust.keystore import Keystore
from tests.support.gpg import Gpg
from tests.support.tls import Authority
from tests.support.web import Asked, Line, Web, send_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pyrkt.image.request import PullPolicy
    from pyrkt.store import ImageRecord

pytestmark = [pytest.mark.root, pytest.mark.peers]

QUICK = Limits(connect=5, idle=5, answer=5, document=5, tries=3, pause=0.01, longest_pause=0.2)
LABELS = {"version": "1.0", "os": "linux", "arch": "amd64"}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "plain": bytes,
}


def aci_tar(
    name: str = "example.com/app",
    labels: dict[str, str] | None = None,
    files: dict[str, bytes] | None = None,
    **more: object,
) -> bytes:
    """Return the plain tar of an ACI."""
    manifest = {
        "acKind": "ImageManifest",
        "acVersion": "0.8.11",
        "name": name,
        "labels": [{"name": key, "value": value} for key, value in (LABELS if labels is None else labels).items()],
        **more,
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, data in {"manifest": json.dumps(manifest).encode(), "rootfs": None, **(files or {})}.items():
            info = tarfile.TarInfo(path if data is None or path == "manifest" else f"rootfs/{path}")
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.mode, info.size = 0o755, len(data or b"")
            archive.addfile(info, io.BytesIO(data or b""))
    return out.getvalue()


@dataclass(slots=True)
class Publisher:
    """Serves ACIs as example.com does: a page of discovery, files, signatures."""

    web: Web
    gpg: Gpg
    folder: Path
    published: dict[str, str] = field(default_factory=dict)

    def publish(self, path: str, data: bytes, signer: str = "signer") -> None:
        """Serve ``data`` at ``path``, with its signature beside it if anybody signs."""
        file = self.folder / path.strip("/").replace("/", "_")
        file.write_bytes(data)
        self.web.files[path] = data
        self.web.files.pop(f"{path}.asc", None)
        if signer:
            self.web.files[f"{path}.asc"] = self.gpg.sign(file, signer)

    def page(self, path: str, *metas: str) -> None:
        """Serve a page of discovery at ``path``."""
        tags = "".join(f"<meta name='{meta.split()[0]}' content='{meta.partition(' ')[2]}'>" for meta in metas)
        self.web.files[path] = f"<!DOCTYPE html><html><head>{tags}</head><body>hi</body></html>".encode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def gpg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    made = Gpg(tmp_path_factory.mktemp("gnupg"))
    for name in ("signer", "stranger", "other"):
        made.make_key(name)
    yield made
    made.close()


@pytest.fixture
def publisher(tmp_path: Path, authority: Authority, gpg: Gpg) -> Iterator[Publisher]:
    folder = tmp_path / "published"
    folder.mkdir()
    with Web(authority.server_context(authority.issue("web", ("example.com", "127.0.0.1")))) as web:
        made = Publisher(web, gpg, folder)
        made.page("/", "ac-discovery example.com https://example.com/images/{name}-{version}-{os}-{arch}.{ext}",
                  "ac-discovery-pubkeys example.com https://example.com/keys.asc")  # fmt: skip
        web.routes["/app"] = lambda _, line: line.reply(404)
        yield made


@pytest.fixture
def request_(tmp_path: Path, authority: Authority, publisher: Publisher, gpg: Gpg) -> FetchRequest:
    for host in ("example.com", publisher.web.host):
        directory = tmp_path / "config/certs.d" / host
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_bytes(authority.cert.read_bytes())
    dirs = ConfigDirs(system="/nonexistent", local=str(tmp_path / "config"))
    keystore = Keystore(dirs)
    keystore.add(gpg.run("--armor", "--export", "signer@example.com"), "example.com/app")
    return FetchRequest(
        store=Store(tmp_path / "data").open(),
        keystore=keystore,
        pull_policy="update",
        platform=Platform(os="linux", architecture="amd64"),
        dirs=dirs,
        limits=QUICK,
        connect_to={"example.com:443": publisher.web.host},
    )


PATH = "/images/example.com/app-1.0-linux-amd64.aci"


def read(request: FetchRequest, record: ImageRecord, path: str) -> bytes | None:
    return Rootfs(tuple(str(request.store.trees.path(tree)) for tree in record.trees)).read(path)


def assert_nothing_stored(store: Store) -> None:
    assert store.images.all() == []
    assert list(store.blobs.all()) == []
    assert store.trees.all() == []
    assert os.listdir(store.tmp) == []
    assert [name for name in os.listdir(store.root / "partial") if not name.endswith(".json")] == []


@pytest.mark.parametrize("how", list(PACKERS))
def test_by_name(request_: FetchRequest, publisher: Publisher, how: str) -> None:
    plain = aci_tar(files={"hello": b"hello\n"})
    packed = PACKERS[how](plain)  # once: gzip writes the time
    publisher.publish(PATH, packed)
    record = fetch("example.com/app:1.0", request_)
    assert record.id == f"sha512-{hashlib.sha512(plain).hexdigest()}"
    assert (record.kind, record.name, record.labels) == ("appc", "example.com/app", LABELS)
    assert record.reference == "example.com/app:1.0"
    assert record.signers[0].format == "openpgp"
    assert "signer@example.com" in record.signers[0].name
    assert read(request_, record, "/hello") == b"hello\n"
    assert request_.store.blobs.read(record.blobs[0], 1 << 20) == packed
    assert verify(request_.store) == []
    assert os.listdir(request_.store.tmp) == []
    never = replace(request_, pull_policy="never")
    for text in ("example.com/app", "example.com/app:1.0,os=linux", record.id[:30]):
        assert fetch(text, never).id == record.id
    with pytest.raises(NotFound):
        fetch("example.com/app:2.0", never)


def test_the_signature_comes_first_and_the_parent_page_is_asked(request_: FetchRequest, publisher: Publisher) -> None:
    publisher.publish(PATH, aci_tar())
    fetch("example.com/app:1.0", request_)
    assert [asked.path for asked in publisher.web.log] == ["/app", "/", f"{PATH}.asc", PATH]
    assert publisher.web.log[0].query == {"ac-discovery": ["1"]}


def test_without_a_version_the_latest_is_meant(request_: FetchRequest, publisher: Publisher) -> None:
    publisher.publish("/images/example.com/app-latest-linux-amd64.aci", aci_tar(labels={**LABELS, "version": "3"}))
    record = fetch("example.com/app", request_)
    assert record.latest
    assert record.labels["version"] == "3"


def test_from_a_url_and_from_a_file(tmp_path: Path, request_: FetchRequest, publisher: Publisher) -> None:
    data = gzip.compress(aci_tar(files={"hello": b"hello\n"}))
    publisher.publish("/any/name.aci", data)
    record = fetch(f"{publisher.web.url}/any/name.aci?x=1", request_)
    assert record.name == "example.com/app"
    assert f"{publisher.web.url}/any/name.aci?x=1" == record.reference
    path = tmp_path / "app.aci"
    path.write_bytes(data)
    with pytest.raises(NotTrusted, match=r"app\.aci\.asc: there is no such file"):
        fetch(str(path), request_)
    (tmp_path / "app.aci.asc").write_bytes(publisher.gpg.sign(path, "signer"))
    again = fetch(str(path), request_)
    assert (again.id, again.reference) == (record.id, str(path))
    (tmp_path / "app.aci.asc").rename(tmp_path / "elsewhere.asc")
    assert fetch(str(path), replace(request_, signature=tmp_path / "elsewhere.asc")).id == record.id
    assert path.read_bytes() == data


def test_a_file_that_was_made_anew_is_the_new_image(
    tmp_path: Path, request_: FetchRequest, publisher: Publisher
) -> None:
    path, new = tmp_path / "app.aci", replace(request_, pull_policy="new")

    def make(content: bytes) -> None:
        path.write_bytes(aci_tar(files={"content": content}))
        (tmp_path / "app.aci.asc").write_bytes(publisher.gpg.sign(path, "signer"))

    make(b"one")
    first = fetch(str(path), new)
    assert fetch(str(path), new).imported == first.imported
    make(b"two")
    assert fetch(str(path), replace(request_, pull_policy="never")).id == first.id
    second = fetch(str(path), new)
    assert read(request_, second, "/content") == b"two"
    path.unlink()
    assert fetch(str(path), new).id == second.id


@pytest.mark.parametrize(
    ("signer", "name", "problem"),
    [
        pytest.param("", "example.com/app", "is not signed", id="unsigned"),
        pytest.param("stranger", "example.com/app", "", id="stranger"),
        pytest.param("signer", "example.com/app2", "no key is trusted to sign", id="other-prefix"),
    ],
)
def test_an_image_that_the_right_one_did_not_sign(
    request_: FetchRequest, publisher: Publisher, signer: str, name: str, problem: str
) -> None:
    path = PATH.replace("example.com/app", name)
    publisher.publish(path, aci_tar(name), signer)
    with pytest.raises(NotTrusted) as caught:
        fetch(f"{name}:1.0", request_)
    assert problem in caught.value.message
    assert_nothing_stored(request_.store)
    if signer != "stranger":
        assert not publisher.web.asked(path), "the image was fetched although its signature could not count"
    record = fetch(f"{name}:1.0", replace(request_, insecure=frozenset({"image"})))
    assert (record.insecure, record.signers) == (("image",), ())


def test_a_url_is_judged_by_the_name_in_the_manifest(request_: FetchRequest, publisher: Publisher, gpg: Gpg) -> None:
    request_.keystore.add(gpg.run("--armor", "--export", "other@example.com"), "example.org")
    publisher.publish("/x.aci", aci_tar(), "other")  # trusted, but not for example.com/app
    with pytest.raises(NotTrusted, match=r"example\.com/app"):
        fetch(f"{publisher.web.url}/x.aci", request_)
    assert_nothing_stored(request_.store)


def test_a_signature_of_another_file(request_: FetchRequest, publisher: Publisher) -> None:
    publisher.publish(PATH, aci_tar())
    publisher.web.files[PATH] = aci_tar(files={"evil": b"x"})
    with pytest.raises(NotTrusted):
        fetch("example.com/app:1.0", request_)
    assert_nothing_stored(request_.store)


def test_a_signature_may_be_deferred(request_: FetchRequest, publisher: Publisher) -> None:
    publisher.publish(PATH, aci_tar())
    signature = publisher.web.files[f"{PATH}.asc"]

    def later(_: Asked, line: Line) -> None:
        if publisher.web.asked(PATH):
            line.reply(200, signature)
        else:
            line.reply(202)

    publisher.web.routes[f"{PATH}.asc"] = later
    assert fetch("example.com/app:1.0", request_).signers
    publisher.web.routes[f"{PATH}.asc"] = lambda _, line: line.reply(202)
    with pytest.raises(NotTrusted, match="not ready yet"):
        fetch("example.com/app:1.0", replace(request_, store=Store(request_.store.root.parent / "other").open()))


def test_an_encrypted_image(tmp_path: Path, request_: FetchRequest, publisher: Publisher, gpg: Gpg) -> None:
    plain = aci_tar(files={"hello": b"secret\n"})
    (tmp_path / "plain").write_bytes(gzip.compress(plain))
    publisher.publish(PATH, gpg.encrypt(tmp_path / "plain", "open sesame"))
    (tmp_path / "right").write_text("open sesame\n")
    (tmp_path / "wrong").write_text("open barley\n")
    for path in (tmp_path / "right", tmp_path / "wrong"):
        path.chmod(0o600)
    for keys in ([], [f"passphrase:file={tmp_path}/wrong"]):
        with pytest.raises(NotTrusted, match="passphrase"):
            fetch("example.com/app:1.0", replace(request_, keys=DecryptionKeys.load(keys, request_.dirs)))
        assert_nothing_stored(request_.store)
    keys = [f"passphrase:file={tmp_path}/right"]
    record = fetch("example.com/app:1.0", replace(request_, keys=DecryptionKeys.load(keys, request_.dirs)))
    assert record.encrypted
    assert record.id == f"sha512-{hashlib.sha512(plain).hexdigest()}"
    assert read(request_, record, "/hello") == b"secret\n"


@pytest.mark.parametrize(
    ("manifest", "error", "problem"),
    [
        pytest.param({"name": "example.com/app/other"}, ImageRefused, "calls itself", id="name"),
        pytest.param(
            {"labels": {**LABELS, "version": "2"}}, ImageRefused, "says '2' for the label 'version'", id="version"
        ),
        pytest.param({"labels": {"os": "linux"}}, ImageRefused, "says nothing for the label", id="no-version"),
        pytest.param({"labels": {**LABELS, "arch": "aarch64"}}, ImageRefused, "is for arch 'aarch64'", id="arch"),
        pytest.param({"labels": {**LABELS, "os": "freebsd"}}, ImageRefused, "is for os 'freebsd'", id="os"),
        pytest.param({"acKind": "PodManifest"}, InvalidSpec, "acKind", id="kind"),
        pytest.param({"files": {"../evil": b"x"}}, ImageRefused, "", id="traversal"),
    ],
)
def test_an_image_that_is_not_the_one_asked_for(
    request_: FetchRequest, publisher: Publisher, manifest: dict[str, object], error: type[PyrktError], problem: str
) -> None:
    publisher.publish(PATH, aci_tar(**manifest))  # type: ignore[arg-type]
    with pytest.raises(error) as caught:
        fetch("example.com/app:1.0", request_)
    assert problem in caught.value.message
    assert caught.value.message.isprintable()
    assert_nothing_stored(request_.store)


def depends(*names: str, **more: object) -> list[dict[str, object]]:
    return [{"imageName": name, "labels": [{"name": "version", "value": "1.0"}], **more} for name in names]


def publish_app(publisher: Publisher, name: str, **more: object) -> str:
    data = aci_tar(f"example.com/app/{name}", files={name: name.encode(), "who": name.encode()}, **more)  # type: ignore[arg-type]
    publisher.publish(f"/images/example.com/app/{name}-1.0-linux-amd64.aci", data)
    return f"sha512-{hashlib.sha512(data).hexdigest()}"


def test_dependencies_are_fetched_and_lie_below(request_: FetchRequest, publisher: Publisher) -> None:
    base = publish_app(publisher, "base")
    publish_app(publisher, "left", dependencies=depends("example.com/app/base", imageID=base))
    publish_app(publisher, "right", dependencies=depends("example.com/app/base"))
    publish_app(publisher, "top", dependencies=depends("example.com/app/left", "example.com/app/right"))
    record = fetch("example.com/app/top:1.0", request_)
    assert len(record.dependencies) == 2
    for name in ("base", "left", "right", "top"):
        assert read(request_, record, f"/{name}") == name.encode()
    assert read(request_, record, "/who") == b"top"
    assert len(request_.store.images.all()) == 4
    assert verify(request_.store) == []


def publish_tower(publisher: Publisher) -> None:
    publish_app(publisher, "base")
    publish_app(publisher, "middle", dependencies=depends("example.com/app/base"))
    publish_app(publisher, "top", dependencies=depends("example.com/app/middle"))


def test_gc_keeps_what_an_image_is_rendered_from(request_: FetchRequest, publisher: Publisher) -> None:
    publish_tower(publisher)
    middle = fetch("example.com/app/middle:1.0", request_)
    collect(request_.store, grace=0)
    assert verify(request_.store) == []
    assert request_.store.trees.path(middle.id).joinpath("middle").read_bytes() == b"middle"
    record = fetch("example.com/app/top:1.0", replace(request_, pull_policy="new"))
    assert [read(request_, record, f"/{name}") for name in ("base", "middle", "top")] == [b"base", b"middle", b"top"]
    assert len(publisher.web.asked("/images/example.com/app/middle-1.0-linux-amd64.aci")) == 1


@pytest.mark.parametrize("policy", ["new", "update"])
def test_a_dependency_whose_own_one_was_removed_is_fetched_again(
    request_: FetchRequest, publisher: Publisher, policy: PullPolicy
) -> None:
    publish_tower(publisher)
    fetch("example.com/app/middle:1.0", request_)
    request_.store.images.remove(fetch("example.com/app/base:1.0", request_).id)
    collect(request_.store, grace=0)
    record = fetch("example.com/app/top:1.0", replace(request_, pull_policy=policy))
    assert [read(request_, record, f"/{name}") for name in ("base", "middle", "top")] == [b"base", b"middle", b"top"]
    assert verify(request_.store) == []


def test_diamonds_upon_diamonds_are_fetched_once_each(request_: FetchRequest, publisher: Publisher) -> None:
    """Twice the same at each of five levels: 32 ways lead to the lowest."""
    publish_app(publisher, "n0")
    for level in range(1, 6):
        publish_app(publisher, f"n{level}", dependencies=depends(*[f"example.com/app/n{level - 1}"] * 2))
    record = fetch("example.com/app/n5:1.0", request_)
    assert [read(request_, record, f"/n{level}") for level in (0, 5)] == [b"n0", b"n5"]
    assert len(publisher.web.asked("/images/example.com/app/n0-1.0-linux-amd64.aci")) == 1


@pytest.mark.parametrize(
    ("dependency", "problem"),
    [
        pytest.param({"imageID": "sha512-" + "0" * 128}, "its dependant wants sha512-", id="other-id"),
        pytest.param({"size": 7}, "has not the 7 bytes", id="other-size"),
    ],
)
def test_a_dependency_that_is_not_the_one_wanted(
    request_: FetchRequest, publisher: Publisher, dependency: dict[str, object], problem: str
) -> None:
    publish_app(publisher, "base")
    publish_app(publisher, "top", dependencies=depends("example.com/app/base", **dependency))
    with pytest.raises(ImageRefused, match=problem):
        fetch("example.com/app/top:1.0", request_)
    assert [record.name for record in request_.store.images.all()] == ["example.com/app/base"]


def test_a_dependency_without_end_is_cut_off(request_: FetchRequest, publisher: Publisher) -> None:
    publish_app(publisher, "base")
    publish_app(publisher, "top", dependencies=depends("example.com/app/base", size=20_000))
    path = "/images/example.com/app/base-1.0-linux-amd64.aci"
    sent = [0]

    def endless(_: Asked, line: Line) -> None:
        line.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while sent[0] < 100 << 20:
            line.send(bytes(64 << 10))
            sent[0] += 64 << 10
        line.hang_up()

    publisher.web.routes[path] = endless
    with pytest.raises(ImageRefused, match="is larger than its dependant says"):
        fetch("example.com/app/top:1.0", request_)
    assert sent[0] < 50 << 20
    assert_nothing_stored(request_.store)


def test_images_that_depend_on_each_other(request_: FetchRequest, publisher: Publisher) -> None:
    publish_app(publisher, "hen", dependencies=depends("example.com/app/egg"))
    publish_app(publisher, "egg", dependencies=depends("example.com/app/hen"))
    with pytest.raises(ImageRefused, match="depends on itself"):
        fetch("example.com/app/hen:1.0", request_)
    assert_nothing_stored(request_.store)


def test_an_unsigned_dependency_is_refused_like_any_image(request_: FetchRequest, publisher: Publisher) -> None:
    publish_app(publisher, "top", dependencies=depends("example.com/app/base"))
    publisher.publish("/images/example.com/app/base-1.0-linux-amd64.aci", aci_tar("example.com/app/base"), "")
    with pytest.raises(NotTrusted, match="is not signed"):
        fetch("example.com/app/top:1.0", request_)
    assert_nothing_stored(request_.store)


def test_an_unchanged_image_is_not_fetched_again(request_: FetchRequest, publisher: Publisher) -> None:
    publisher.publish(PATH, aci_tar())
    first = fetch("example.com/app:1.0", request_)
    assert fetch("example.com/app:1.0", request_) == first
    assert [asked.headers.get("if-none-match") is not None for asked in publisher.web.asked(PATH)] == [False, True]
    publisher.publish(PATH, aci_tar(files={"new": b""}))
    assert fetch("example.com/app:1.0", request_).id != first.id


def test_a_fresh_image_is_not_even_asked_for(request_: FetchRequest, publisher: Publisher) -> None:
    publisher.publish(PATH, aci_tar())
    data = publisher.web.files[PATH]
    publisher.web.routes[PATH] = lambda _, line: line.reply(200, data, Cache_Control="public, max-age=100", ETag='"a"')
    first = fetch("example.com/app:1.0", request_)
    assert fetch("example.com/app:1.0", request_).id == first.id
    assert len(publisher.web.asked(PATH)) == 1
    # What was fetched unchecked is not fresh for who wants it checked.
    loose = replace(request_, insecure=frozenset({"image"}), store=Store(request_.store.root.parent / "b").open())
    fetch("example.com/app:1.0", loose)
    assert fetch("example.com/app:1.0", replace(loose, insecure=frozenset())).signers
    assert len(publisher.web.asked(PATH)) == 3


@pytest.mark.parametrize("fresh", ["max-age=100", "no-cache"])
def test_an_unchanged_image_whose_key_was_withdrawn(request_: FetchRequest, publisher: Publisher, fresh: str) -> None:
    publisher.publish(PATH, aci_tar())
    data = publisher.web.files[PATH]

    def cached(asked: Asked, line: Line) -> None:
        if asked.headers.get("if-none-match"):
            line.reply(304)
        else:
            line.reply(200, data, ETag='"a"', Cache_Control=fresh)

    publisher.web.routes[PATH] = cached
    (signer,) = fetch("example.com/app:1.0", request_).signers
    request_.keystore.remove(signer.fingerprint)
    request_.keystore.add(publisher.gpg.run("--armor", "--export", "other@example.com"), "example.com/app")
    with pytest.raises(NotTrusted, match="no trusted key"):
        fetch("example.com/app:1.0", request_)


@pytest.mark.parametrize("how", ["etag", "changed", "no-validator"])
def test_a_broken_download_is_resumed_if_it_is_the_same_file(
    request_: FetchRequest, publisher: Publisher, how: str
) -> None:
    data = aci_tar(files={"big": os.urandom(300_000)})
    publisher.publish(PATH, data)

    def broken(asked: Asked, line: Line) -> None:
        if len(publisher.web.asked(PATH)) > 1:
            send_file(asked, line, data)
            return
        etag = {"etag": f'ETag: "{hashlib.sha256(data).hexdigest()[:16]}"\r\n', "changed": 'ETag: "old"\r\n'}.get(
            how, ""
        )
        line.send(f"HTTP/1.1 200 OK\r\n{etag}Content-Length: {len(data)}\r\n\r\n".encode() + data[:200_000])
        line.hang_up()

    publisher.web.routes[PATH] = broken
    record = fetch("example.com/app:1.0", request_)
    assert record.id == f"sha512-{hashlib.sha512(data).hexdigest()}"
    asked = publisher.web.asked(PATH)[1]
    assert asked.headers.get("range") == (None if how == "no-validator" else "bytes=200000-")


def test_a_later_fetch_takes_up_what_an_earlier_one_left(request_: FetchRequest, publisher: Publisher) -> None:
    data = aci_tar(files={"big": os.urandom(300_000)})
    publisher.publish(PATH, data)
    whole = publisher.web.files[PATH]

    def broken(asked: Asked, line: Line) -> None:
        etag = f'"{hashlib.sha256(whole).hexdigest()[:16]}"'
        start = int(asked.headers.get("range", "bytes=0-")[6:-1])
        head = f"HTTP/1.1 {206 if start else 200} OK\r\nETag: {etag}\r\nContent-Length: {len(whole) - start}\r\n"
        if start:
            head += f"Content-Range: bytes {start}-{len(whole) - 1}/{len(whole)}\r\n"
        line.send(head.encode() + b"\r\n" + whole[start : start + 50_000])
        line.hang_up()

    publisher.web.routes[PATH] = broken
    with pytest.raises(Unavailable, match=r"\(3 tries\)"):
        fetch("example.com/app:1.0", request_)
    assert request_.store.images.all() == []
    del publisher.web.routes[PATH]
    fetch("example.com/app:1.0", request_)
    assert publisher.web.asked(PATH)[-1].headers["range"] == "bytes=150000-"


def test_what_anybody_may_have_sent_counts_for_nothing_later(request_: FetchRequest, publisher: Publisher) -> None:
    """Neither a beginning nor "not modified": an ETag is the server's word, and here nobody knew the server."""
    good, evil = aci_tar(files={"big": b"g" * 300_000}), aci_tar(files={"big": b"e" * 300_000})
    publisher.publish(PATH, good)
    unsigned = frozenset({"image"})

    def broken(_asked: Asked, line: Line) -> None:
        line.send(f'HTTP/1.1 200 OK\r\nETag: "same"\r\nContent-Length: {len(evil)}\r\n\r\n'.encode() + evil[:200_000])
        line.hang_up()

    publisher.web.routes[PATH] = broken
    with pytest.raises(Unavailable):
        fetch("example.com/app:1.0", replace(request_, insecure=unsigned | {"tls"}))
    publisher.web.routes[PATH] = lambda _, line: line.reply(200, good, ETag='"same"', Cache_Control="max-age=9")
    honest = fetch("example.com/app:1.0", replace(request_, insecure=unsigned))
    assert "range" not in publisher.web.asked(PATH)[-1].headers
    assert honest.id == f"sha512-{hashlib.sha512(good).hexdigest()}"

    publisher.web.routes[PATH] = lambda _, line: line.reply(200, evil, ETag='"same"', Cache_Control="max-age=9")
    (request_.store.root / "partial").joinpath(the_note(request_)).unlink()
    forged = fetch("example.com/app:1.0", replace(request_, insecure=unsigned | {"tls"}))
    assert forged.id != honest.id
    publisher.web.routes[PATH] = lambda _, line: line.reply(200, good, ETag='"same"')
    assert fetch("example.com/app:1.0", replace(request_, insecure=unsigned)).id == honest.id
    assert "if-none-match" not in publisher.web.asked(PATH)[-1].headers


def the_note(request: FetchRequest) -> str:
    """Return the name of the one note that downloads have left."""
    (name,) = [name for name in os.listdir(request.store.root / "partial") if name.endswith(".json")]
    return name


def test_credentials_of_auth_d(request_: FetchRequest, publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish(PATH, aci_tar())
    data = publisher.web.files[PATH]

    def guarded(asked: Asked, line: Line) -> None:
        if asked.headers.get("authorization") == "Basic dTpw":
            line.reply(200, data)
        else:
            line.reply(401)

    publisher.web.routes[PATH] = guarded
    with pytest.raises(NoPermission, match="answers 401"):
        fetch("example.com/app:1.0", request_)
    (tmp_path / "config/auth.d").mkdir()
    document = {"rktKind": "auth", "rktVersion": "v1", "domains": ["example.com"], "type": "basic",
                "credentials": {"user": "u", "password": "p"}}  # fmt: skip
    (tmp_path / "config/auth.d/a.json").write_text(json.dumps(document))
    fetch("example.com/app:1.0", request_)


def test_discovery_that_finds_nothing(request_: FetchRequest, publisher: Publisher) -> None:
    publisher.page("/", "ac-discovery example.org https://example.org/{name}.{ext}",
                   "ac-discovery example.com https://example.com/{name}-{flavour}.{ext}")  # fmt: skip
    with pytest.raises(
        NotFound, match=r"asked https://example\.com/app\?ac-discovery=1 \(404\), https://example\.com\?"
    ):
        fetch("example.com/app:1.0", request_)
    publisher.publish("/example.com/app-sweet.aci", aci_tar(labels={**LABELS, "flavour": "sweet"}))
    assert fetch("example.com/app:1.0,flavour=sweet", request_).labels["flavour"] == "sweet"


def test_keys_by_discovery(request_: FetchRequest, publisher: Publisher, gpg: Gpg) -> None:
    key = gpg.run("--armor", "--export", "signer@example.com")
    publisher.web.files["/keys.asc"] = key
    with request_.client() as client:
        urls = discovery.keys(client, "example.com/app", request_.credentials())
        assert urls == ["https://example.com/keys.asc"]
        assert discovery.fetch_key(client, urls[0], request_.credentials()) == key


def test_a_special_file_is_no_image(tmp_path: Path, request_: FetchRequest) -> None:
    os.mkfifo(tmp_path / "fifo")
    loose = replace(request_, insecure=frozenset({"image"}))
    for path in (tmp_path / "fifo", tmp_path):
        with pytest.raises(InvalidSpec, match="is not a file"):
            fetch(str(path), loose)
    with pytest.raises(NotFound):
        fetch(f"{tmp_path}/none.aci", loose)
