"""ACIs that mean harm or are signed by nobody who may, through the command: one line, a hint, and nothing kept."""

# ruff: noqa: E501 - one case a line: the names and verdicts are to be read down the page

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrkt.base.errors import ImageRefused, InvalidSpec, NoPermission, NotFound, NotTrusted, PyrktError, Unavailable
from tests.strategies import archive, file, folder, gnu, hardlink, header, pax, symlink
from tests.support import hostile, keys
from tests.support.hostile import Workshop, aci, manifest_of, tunnel_to
from tests.support.pods import Pyrkt
from tests.support.tls import Authority
from tests.support.web import Asked, Line, Web

pytestmark = [pytest.mark.root, pytest.mark.peers]

Make = Callable[[Workshop], bytes]


@pytest.fixture
def tool(tmp_path: Path) -> Pyrkt:
    return Pyrkt(tmp_path)


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with hostile.workshop(tmp_path) as made:
        yield made


def bad(name: str, make: Make, text: str, error: type[PyrktError] = ImageRefused) -> Any:
    return pytest.param(make, text, error, id=name)


def raw(*parts: bytes) -> Make:
    """Return a case whose archive consists of ``parts`` alone."""
    return lambda _: archive(*parts)


def spec(case: str, text: str, /, **changes: Any) -> Any:
    """Return a case of a manifest with other members."""
    return bad(case, lambda _: aci(**changes), text, InvalidSpec)


def json_of(edit: Callable[[bytes], bytes]) -> Make:
    """Return a case whose manifest is made by ``edit`` of a good one."""
    return raw(file(b"manifest", edit(manifest_of())), folder(b"rootfs"))


MANIFEST, ROOTFS = file(b"manifest", manifest_of()), folder(b"rootfs")
A = file(b"rootfs/a", b"1")
LABELS = [{"name": "os", "value": "linux"}, {"name": "arch", "value": "amd64"}]

REFUSED = [
    # what an ACI consists of
    bad("manifest-missing", raw(ROOTFS, A), "no manifest"),
    bad("manifest-twice", raw(MANIFEST, ROOTFS, MANIFEST), "is there twice"),
    bad("manifest-twice-by-dot", raw(MANIFEST, ROOTFS, file(b"./manifest", manifest_of(name="example.com/other"))), "is there twice"),
    bad("manifest-symlink", raw(symlink(b"manifest", b"/etc/shadow"), ROOTFS), "regular file"),
    bad("manifest-hard-link", raw(ROOTFS, file(b"rootfs/m", manifest_of()), hardlink(b"manifest", b"rootfs/m")), "regular file"),
    bad("manifest-directory", raw(folder(b"manifest"), ROOTFS), "regular file"),
    bad("manifest-fifo", raw(header(b"manifest", b"6"), ROOTFS), "regular file"),
    bad("manifest-device", raw(header(b"manifest", b"3", device=(1, 5)), ROOTFS), "regular file"),
    bad("manifest-below", raw(file(b"manifest/x", manifest_of()), ROOTFS), "regular file"),
    bad("manifest-sparse", raw(pax((b"GNU.sparse.size", b"999999999999"), (b"GNU.sparse.numblocks", b"0")), file(b"manifest"), ROOTFS), "does not fit"),
    bad("manifest-huge", raw(header(b"manifest", size=1 << 30), ROOTFS), "more than"),
    bad("manifest-empty", raw(file(b"manifest"), ROOTFS), "JSON", InvalidSpec),
    bad("rootfs-missing", raw(MANIFEST), "no rootfs"),
    bad("rootfs-symlink", lambda w: archive(MANIFEST, pax((b"linkpath", w.out)), symlink(b"rootfs", b"x"), file(b"rootfs/file", b"dead")), "must be a directory"),
    bad("rootfs-file", raw(MANIFEST, file(b"rootfs", b"x")), "must be a directory"),
    bad("rootfs-replaced", lambda w: archive(MANIFEST, ROOTFS, pax((b"linkpath", w.out)), symlink(b"rootfs/", b"x"), A), "twice"),
    bad("rootfs-evil", raw(MANIFEST, ROOTFS, file(b"rootfs-evil/a")), "does not belong"),
    bad("rootfs-upper-case", raw(MANIFEST, ROOTFS, folder(b"Rootfs")), "does not belong"),
    bad("top-level-file", raw(MANIFEST, ROOTFS, file(b"evil", b"1")), "does not belong"),
    bad("top-level-control", raw(MANIFEST, ROOTFS, file(b"\x1b]0;owned\x07", b"1")), r"\x1b]0;owned\x07"),
    bad("top-level-directory", raw(MANIFEST, ROOTFS, folder(b"etc")), "does not belong"),
    bad("dot-symlink", lambda w: archive(symlink(b".", w.out[:99]), MANIFEST, ROOTFS), "no directory"),
    bad("duplicate", raw(MANIFEST, ROOTFS, A, file(b"rootfs/a", b"2")), "is there twice"),
    bad("duplicate-by-dots", raw(MANIFEST, ROOTFS, A, file(b"./rootfs/./a", b"2")), "is there twice"),
    bad("duplicate-other-kind", lambda w: archive(MANIFEST, ROOTFS, folder(b"rootfs/a"), symlink(b"rootfs/a", w.out[:99])), "is there twice"),
    # names
    bad("dotdot", raw(MANIFEST, ROOTFS, file(b"rootfs/../../x")), "leads out of the image"),
    bad("dotdot-to-manifest", raw(MANIFEST, ROOTFS, file(b"rootfs/../manifest")), "leads out of the image"),
    bad("dotdot-top", raw(MANIFEST, ROOTFS, file(b"../x")), "leads out of the image"),
    bad("absolute", raw(MANIFEST, ROOTFS, file(b"/rootfs/a")), "does not belong"),
    bad("absolute-etc", raw(MANIFEST, ROOTFS, file(b"/etc/passwd", b"1")), "does not belong"),
    bad("hard-to-manifest", raw(MANIFEST, ROOTFS, hardlink(b"rootfs/a", b"manifest")), "outside of rootfs"),
    bad("hard-without-rootfs", raw(MANIFEST, ROOTFS, A, hardlink(b"rootfs/b", b"a")), "outside of rootfs"),
    bad("hard-absolute", lambda w: archive(MANIFEST, ROOTFS, pax((b"linkpath", w.out + b"/file")), hardlink(b"rootfs/b", b"x")), "outside of rootfs"),
    bad("hard-dotdot", raw(MANIFEST, ROOTFS, hardlink(b"rootfs/b", b"rootfs/../../x")), "leads out of the image"),
    bad("hard-to-nothing", raw(MANIFEST, ROOTFS, hardlink(b"rootfs/b", b"rootfs/none")), "none"),
    bad("name-deep-3000", raw(MANIFEST, ROOTFS, gnu(b"L", b"rootfs/" + b"a/" * 3000), folder(b"x")), "bytes"),
    # the manifest
    spec("kind", "acKind", acKind="PodManifest"),
    spec("kind-missing", "acKind", acKind=None),
    spec("version", "acVersion", acVersion="1\x1b[31m"),
    spec("name-missing", "name", name=None),
    spec("name-upper", "name", name="Example.com/App"),
    spec("name-control", r"\x1b[31m", name="example.com/\x1b[31m"),
    spec("name-dotdot", "name", name="../../etc"),
    spec("name-long", "name", name="a" * 1_000_000 + "/"),
    spec("labels-twice", "labels", labels=[*LABELS, LABELS[0]]),
    spec("labels-name", "labels", labels=[{"name": "name", "value": "x"}]),
    spec("exec-empty", "exec", app={"exec": [""], "user": "0", "group": "0"}),
    spec("user-missing", "user", app={"exec": ["/bin/sh"], "group": "0"}),
    spec("user-empty", "user", app={"exec": ["/bin/sh"], "user": "", "group": "0"}),
    spec("cwd-relative", "workingDirectory", app={"exec": ["/bin/sh"], "user": "0", "group": "0", "workingDirectory": "../.."}),
    spec("gids", "supplementaryGIDs", app={"exec": ["/bin/sh"], "user": "0", "group": "0", "supplementaryGIDs": [1 << 32]}),
    spec("mount-point-relative", "mountPoints", app={"exec": ["/bin/sh"], "user": "0", "group": "0", "mountPoints": [{"name": "a", "path": "../x"}]}),
    spec("dependency-id", "imageID", dependencies=[{"imageName": "example.com/b", "imageID": "sha512-../../x"}]),
    spec("whitelist", "pathWhitelist", pathWhitelist="/etc"),
    bad("arch", lambda _: aci(labels=[LABELS[0], {"name": "arch", "value": "aarch64"}]), "this host is"),
    bad("os", lambda _: aci(labels=[{"name": "os", "value": "windows\x1b[2J"}, LABELS[1]]), r"\x1b[2J", InvalidSpec),
    bad("json-duplicate", json_of(lambda data: data.replace(b'"name"', b'"name": "example.com/good", "name"', 1)), "duplicate key 'name'", InvalidSpec),
    bad("json-deep", json_of(lambda data: data[:-1] + b', "x": ' + b"[" * 9999 + b"]" * 9999 + b"}"), "levels deep", InvalidSpec),
    bad("json-nan", json_of(lambda data: data[:-1] + b', "x": NaN}'), "NaN", InvalidSpec),
    bad("json-utf16", json_of(lambda data: data.decode().encode("utf-16")), "UTF-8", InvalidSpec),
    # streams
    bad("gzip-cut", lambda _: gzip.compress(aci(file(b"rootfs/r", os.urandom(9000))))[:-3000], "cut"),
    bad("bzip2-cut", lambda _: bz2.compress(aci(A))[:-5], "cut off"),
    bad("xz-cut", lambda _: lzma.compress(aci(A))[:-5], "cut off"),
    bad("tar-cut", lambda _: aci(A)[:-1024], "has no end"),
    bad("no-archive", lambda _: b"<html>404</html>" * 99, "not a tar archive"),
    bad("nothing", lambda _: b"", "empty"),
    bad("bomb-xz", lambda _: lzma.compress(archive(MANIFEST, ROOTFS, header(b"rootfs/b", size=160 << 20))[:-1024]) + lzma.compress(bytes(8 << 20)) * 20 + lzma.compress(bytes(1024)), "over 1000 times as much"),
    bad("bomb-bzip2", lambda _: bz2.compress(archive(MANIFEST, ROOTFS, header(b"rootfs/b", size=160 << 20))[:-1024]) + bz2.compress(bytes(8 << 20)) * 20 + bz2.compress(bytes(1024)), "over 1000 times as much"),
    bad("encrypted-but-damaged", lambda _: b"\x8c\x0d\x04\x09\x03\x02" + bytes(200), "no OpenPGP packet"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "text", "error"), REFUSED)
def test_is_refused(tool: Pyrkt, workshop: Workshop, make: Make, text: str, error: type[PyrktError]) -> None:
    ended = hostile.call(tool.argv("fetch", workshop.file(make(workshop))))
    hostile.assert_refused(ended, error, text)
    hostile.assert_nothing_stored(tool)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(os.mkfifo, id="fifo"),
        pytest.param(os.mkdir, id="directory"),
        pytest.param(lambda path: os.symlink("/dev/zero", path), id="device"),
        pytest.param(lambda path: os.symlink(path, path), id="loop"),
    ],
)
def test_what_is_no_file_is_told(tool: Pyrkt, workshop: Workshop, make: Callable[[Path], None]) -> None:
    path = workshop.base / "image.aci"
    make(path)
    ended = hostile.call(tool.argv("fetch", f"file://{path}"))
    hostile.assert_refused(ended, NotFound if path.is_symlink() and not path.exists() else InvalidSpec, str(path))
    hostile.assert_nothing_stored(tool)


def test_a_legal_one_is_made_inside(tool: Pyrkt, workshop: Workshop) -> None:
    data = aci(
        pax((b"linkpath", workshop.out)), symlink(b"rootfs/s", b"x"), file(b"rootfs/s/file", b"dead"),
        file(b"rootfs/.wh.a", b"an ACI has no whiteouts"), file(b"rootfs/su", mode=0o4755, uid=77),
    )  # fmt: skip
    target = tool.base / "bundle"
    assert hostile.call(tool.argv("image", "unpack", workshop.file(data), str(target))).code == 0
    inside = target / "rootfs" / str(workshop.canary).lstrip("/")
    assert hostile.describe(inside / "file") == "f:dead"
    assert hostile.describe(target / "rootfs/.wh.a") == "f:an ACI has no whiteouts"
    assert hostile.describe(target / "rootfs/su") == "f4755:"


# -- signatures


@pytest.fixture(scope="module")
def gpg() -> Iterator[keys.Gpg]:
    with keys.gpg_home() as home:
        for name in ("signer", "stranger", "parent", "revoked"):
            home.key(name)
        home.key("expired", days=1)
        yield home


GOOD = aci(A)
OTHER = aci(file(b"rootfs/a", b"2"))


def signed(name: str, data: bytes = GOOD, *options: str, at: int = 0) -> Callable[[keys.Gpg], bytes]:
    return lambda gpg: gpg.sign(name, data, *options, at=at)


def trusted(tool: Pyrkt, gpg: keys.Gpg, name: str, prefix: str) -> None:
    """Trust a key as an administrator does who copies files: nobody looks at what it is."""
    directory = tool.base / "etc/trustedkeys/prefix.d" / prefix
    directory.mkdir(parents=True, exist_ok=True)
    (directory / gpg.fingerprints(name)[0]).write_bytes(gpg.public(name))


SIGNATURES = [
    pytest.param(None, "not signed", id="none"),
    pytest.param(lambda _: b"", "", id="empty"),
    pytest.param(lambda _: b"garbage \x1b[31m" * 100, "", id="garbage"),
    pytest.param(lambda _: os.urandom(100_000), "", id="random"),
    pytest.param(lambda _: b"-----BEGIN PGP SIGNATURE-----\n\n" + b"A" * 500_000, "", id="endless-armour"),
    pytest.param(signed("stranger"), "", id="stranger"),
    pytest.param(signed("parent"), "", id="key-of-another-name"),
    pytest.param(signed("signer", OTHER), "", id="of-another-file"),
    pytest.param(signed("expired", at=keys.PAST + 60), "expired", id="expired-key"),
    pytest.param(signed("revoked"), "revoked", id="revoked-key"),
    pytest.param(lambda gpg: signed("signer")(gpg)[:-120] + b"\n-----END PGP SIGNATURE-----\n", "", id="cut"),
    pytest.param(lambda gpg: gpg.message("signer", GOOD), "", id="a-message-instead"),
    pytest.param(lambda gpg: gpg.public("signer"), "", id="a-key-instead"),
]


@pytest.mark.parametrize(("make", "text"), SIGNATURES)
def test_who_may_not_sign_is_refused(
    tool: Pyrkt, workshop: Workshop, gpg: keys.Gpg, make: Callable[[keys.Gpg], bytes] | None, text: str
) -> None:
    tool.insecure = ""
    for name in ("signer", "expired", "revoked"):
        trusted(tool, gpg, name, "example.com/app")
    trusted(tool, gpg, "parent", "example.com/ap")
    path = workshop.file(GOOD)
    if make is not None:
        data = make(gpg)
        Path(f"{path}.asc").write_bytes(data)
        if text == "revoked":
            revoke(gpg, tool)
    for words in (["fetch", path], ["run", path], ["image", "unpack", path, str(tool.base / "bundle")]):
        ended = hostile.call(tool.argv(*words))
        hostile.assert_refused(ended, NotTrusted, text)
        hostile.assert_nothing_stored(tool)
    assert not (tool.base / "bundle").exists()


def revoke(gpg: keys.Gpg, tool: Pyrkt) -> None:
    """Trust the key "revoked" as it is after its revocation; in a copy of the home, for the others sign with it."""
    with keys.gpg_home() as copy:
        copy.run("--import", stdin=gpg.secret("revoked"))
        copy.revoke(gpg.fingerprints("revoked")[0], 1)
        trusted(tool, copy, "revoked", "example.com/app")


def test_a_signature_that_is_no_file_does_not_block(tool: Pyrkt, workshop: Workshop, gpg: keys.Gpg) -> None:
    tool.insecure = ""
    trusted(tool, gpg, "signer", "example.com/app")
    path = workshop.file(GOOD)
    os.mkfifo(f"{path}.asc")
    hostile.assert_refused(hostile.call(tool.argv("fetch", path)), NotTrusted, f"{path}.asc")
    Path(f"{path}.asc").unlink()
    Path(f"{path}.asc").mkdir()
    hostile.assert_refused(hostile.call(tool.argv("fetch", path)), NotTrusted, f"{path}.asc")
    hostile.assert_nothing_stored(tool)
    Path(f"{path}.asc").rmdir()
    Path(f"{path}.asc").write_bytes(gpg.sign("signer", GOOD))
    tool.ok("fetch", path)


def test_the_name_in_the_manifest_decides_whose_keys_count(tool: Pyrkt, workshop: Workshop, gpg: keys.Gpg) -> None:
    """A file has no name until it is read; whoever signs for one name must not sign for another thereby."""
    tool.insecure = ""
    trusted(tool, gpg, "signer", "example.com/app")
    trusted(tool, gpg, "stranger", "example.com/app2")
    data = aci(A, name="example.com/app2")
    path = workshop.file(data)
    Path(f"{path}.asc").write_bytes(gpg.sign("signer", data))
    hostile.assert_refused(hostile.call(tool.argv("fetch", path)), NotTrusted, "")
    hostile.assert_nothing_stored(tool)
    Path(f"{path}.asc").write_bytes(gpg.sign("stranger", data))
    tool.ok("fetch", path)


@pytest.mark.parametrize(
    ("change", "word", "error"),
    [
        pytest.param(lambda data: data, "other", NotTrusted, id="wrong-passphrase"),
        pytest.param(lambda data: data, "", NotTrusted, id="no-passphrase"),
        pytest.param(lambda data: data[:-40], "secret", ImageRefused, id="cut"),
        pytest.param(
            lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:], "secret", ImageRefused, id="flipped"
        ),
    ],
)
def test_an_encrypted_image_is_opened_whole_or_not_at_all(
    tool: Pyrkt,
    workshop: Workshop,
    gpg: keys.Gpg,
    change: Callable[[bytes], bytes],
    word: str,
    error: type[PyrktError],
) -> None:
    sealed = gpg.encrypt(aci(file(b"rootfs/r", os.urandom(2000))), "secret", "--cipher-algo", "AES256")
    path = workshop.file(change(sealed))
    secret = workshop.base / "word"
    secret.write_text(word)
    secret.chmod(0o600)
    given = [f"--decryption-key=passphrase:file={secret}"] if word else []
    ended = hostile.call(tool.argv("fetch", *given, path))
    hostile.assert_refused(ended, error, "")
    hostile.assert_nothing_stored(tool)


# -- by discovery, over HTTPS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Iterator[tuple[Web, dict[str, str]]]:
    """The host example.com, and the environment in which it is found."""
    context = authority.server_context(authority.issue("site", ("example.com",)))
    certs = tmp_path / "etc/certs.d/example.com"
    certs.mkdir(parents=True)
    shutil.copy(authority.cert, certs / "ca.crt")
    with Web(context) as web, Web() as proxy:
        template = "example.com https://example.com/{name}-{version}-{os}-{arch}.{ext}"
        web.files["/app"] = f'<meta name="ac-discovery" content="{template}">'.encode()
        proxy.routes["example.com:443"] = tunnel_to(web.port)
        yield web, {**os.environ, "HTTPS_PROXY": f"http://{proxy.host}"}


FILE = "/example.com/app-1-linux-amd64.aci"
VERSION = [*LABELS, {"name": "version", "value": "1"}]


def endless(_: Asked, line: Line) -> None:
    line.send(b"HTTP/1.1 200 OK\r\n\r\n")
    line.hang_up()


def cut(_: Asked, line: Line) -> None:
    line.send(b'HTTP/1.1 200 OK\r\nContent-Length: 4000\r\nETag: "1"\r\n\r\nabc')
    line.hang_up()


def shouting(_: Asked, line: Line) -> None:
    line.reply(400, b"\x1b]0;owned\x07" * 100)


def page(text: str) -> Callable[[Asked, Line], None]:
    return lambda _, line: line.reply(200, text.encode())


FOUND = [
    pytest.param(FILE, aci(A, name="example.com/other", labels=VERSION), ImageRefused, "calls itself", id="other-name"),
    pytest.param(FILE, aci(A, name="example.com/app/sub", labels=VERSION), ImageRefused, "calls itself", id="name-below"),
    pytest.param(FILE, aci(A, labels=LABELS), ImageRefused, "label 'version'", id="no-version"),
    pytest.param(FILE, aci(A, labels=[*LABELS, {"name": "version", "value": "2\x1b[31m"}]), ImageRefused, r"\x1b[31m", id="other-version"),
    pytest.param(FILE, aci(A, labels=[LABELS[0], {"name": "arch", "value": "aarch64"}, VERSION[2]]), ImageRefused, "this host is", id="other-arch"),
    pytest.param(FILE, aci(file(b"rootfs/../x"), labels=VERSION), ImageRefused, "leads out", id="dotdot"),
    pytest.param(FILE, gzip.compress(aci(A, labels=VERSION))[:-9], ImageRefused, "cut", id="truncated"),
    pytest.param(FILE, aci(A, labels=VERSION, dependencies=[{"imageName": "example.com/app", "labels": VERSION}]), ImageRefused, "depends on itself", id="ring"),
    pytest.param(FILE, shouting, Unavailable, "400", id="answer-shouts"),
    pytest.param("/app", shouting, NotFound, "", id="page-shouts"),
    pytest.param("/app", page('<meta name="ac-discovery" content="example.com file:///etc/shadow{ext}">'), InvalidSpec, "may be fetched", id="template-file"),
    pytest.param("/app", page('<meta name="ac-discovery" content="example.com https://[::1/{ext}">'), InvalidSpec, "URL", id="template-brackets"),
    pytest.param("/app", page('<meta name="ac-discovery" content="example.com http://127.0.0.1/{ext}">'), NotTrusted, "http", id="template-http"),
    pytest.param("/app", page("<meta " * 50_000), NotFound, "discovery", id="page-endless"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "answer", "error", "text"), FOUND)
def test_what_discovery_finds_is_what_was_asked_for(
    tool: Pyrkt,
    workshop: Workshop,
    site: tuple[Web, dict[str, str]],
    path: str,
    answer: bytes | Callable[[Asked, Line], None],
    error: type[PyrktError],
    text: str,
) -> None:
    web, environment = site
    if callable(answer):
        web.routes[path] = answer
    else:
        web.files[path] = answer
    ended = hostile.call(tool.argv("fetch", "example.com/app:1"), environment)
    hostile.assert_refused(ended, error, text)
    hostile.assert_nothing_stored(tool, parts=error is Unavailable)


def test_an_unsigned_image_is_not_even_fetched(tool: Pyrkt, site: tuple[Web, dict[str, str]], gpg: keys.Gpg) -> None:
    web, environment = site
    tool.insecure = ""
    trusted(tool, gpg, "signer", "example.com/app")
    web.files[FILE] = aci(A, labels=VERSION)
    hostile.assert_refused(hostile.call(tool.argv("fetch", "example.com/app:1"), environment), NotTrusted, "not signed")
    assert web.asked(FILE) == []
    web.files[f"{FILE}.asc"] = gpg.sign("stranger", web.files[FILE])
    hostile.assert_refused(hostile.call(tool.argv("fetch", "example.com/app:1"), environment), NotTrusted, "")
    hostile.assert_nothing_stored(tool)
    web.routes[f"{FILE}.asc"] = lambda _, line: line.reply(403)
    hostile.assert_refused(hostile.call(tool.argv("fetch", "example.com/app:1"), environment), NoPermission, "403")
    del web.routes[f"{FILE}.asc"]
    web.files[f"{FILE}.asc"] = gpg.sign("signer", web.files[FILE])
    assert hostile.call(tool.argv("fetch", "example.com/app:1"), environment).code == 0


def test_there_are_enough_cases() -> None:
    names = [case.id for case in (*REFUSED, *SIGNATURES, *FOUND)]
    assert len(names) >= 90
