"""What was asked of a mutable pod, written and read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyrkt.base.errors import InvalidSpec
from pyrkt.pod import kept
from pyrkt.pod.ask import App, Mount, Names, PodAsk, Port, Volume

if TYPE_CHECKING:
    from pathlib import Path

ASK = PodAsk(
    apps=(App(image="i", args=("a", "b\udcff"), mounts=(Mount(volume="v", target="/t", own=None),), caps_retain=()),),
    volumes=(Volume(name="v", kind="empty", mode=0o700, read_only=True),),
    names=Names(resolv="given", text="nameserver 10.0.0.1\n", entries=(("10.0.0.2", "db"),)),
    insecure=frozenset({"paths", "seccomp"}),
    ports=(Port(name="www", host_port=80, pod_port=8080, protocol="tcp"),),
    annotations=(("a/b", "c"),),
    is_mutable=True,
)


@pytest.mark.parametrize("ask", [ASK, PodAsk(apps=())])
def test_it_comes_back_as_it_was(tmp_path: Path, ask: PodAsk) -> None:
    kept.write(str(tmp_path), ask)
    assert kept.read(str(tmp_path)) == ask
    assert (tmp_path / kept.FILE).stat().st_mode & 0o777 == 0o600


def test_a_pod_without_it_takes_no_apps(tmp_path: Path) -> None:
    assert kept.read(str(tmp_path)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"record": "App", "image": "x"}',
        '{"record": "PodAsk", "apps": [], "unheard": 1}',
        '{"record": "Any", "apps": []}',
        '{"record": "values"}',
    ],
)
def test_one_that_is_damaged_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / kept.FILE).write_text(text)
    with pytest.raises(InvalidSpec):
        kept.read(str(tmp_path))
