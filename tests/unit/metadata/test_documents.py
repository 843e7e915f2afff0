"""What is served: from manifests to routes, and from routes to bytes."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import InvalidSpec
from pyrkt.metadata.documents import routes
from pyrkt.metadata.table import JSON, TEXT, Route, decode, encode
from pyrkt.pod import served
from pyrkt.spec import appc

UUID = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
ID = f"sha512-{'ab' * 64}"


def _pair(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


def _served(pod: dict[str, Any], image: dict[str, Any]) -> dict[str, Route]:
    return {each.path: each for each in routes(UUID, json.dumps(pod).encode(), {"web": json.dumps(image).encode()})}


def _app(**more: Any) -> dict[str, Any]:
    return {"name": "web", "image": {"id": ID}, **more}


def test_the_documents_as_they_are() -> None:
    pod, image = {"apps": [_app()], "annotations": [_pair("a", "1")]}, {"name": "example.com/web", "extra": 1}
    found = _served(pod, image)
    assert {path: each.kind for path, each in found.items()} == {
        "pod/annotations": JSON,
        "pod/manifest": JSON,
        "pod/uuid": TEXT,
        "apps/web/annotations": JSON,
        "apps/web/image/manifest": JSON,
        "apps/web/image/id": TEXT,
    }
    assert found["pod/manifest"].body == json.dumps(pod).encode()
    assert found["apps/web/image/manifest"].body == json.dumps(image).encode()
    assert found["pod/uuid"].body == UUID.encode()
    assert found["apps/web/image/id"].body == ID.encode()


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        pytest.param({}, None, id="absent"),
        pytest.param({"annotations": None}, None, id="null"),
        pytest.param({"annotations": []}, [], id="empty"),
        pytest.param(
            {"annotations": [_pair("b", "2"), _pair("a", "ä\n")]}, [_pair("b", "2"), _pair("a", "ä\n")], id="order"
        ),
    ],
)
def test_the_pods_annotations_are_those_of_its_manifest(pod: dict[str, Any], expected: object) -> None:
    assert json.loads(_served({"apps": [_app()], **pod}, {})["pod/annotations"].body) == expected


@pytest.mark.parametrize(
    ("image", "app", "expected"),
    [
        pytest.param([], [], [], id="none"),
        pytest.param(["a1", "b2"], [], ["a1", "b2"], id="image"),
        pytest.param([], ["b2", "a1"], ["b2", "a1"], id="pod"),
        pytest.param(["a1", "b2", "c3"], ["b9"], ["a1", "b9", "c3"], id="replaced-in-place"),
        pytest.param(["c3", "a1"], ["d4", "a9", "b2"], ["c3", "a9", "d4", "b2"], id="replaced-and-appended"),
    ],
)
def test_an_apps_annotations_are_merged(image: list[str], app: list[str], expected: list[str]) -> None:
    def pairs(words: list[str]) -> list[dict[str, str]]:
        return [_pair(word[0], word[1]) for word in words]

    found = _served({"apps": [_app(annotations=pairs(app))]}, {"annotations": pairs(image)})
    assert json.loads(found["apps/web/annotations"].body) == pairs(expected)


def test_what_is_no_manifest_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="image manifest"):
        _served({"apps": [_app()]}, {"annotations": 5})


def test_the_bytes_of_a_table() -> None:
    made = encode(UUID, "0123456789abcdef" * 2, (Route(path="pod/uuid", kind=TEXT, body=b"xyz"),))
    magic, version, zero, size, count = struct.unpack_from("<4sHHII", made)
    assert (magic, version, zero, size, count) == (b"PKMD", 1, 0, len(made), 1)
    assert made[16:48] == b"0123456789abcdef" * 2
    assert made[48:88] == UUID.encode() + bytes(4)
    assert made[88:] == struct.pack("<HHI", 8, TEXT, 3) + b"pod/uuidxyz"


ROUTES = st.builds(
    lambda path, kind, body: Route(path=path, kind=kind, body=body),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=300),
    st.sampled_from([JSON, TEXT]),
    st.binary(max_size=300),
)


@given(st.lists(ROUTES, max_size=5))
def test_a_table_is_read_back(made: list[Route]) -> None:
    assert decode(encode(UUID, "f" * 32, made)) == (UUID, "f" * 32, tuple(made))


TABLE = encode(UUID, "f" * 32, (Route(path="a", kind=JSON, body=b"null"), Route(path="b", kind=TEXT, body=b"")))


@pytest.mark.parametrize("size", range(len(TABLE)))
def test_every_cut_is_refused(size: int) -> None:
    with pytest.raises(InvalidSpec):
        decode(TABLE[:size])


@given(st.integers(0, len(TABLE) - 1), st.integers(0, 255))
def test_damage_is_read_or_refused_never_a_traceback(place: int, byte: int) -> None:
    damaged = bytearray(TABLE)
    damaged[place] = byte
    try:
        decode(bytes(damaged))
    except InvalidSpec:
        pass


def test_a_running_pod_serves_another_manifest(tmp_path: Path) -> None:
    first, second = (
        appc.PodApp(name=name, image_id=ID, app=appc.App(user="0", group="0", exec=("/x",))) for name in ("web", "db")
    )
    both, alone = appc.PodManifest(apps=(first, second)), appc.PodManifest(apps=(second,))
    texts = {name: f'{{"name":"example.com/{name}"}}'.encode() for name in ("web", "db")}
    (tmp_path / "metadata").write_bytes(served.table(UUID, "f" * 32, both, texts))
    served.renew(str(tmp_path), alone, {})
    uuid, token, found = decode((tmp_path / "metadata").read_bytes())
    assert (uuid, token, (tmp_path / "metadata").stat().st_mode & 0o777) == (UUID, "f" * 32, 0o600)
    bodies = {route.path: route.body for route in found}
    assert bodies["apps/db/image/manifest"] == texts["db"]
    assert bodies["pod/manifest"] == served.said(alone)
    assert not [path for path in bodies if path.startswith("apps/web/")]
    served.renew(str(tmp_path), both, {"web": texts["web"]})
    assert (tmp_path / "metadata").read_bytes() == served.table(UUID, "f" * 32, both, texts)
