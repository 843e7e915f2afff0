"""root: where it may be, that it is the whole of what the container sees, and that readonly holds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support import mounts, oci

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.mark.parametrize("form", ["relative", "absolute", "dots", "link", "mount"])
def test_the_root_may_be_named_in_any_way(runtime: Runtime, box: Bundle, tmp_path: Path, form: str) -> None:
    (box.rootfs / "mark").write_text("here\n")
    link = tmp_path / "a link: with, odd\\letters"
    link.symlink_to(box.rootfs)
    box.config["root"]["path"] = {
        "relative": "./rootfs/",
        "absolute": str(box.rootfs),
        "dots": "x/../../bundle/rootfs",
        "link": str(link),
        "mount": str(tmp_path / "mount"),
    }[form]
    if form != "mount":
        answer = runtime.run(box.runs("cat", "/mark").path)
    else:
        with mounts.mounted(tmp_path / "mount", "--bind", str(box.rootfs)):
            answer = runtime.run(box.runs("cat", "/mark").path)
    assert answer.out == "here\n", answer.err


@pytest.mark.parametrize("readonly", [True, False])
def test_readonly_is_of_the_root_and_of_nothing_on_it(runtime: Runtime, box: Bundle, readonly: bool) -> None:
    box.config["root"]["readonly"] = readonly
    mounts.add_tmpfs(box, "/tmp")
    script = "touch /x && echo writable; touch /tmp/x && echo tmp; echo x > /dev/shm/x && echo shm"
    answer = runtime.run(box.script(script).path)
    assert answer.out.split() == ([] if readonly else ["writable"]) + ["tmp", "shm"]
    assert (box.rootfs / "x").exists() == (not readonly)
    # of the container's view, not of the host's directory
    (box.rootfs / "y").touch()


@pytest.mark.parametrize(
    ("path", "text"),
    [("/", "host's root cannot be"), ("no/such", "no such file or directory"), ("config.json", "not a directory")],
)
def test_a_root_that_cannot_be_one_is_refused(runtime: Runtime, box: Bundle, path: str, text: str) -> None:
    box.config["root"]["path"] = path
    answer = runtime.run(box.runs("true").path)
    assert answer.code == 1
    assert text in answer.err.lower()
    assert answer.err.count("\n") == 1


def test_mounts_below_the_root_come_along(runtime: Runtime, box: Bundle) -> None:
    with mounts.mounted(box.rootfs / "var") as volume:
        (volume / "file").write_text("below\n")
        assert runtime.run(box.runs("cat", "/var/file").path).out == "below\n"


def test_nothing_of_the_host_is_in_sight(runtime: Runtime, box: Bundle) -> None:
    answer = runtime.run(box.script("cat /proc/self/mountinfo; ls -a / /..").path)
    found = mounts.seen(answer.out)
    assert str(box.path) not in "".join(point for point in found)
    assert all(point == "/" or point.split("/")[1] in {"proc", "dev", "sys"} for point in found)
    before, after = answer.out.split("/:\n")[1].split("/..:\n")
    assert before.strip() == after.strip()


def test_each_state_root_has_containers_of_its_own(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    other = oci.ours(tmp_path / "other")
    (tmp_path / "other").mkdir()
    names = runtime.new_id(), other.new_id()
    for one, name in zip((runtime, other), names, strict=True):
        box.config["linux"]["cgroupsPath"] = f"/{name}"
        answer = one.detached("run", "-d", "-b", str(box.runs("sleep", "300").path), name)
        assert answer.code == 0, answer.err
    assert runtime.state(names[0])["status"] == other.state(names[1])["status"] == "running"
    assert runtime.call("state", names[1]).code == other.call("state", names[0]).code == 1
    other.clean()
    assert runtime.state(names[0])["status"] == "running"
    assert os.listdir(other.root) == []
