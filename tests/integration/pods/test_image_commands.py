"""Commands on images as rkt's users know them: short ids, lists, sizes, and images that go while pods use them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pods import Pyrkt, end, make_aci, sha512, wait_for

pytestmark = [pytest.mark.root, pytest.mark.peers]


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[Pyrkt]:
    """An empty store; checks at the end that nothing of a pod stayed."""
    made = Pyrkt(tmp_path)
    made.data.mkdir(mode=0o700)
    yield made
    assert made.clean() == []


def listed(tool: Pyrkt) -> list[dict[str, Any]]:
    found = json.loads(tool.ok("image", "list", "--format=json"))
    assert isinstance(found, list)
    return found


def test_two_ids_that_begin_alike(tool: Pyrkt, tmp_path: Path) -> None:
    """Images are made until the ids of two begin with the same two digits, the fewest that may be given."""
    seen: dict[str, str] = {}
    for number in range(200):
        identity = tool.ok(
            "fetch", "--full", str(make_aci(tmp_path / f"{number}.aci", f"example.com/n{number}"))
        ).strip()
        if (short := identity[:9]) in seen:
            break
        seen[short] = identity
    else:
        pytest.fail("200 ids that begin differently")
    answer = tool.call("image", "cat-manifest", short)
    assert answer.code == 2
    assert "could be any of 2 images" in answer.err
    for whole in (identity, seen[short]):
        longer = whole[: next(n for n in range(10, 140) if identity[:n] != seen[short][:n])]
        name = json.loads(tool.ok("image", "cat-manifest", longer))["name"]
        assert name == json.loads(tool.ok("image", "cat-manifest", whole))["name"]
    answer = tool.call("image", "cat-manifest", short[:8])
    assert answer.code == 2
    assert tool.call("run", f"sha512-{'0' * 64}").code == 66


def test_the_list_in_json_has_what_rkts_has(tool: Pyrkt, tmp_path: Path) -> None:
    path = make_aci(tmp_path / "box.aci")
    identity = tool.ok("fetch", "--full", str(path)).strip()
    (entry,) = listed(tool)
    assert entry["id"] == identity
    assert entry["name"] == "example.com/box"
    # nanoseconds, as rkt has them
    assert entry["last_used_time"] >= entry["import_time"] > 1_600_000_000 * 10**9
    tool.ok("image", "export", identity, str(tmp_path / "plain.aci"))
    assert identity == f"sha512-{sha512(tmp_path / 'plain.aci')}"
    # what is kept: the file as it came, and its tree
    assert entry["size"] == path.stat().st_size + (tmp_path / "plain.aci").stat().st_size
    before = entry["last_used_time"]
    tool.ok("run", identity, "--exec=/bin/true")
    assert listed(tool)[0]["last_used_time"] > before


def test_an_image_for_no_system_in_particular_runs_and_one_for_another_does_not(tool: Pyrkt, tmp_path: Path) -> None:
    version = {"name": "version", "value": "1"}
    anywhere = make_aci(tmp_path / "anywhere.aci", "example.com/anywhere", labels=[version])
    assert tool.ok("run", str(anywhere), "--exec=/bin/echo", "--", "here") == "here\n"
    for name, labels in (
        ("os", [{"name": "os", "value": "freebsd"}, {"name": "arch", "value": "amd64"}]),
        ("arch", [{"name": "os", "value": "linux"}, {"name": "arch", "value": "aarch64"}]),
    ):
        other = make_aci(tmp_path / f"{name}.aci", f"example.com/{name}", labels=[version, *labels])
        for verb in ("run", "fetch"):
            answer = tool.call(verb, str(other))
            assert answer.code == 65
            assert f"is for {name} " in answer.err
    wrong = make_aci(tmp_path / "wrong.aci", "example.com/wrong", labels=[{"name": "os", "value": "beos"}])
    assert tool.call("run", str(wrong)).code == 64
    assert len(listed(tool)) == 1


def test_an_image_may_go_while_its_pod_runs(tool: Pyrkt, tmp_path: Path) -> None:
    image = str(make_aci(tmp_path / "box.aci"))
    script = "echo ready; read -r _; cat /etc/passwd"
    process = tool.popen("run", "--interactive=false", image, "--", "-c", script, stdin=-1)
    try:
        wait_for(process, b"ready")
        identity = listed(tool)[0]["id"]
        tool.ok("image", "rm", identity)
        tool.ok("image", "gc", "--all")
        assert listed(tool) == []
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
        wait_for(process, b"root:x:0:0")
        assert end(process) == 0
    finally:
        end(process)


def test_a_rendered_tree_is_there_from_the_fetch_on(tool: Pyrkt, tmp_path: Path) -> None:
    tool.ok("fetch", str(make_aci(tmp_path / "box.aci")))
    (seed,) = tool.data.glob("trees/*/fs/etc/passwd")
    before = seed.stat().st_ino
    identity = listed(tool)[0]["id"]
    tool.ok("run", "--pull-policy=never", identity, "--exec=/bin/true")
    (seed,) = tool.data.glob("trees/*/fs/etc/passwd")
    assert seed.stat().st_ino == before
