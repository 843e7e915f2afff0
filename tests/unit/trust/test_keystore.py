"""The trust store: whose key covers which name, what masks what, and what is reported."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pysequoia
import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.base.errors import CannotCreate, NotFound, UsageError
from pyrkt.trust.keystore import Keystore

ALICE, BOB = (pysequoia.Tsk.generate(name).extract_certificate() for name in ("Alice", "Bob"))
SECRET = pysequoia.Tsk.generate("Secret")
LAYERS = ("usr", "etc", "home")


@pytest.fixture
def dirs(tmp_path: Path) -> ConfigDirs:
    return ConfigDirs(
        **{name: str(tmp_path / layer) for name, layer in zip(("system", "local", "user"), LAYERS, strict=True)}
    )


def put(tmp_path: Path, layer: str, scope: str, content: bytes | str, name: str = ALICE.fingerprint) -> Path:
    path = tmp_path / layer / "trustedkeys" / scope / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("scope", "name", "covered"),
    [
        pytest.param("root.d", "example.com/app", True, id="root"),
        pytest.param("prefix.d/example.com", "example.com/app", True, id="host"),
        pytest.param("prefix.d/example.com/app", "example.com/app", True, id="itself"),
        pytest.param("prefix.d/example.com/app", "example.com/app/tool", True, id="below"),
        pytest.param("prefix.d/example.com/app", "example.com/app2", False, id="longer-word"),
        pytest.param("prefix.d/example.com/app", "example.com/ap", False, id="shorter-word"),
        pytest.param("prefix.d/example.com/app", "example.com/app-x", False, id="dashed-word"),
        pytest.param("prefix.d/example.com/app", "example.com", False, id="above"),
        pytest.param("prefix.d/example.com", "example.com.test/app", False, id="longer-host"),
        pytest.param("prefix.d/example.com", "sub.example.com/app", False, id="subdomain"),
        pytest.param("prefix.d/example.com", "../example.com", False, id="no-name"),
        pytest.param("prefix.d/example.com", "example.com/../x", False, id="dots"),
        pytest.param("root.d", "../example.com", True, id="no-name-but-root"),
    ],
)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_prefix_covers_whole_components(
    tmp_path: Path, dirs: ConfigDirs, scope: str, name: str, covered: bool, layer: str
) -> None:
    put(tmp_path, layer, scope, str(ALICE))
    found = Keystore(dirs).keys_for(name)
    assert [key.fingerprint for key in found] == ([ALICE.fingerprint] if covered else [])


@pytest.mark.parametrize(
    ("files", "trusted"),
    [
        pytest.param([("usr", "key"), ("etc", "")], False, id="local-masks-system"),
        pytest.param([("usr", ""), ("etc", "key")], True, id="local-restores"),
        pytest.param([("etc", "key"), ("home", "")], False, id="user-masks-local"),
        pytest.param([("usr", ""), ("etc", ""), ("home", "key")], True, id="user-restores"),
        pytest.param([("usr", "key"), ("etc", "garbage")], False, id="garbage-hides-what-it-stands-over"),
        pytest.param([("usr", "garbage"), ("etc", "key")], True, id="garbage-below"),
    ],
)
def test_layers(tmp_path: Path, dirs: ConfigDirs, files: list[tuple[str, str]], trusted: bool) -> None:
    for layer, content in files:
        put(tmp_path, layer, "root.d", str(ALICE) if content == "key" else content)
    assert bool(Keystore(dirs).keys_for("example.com/app")) is trusted


def test_a_mask_at_a_prefix_takes_root_keys_away_below_it(tmp_path: Path, dirs: ConfigDirs) -> None:
    put(tmp_path, "usr", "root.d", str(ALICE))
    put(tmp_path, "etc", "prefix.d/example.com/app", "")
    store = Keystore(dirs)
    assert store.keys_for("example.com/other")
    assert not store.keys_for("example.com/app/x")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        pytest.param(BOB.fingerprint, str(ALICE), "fingerprint mismatch", id="other-key"),
        pytest.param(ALICE.fingerprint.upper(), str(ALICE), "not named by a fingerprint", id="upper-case"),
        pytest.param("key.asc", str(ALICE), "not named by a fingerprint", id="name"),
        pytest.param(ALICE.fingerprint, "garbage", "not an OpenPGP public key", id="garbage"),
        pytest.param(ALICE.fingerprint, str(SECRET), "private key", id="private"),
        pytest.param(ALICE.fingerprint, str(ALICE) + str(BOB), "found 2", id="two-keys"),
    ],
)
def test_unusable_files_are_reported_and_hide_no_other(
    tmp_path: Path, dirs: ConfigDirs, capfd: pytest.CaptureFixture[str], name: str, content: str, problem: str
) -> None:
    put(tmp_path, "etc", "root.d", content, name)
    put(tmp_path, "etc", "prefix.d/example.com", str(BOB), BOB.fingerprint)
    store = Keystore(dirs)
    assert [key.fingerprint for key in store.keys_for("example.com/app")] == [BOB.fingerprint]
    assert problem in capfd.readouterr().err
    assert len(store.problems()) == 1
    assert problem in store.problems()[0]


def test_a_file_that_anybody_may_write_is_no_key(tmp_path: Path, dirs: ConfigDirs) -> None:
    put(tmp_path, "etc", "root.d", str(ALICE)).chmod(0o666)
    store = Keystore(dirs)
    assert store.all() == ()
    assert "anybody may write it" in store.problems()[0]


def test_a_pipe_does_not_stop_us(tmp_path: Path, dirs: ConfigDirs) -> None:
    path = put(tmp_path, "etc", "root.d", "")
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in Keystore(dirs).problems()[0]


def test_add_writes_what_everybody_may_read(tmp_path: Path) -> None:
    store = Keystore(ConfigDirs(system=str(tmp_path / "usr"), local=str(tmp_path / "etc")))
    before = os.umask(0o077)
    try:
        path = store.add(str(ALICE).encode(), "example.com/app")
    finally:
        os.umask(before)
    assert path == tmp_path / "etc/trustedkeys/prefix.d/example.com/app" / ALICE.fingerprint
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    for directory in path.relative_to(tmp_path).parents:
        if directory != Path():
            assert stat.S_IMODE((tmp_path / directory).stat().st_mode) == 0o755
    assert store.keys_for("example.com/app/x")[0].path == path
    assert os.listdir(path.parent) == [ALICE.fingerprint]


def test_add_armours_a_binary_key(tmp_path: Path) -> None:
    store = Keystore(ConfigDirs(system=str(tmp_path / "usr"), local=str(tmp_path / "etc")))
    path = store.add(bytes(ALICE), None, root=True)
    assert path.read_bytes().startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----")
    assert [(key.prefix, key.fingerprint) for key in store.all()] == [("", ALICE.fingerprint)]


@pytest.mark.parametrize(
    ("key", "prefix", "root", "problem"),
    [
        pytest.param(str(SECRET), None, True, "private key", id="private"),
        pytest.param(bytes(SECRET), None, True, "private key", id="private-binary"),
        pytest.param("x", None, True, "not an OpenPGP public key", id="garbage"),
        pytest.param("", None, True, "not an OpenPGP public key", id="empty"),
        pytest.param(bytes(ALICE) + bytes(BOB), None, True, "found 2", id="two"),
        pytest.param(str(ALICE), None, False, "either a prefix or root", id="neither"),
        pytest.param(str(ALICE), "example.com", True, "either a prefix or root", id="both"),
        pytest.param(str(ALICE), "../x", False, "not an appc name", id="dots"),
        pytest.param(str(ALICE), "/etc", False, "not an appc name", id="absolute"),
        pytest.param(str(ALICE), "Example.com", False, "not an appc name", id="capitals"),
    ],
)
def test_add_refuses(
    tmp_path: Path, dirs: ConfigDirs, key: str | bytes, prefix: str | None, root: bool, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        Keystore(dirs).add(key.encode() if isinstance(key, str) else key, prefix, root)
    assert list(tmp_path.iterdir()) == []


def test_add_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file")
    with pytest.raises(CannotCreate, match="cannot write"):
        Keystore(ConfigDirs(local=str(tmp_path / "etc"))).add(bytes(ALICE), None, root=True)


def test_remove(tmp_path: Path) -> None:
    dirs = ConfigDirs(system=str(tmp_path / "usr"), local=str(tmp_path / "etc"))
    store = Keystore(dirs)
    put(tmp_path, "usr", "root.d", str(ALICE))
    store.add(bytes(ALICE), "example.com/app")
    store.add(bytes(BOB), "example.com/app")
    spelled = " ".join(ALICE.fingerprint[at : at + 4] for at in range(0, 40, 4)).upper()
    changed = store.remove(spelled)
    assert [path.relative_to(tmp_path / "etc/trustedkeys").as_posix().rpartition("/")[0] for path in changed] == [
        "root.d",
        "prefix.d/example.com/app",
    ]
    assert [key.fingerprint for key in store.all()] == [BOB.fingerprint]
    assert (tmp_path / "etc/trustedkeys/root.d" / ALICE.fingerprint).read_bytes() == b""  # masks the system's
    with pytest.raises(NotFound):
        store.remove(ALICE.fingerprint)
    with pytest.raises(NotFound):
        store.remove(BOB.fingerprint, "example.com")


def test_remove_only_where_asked(tmp_path: Path, dirs: ConfigDirs) -> None:
    store = Keystore(dirs)
    store.add(bytes(ALICE), None, root=True)
    store.add(bytes(ALICE), "example.com")
    store.remove(ALICE.fingerprint, "example.com")
    assert [key.prefix for key in store.all()] == [""]
