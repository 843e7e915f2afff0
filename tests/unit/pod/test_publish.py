"""The ports that a pod publishes: by an app's name for them, by number, or as the manifest itself says."""

from __future__ import annotations

import pytest

from pyrkt.base.errors import UsageError
from pyrkt.net.ports import Published
from pyrkt.pod import publish
from pyrkt.spec.appc import App, ExposedPort, PodApp, PodManifest, Port

ID = "sha512-" + "ab" * 64
WWW = Port(name="www", protocol="tcp", port=80)
RANGE = Port(name="many", protocol="UDP", port=6000, count=3)


def published(manifest: PodManifest) -> tuple[Published, ...]:
    return publish.published(manifest.ports, [port for app in manifest.apps if app.app for port in app.app.ports])


def pod(*ports: ExposedPort, apps: tuple[tuple[Port, ...], ...] = ((WWW, RANGE),)) -> PodManifest:
    return PodManifest(
        apps=tuple(
            PodApp(name=f"a{number}", image_id=ID, app=App(user="0", group="0", ports=each))
            for number, each in enumerate(apps)
        ),
        ports=ports,
    )


def test_by_the_apps_name_for_it() -> None:
    (found,) = published(pod(ExposedPort(name="www", host_port=8080, host_ip="127.0.0.1")))
    assert found == Published(name="www", protocol="tcp", pod_port=80, host_port=8080, host_ip="127.0.0.1")


def test_a_range_is_each_of_its_ports() -> None:
    found = published(pod(ExposedPort(name="many", host_port=7000)))
    assert [(one.protocol, one.pod_port, one.host_port) for one in found] == [
        ("udp", 6000 + offset, 7000 + offset) for offset in range(3)
    ]


def test_what_the_pod_says_itself_beats_the_apps() -> None:
    (found,) = published(pod(ExposedPort(name="www", host_port=1, pod_port=Port(name="x", protocol="tcp", port=99))))
    assert found.pod_port == 99
    (found,) = published(pod(ExposedPort(name="8000-tcp", host_port=2), apps=((),)))
    assert found.pod_port == 8000


def test_a_name_that_two_apps_have_is_nobodys() -> None:
    both = ((WWW,), (Port(name="www", protocol="tcp", port=81),))
    with pytest.raises(UsageError, match="two apps have a port named 'www'"):
        published(pod(ExposedPort(name="www", host_port=8080), apps=both))
    # As long as it is not published, nobody has to know which one is meant.
    assert published(pod(apps=both)) == ()


@pytest.mark.parametrize(
    ("port", "problem"),
    [
        (ExposedPort(name="none", host_port=1), "no app has a port named 'none'"),
        (ExposedPort(name="many", host_port=65534), "end beyond 65535"),
        (ExposedPort(name="x", host_port=1, pod_port=Port(name="x", protocol="icmp", port=1)), "of protocol 'icmp'"),
    ],
)
def test_refuses(port: ExposedPort, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        published(pod(port))
