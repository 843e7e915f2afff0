"""Which files a container gets for its names, and with what in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrkt.bundle import files
from pyrkt.bundle.options import Names, RunOptions
from pyrkt.bundle.volumes import Placed
from pyrkt.spec.runtime import Mount
from pyrkt.store.rootfs import Rootfs

POD = "8e3a5c1e-0000-4000-8000-000000000000"
STUB = b"127.0.0.1\tlocalhost web\n::1\tlocalhost ip6-localhost ip6-loopback web\n"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image with an empty /etc."""
    (tmp_path / "image/etc").mkdir(parents=True)
    return tmp_path / "image"


def chosen(image: Path, net: str, names: Names, volume: tuple[str, Path] | None = None) -> dict[str, bytes | None]:
    options = RunOptions(name="web", net=net, names=names, pod_uuid=POD)
    mounts = (Mount(destination=volume[0], type="bind", source=str(volume[1])),) if volume else ()
    found, _ = files.choose(options, "web", Rootfs((str(image),)), Placed(mounts=mounts))
    return {file.name: file.text for file in found}


GIVEN = Names(resolv="given", text="nameserver 10.0.0.9\n")


@pytest.mark.parametrize(
    ("net", "names", "image_has", "expected"),
    [
        pytest.param("none", Names(), "", None, id="none-nothing"),
        pytest.param("none", Names(), "nameserver 1.1.1.1\n", None, id="none-the-images-own-stays"),
        pytest.param("none", GIVEN, "nameserver 1.1.1.1\n", b"nameserver 10.0.0.9\n", id="none-given"),
        pytest.param("cni", Names(), "", b"", id="cni-waits"),
        pytest.param("cni", Names(), "nameserver 1.1.1.1\n", b"nameserver 1.1.1.1\n", id="cni-waits-as-the-image"),
        pytest.param("cni", GIVEN, "", b"nameserver 10.0.0.9\n", id="cni-given"),
        pytest.param("cni", Names(resolv="none"), "", None, id="cni-none"),
        pytest.param("host", GIVEN, "", b"nameserver 10.0.0.9\n", id="host-given"),
    ],
)
def test_resolv_conf(image: Path, net: str, names: Names, image_has: str, expected: bytes | None) -> None:
    if image_has:
        (image / "etc/resolv.conf").write_text(image_has)
    assert chosen(image, net, names).get("resolv.conf") == expected


def test_the_hosts_own_resolv_conf(image: Path) -> None:
    text = Path("/etc/resolv.conf").read_bytes() if Path("/etc/resolv.conf").exists() else b""
    assert chosen(image, "cni", Names(resolv="host"))["resolv.conf"] == text
    assert chosen(image, "host", Names()) == {"hosts": None, "resolv.conf": None, "hostname": None}


@pytest.mark.parametrize("net", ["none", "cni"])
def test_hosts(image: Path, net: str) -> None:
    entries = Names(hosts="given", entries=(("10.0.0.1", "db"), ("fd00::1", "cache")))
    assert chosen(image, net, Names())["hosts"] is None
    assert chosen(image, net, entries)["hosts"] == STUB + b"10.0.0.1\tdb\nfd00::1\tcache\n"
    (image / "etc/hosts").write_text("127.0.0.1 localhost\n")
    assert "hosts" not in chosen(image, net, Names()), "the image's own stays"
    assert chosen(image, net, Names(hosts="host"))["hosts"] == Path("/etc/hosts").read_bytes()


def test_a_volume_beats_the_image_but_not_a_flag_nor_the_networks(image: Path, tmp_path: Path) -> None:
    own = tmp_path / "resolv"
    own.write_text("nameserver 10.9.9.9\n")
    over = ("/etc/resolv.conf", own)
    assert chosen(image, "cni", Names(), over)["resolv.conf"] == b"nameserver 10.9.9.9\n"
    assert chosen(image, "cni", GIVEN, over)["resolv.conf"] == b"nameserver 10.0.0.9\n"
    assert "resolv.conf" not in chosen(image, "none", Names(), over)
    assert "resolv.conf" not in chosen(image, "cni", Names(resolv="none"), over)


def test_nothing_is_made_in_a_volume(image: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_text("127.0.0.1 mine\n")
    over = ("/etc", tmp_path / "etc")
    names = Names(resolv="given", text="nameserver 10.0.0.9\n", hosts="given", entries=(("10.0.0.1", "db"),))
    assert chosen(image, "cni", names, over) == {"hosts": STUB + b"10.0.0.1\tdb\n"}
    assert chosen(image, "none", Names(), over) == {}
    options = RunOptions(name="web", net="none", names=names, pod_uuid=POD)
    mounts = (Mount(destination="/etc", type="bind", source=str(tmp_path / "etc")),)
    _, told = files.choose(options, "web", Rootfs((str(image),)), Placed(mounts=mounts))
    assert told == ("the volume over /etc/resolv.conf has no such file, and none is made in it",)


def test_a_link_in_a_volume_is_not_followed(image: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    secret = tmp_path / "secret"
    secret.write_text("nameserver 10.6.6.6\n")
    (tmp_path / "etc/resolv.conf").symlink_to(secret)
    assert "resolv.conf" not in chosen(image, "cni", Names(), ("/etc", tmp_path / "etc"))


def test_a_bundle_of_its_own_has_no_hostname_file(image: Path) -> None:
    found, _ = files.choose(RunOptions(name="web"), "web", Rootfs((str(image),)), Placed())
    assert [file.name for file in found] == ["hosts"]
