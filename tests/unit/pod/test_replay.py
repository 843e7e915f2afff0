"""Records of pods: the same directory again, another UUID in it; and what must not be recorded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyrkt.base.dirs import ConfigDirs
from pyrkt.metadata import token as tokens
from pyrkt.metadata.address import address, url
from pyrkt.metadata.table import encode
from pyrkt.pod import replay, service
from pyrkt.pod.ask import App, Device, PodAsk, Pull, Volume
from pyrkt.pod.directory import Held, Pods

ASK = PodAsk(apps=(App(image="docker://registry.test/x"),))
TREE = "sha256-" + "a" * 64


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("images", "locks", f"trees/{TREE}/fs"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "images" / "id.json").write_text("{}")
    return tmp_path


@pytest.fixture
def pods(data: Path) -> Pods:
    return Pods(str(data))


def key(data: Path, ask: PodAsk = ASK, pull: Pull | None = None, *, detach: bool = False) -> str:
    return replay.key(ask, pull or Pull(), ConfigDirs(), str(data), detach=detach)


def made(pods: Pods) -> Held:
    pod = pods.create()
    home = Path(pod.path)
    (home / "apps/a/upper").mkdir(parents=True)
    (home / "apps/a/upper").chmod(0o1777)
    (home / "apps/a/config.json").write_text(f'{{"hostname": "pyrkt-{pod.uuid}"}}')
    (home / "apps/a/config.json").chmod(0o644)
    (home / "plan").write_bytes(b"\0\xff" + pod.uuid.encode() + b"\n\n")
    (home / "trees").write_text(f"{TREE}\n")
    token = tokens.new()
    (home / "metadata").write_bytes(encode(pod.uuid, token, ()))
    (home / "apps/a/plan").write_text(f"A={url(pod.uuid, token, host_network=False)}\n")
    (home / "created").write_text("1")
    (home / "name").write_text("web")
    return pod


def test_the_same_pod_again_with_its_own_uuid(pods: Pods, data: Path) -> None:
    first = made(pods)
    os.umask(os.umask(0o077))
    replay.keep(pods, key(data), first, ["id"], ("remark",))
    old_mask = os.umask(0o077)
    try:
        second = replay.replay(pods, key(data), str(data))
    finally:
        os.umask(old_mask)
    assert second is not None
    home = Path(second.path)
    assert second.uuid != first.uuid
    assert (home / "apps/a/config.json").read_text() == f'{{"hostname": "pyrkt-{second.uuid}"}}'
    assert (home / "apps/a/config.json").stat().st_mode & 0o777 == 0o644
    assert (home / "plan").read_bytes() == b"\0\xff" + second.uuid.encode() + b"\n\n"
    assert (home / "apps/a/upper").stat().st_mode & 0o7777 == 0o1777
    assert int((home / "created").read_text()) > 10**18
    assert not (home / "name").exists()
    for pod in (first, second):
        os.close(pod.descriptor)


def test_another_token_and_address_and_none_in_the_record(pods: Pods, data: Path) -> None:
    first = made(pods)
    replay.keep(pods, key(data), first, ["id"], ())
    second = replay.replay(pods, key(data), str(data))
    assert second is not None
    old, new = (service.token(pod.path) for pod in (first, second))
    assert len({old, new, ""}) == 3
    assert Path(second.path, "metadata").read_bytes() == encode(second.uuid, new, ())
    assert Path(second.path, "apps/a/plan").read_text() == f"A={url(second.uuid, new, host_network=False)}\n"
    record = Path(pods.root, "cache", key(data)).read_bytes()
    for secret in (old, new, first.uuid, address(first.uuid)):
        assert secret.encode() not in record
    for pod in (first, second):
        os.close(pod.descriptor)


@pytest.mark.parametrize("damage", ["", "PKMD"])
def test_a_pod_whose_token_is_not_known_is_not_recorded(pods: Pods, data: Path, damage: str) -> None:
    first = made(pods)
    Path(first.path, "metadata").write_text(damage)
    replay.keep(pods, key(data), first, ["id"], ())
    assert not Path(pods.root, "cache").exists()
    os.close(first.descriptor)


def test_what_looks_like_a_mark_is_not_recorded(pods: Pods, data: Path) -> None:
    for mark in replay.STAND_INS:
        first = made(pods)
        Path(first.path, "apps/a/other").write_bytes(mark)
        replay.keep(pods, key(data), first, ["id"], ())
        assert not Path(pods.root, "cache").exists()
        os.close(first.descriptor)


def test_a_record_that_was_cut_is_none(pods: Pods, data: Path) -> None:
    first = made(pods)
    replay.keep(pods, key(data), first, [], ())
    record = Path(pods.root, "cache", key(data))
    whole = record.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 3):
        record.write_bytes(whole[:length])
        assert replay.replay(pods, key(data), str(data)) is None
    os.close(first.descriptor)


def test_no_record_where_a_tree_is_gone(pods: Pods, data: Path) -> None:
    first = made(pods)
    replay.keep(pods, key(data), first, [], ())
    (data / "trees" / TREE / "fs").rmdir()
    assert replay.replay(pods, key(data), str(data)) is None
    os.close(first.descriptor)


def test_what_begins_with_data_of_the_image_is_not_recorded(pods: Pods, data: Path) -> None:
    first = made(pods)
    Path(first.path, "apps/a/volumes/0-x").mkdir(parents=True)
    replay.keep(pods, key(data), first, [], ())
    assert replay.replay(pods, key(data), str(data)) is None
    os.close(first.descriptor)


def test_the_key_knows_what_was_asked_and_what_is_stored(data: Path) -> None:
    first = key(data)
    assert first == key(data) != ""
    assert key(data, ASK.replace(hostname="x")) != first
    assert key(data, ASK.replace(name="web")) == first
    assert key(data, detach=True) != first
    assert key(data, pull=Pull(policy="never")) != first
    (data / "images" / "other.json").write_text("{}")
    os.utime(data / "images", ns=(1, 1))
    assert key(data) != first


def test_what_cannot_be_used_again_is_removed(pods: Pods, data: Path) -> None:
    first = made(pods)
    old, other = key(data), key(data, ASK.replace(hostname="other"))
    for name in (old, other):
        replay.keep(pods, name, first, [], ())
    (Path(pods.root) / "cache" / "of-another-version").write_text("SECRET")
    replay.sweep(pods)
    assert replay.replay(pods, other, str(data)) is not None
    (data / "images" / "id.json").unlink()
    os.utime(data / "images", ns=(1, 1))
    replay.sweep(pods)
    assert os.listdir(f"{pods.root}/cache") == []
    assert replay.replay(pods, old, str(data)) is None


@pytest.mark.parametrize(
    ("ask", "pull"),
    [
        pytest.param(ASK.replace(net="host"), Pull(), id="host-network-has-the-hosts-files"),
        pytest.param(ASK.replace(private_users=True), Pull(), id="range-of-ids"),
        pytest.param(ASK.replace(overlay=False), Pull(), id="copied-tree"),
        pytest.param(ASK.replace(inherited=("A=1",)), Pull(), id="environment"),
        pytest.param(ASK.replace(env=("TOKEN=1",)), Pull(), id="set-env"),
        pytest.param(ASK.replace(apps=(ASK.apps[0].replace(environment=("TOKEN=1",)),)), Pull(), id="app-environment"),
        pytest.param(ASK, Pull(policy="update"), id="update"),
        pytest.param(ASK, Pull(decryption_keys=("k",)), id="keys"),
        pytest.param(
            PodAsk(apps=(App(image="docker://x", devices=(Device(path="/dev/null", target="/dev/null"),)),)),
            Pull(),
            id="device",
        ),
        pytest.param(
            ASK.replace(volumes=(Volume(name="v", kind="host", source="/no/such"),)), Pull(), id="missing-source"
        ),
        pytest.param(
            ASK.replace(volumes=(Volume(name="v", kind="host", source="/proc/self"),)), Pull(), id="linked-source"
        ),
    ],
)
def test_what_is_never_recorded(data: Path, ask: PodAsk, pull: Pull) -> None:
    assert key(data, ask, pull) == ""


def test_a_file_named_like_the_image_makes_another_key(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ask = PodAsk(apps=(App(image="example.com"),))
    first = key(data, ask)
    (tmp_path / "example.com").write_text("x")
    second = key(data, ask)
    monkeypatch.chdir("/")
    assert len({first, second, key(data, ask)}) == 3
    assert key(data) == key(data) != ""
