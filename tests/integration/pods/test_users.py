"""Users and groups of apps: by name, by number, by the owner of a file; of the image and of the user's word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.pods import Pyrkt, make_aci

pytestmark = [pytest.mark.root, pytest.mark.peers]

SHOW = "id -u; id -g; id -G"
PASSWD = "root:x:0:0::/root:/bin/sh\nuser1:x:1000:1000::/home/one:/bin/sh\n2000:x:77:78::/:/bin/sh\n"
GROUP = "root:x:0:\ngroup1:x:100:user1\n3000:x:79:\n"
FILES = {"etc/passwd": PASSWD, "etc/group": GROUP}
IMAGES: dict[str, dict[str, Any]] = {
    "root": {},
    "numbers": {"user": "1000", "group": "100"},
    "names": {"user": "user1", "group": "group1"},
    "paths": {"user": "/owned", "group": "/owned"},
    "groups": {"user": "1000", "group": "100", "supplementaryGIDs": [400, 500, 1200]},
}


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with an image for each way to name a user, and one without accounts."""
    made = Pyrkt(tmp_path_factory.mktemp("users"))
    images = [make_aci(made.base / f"{name}.aci", f"example.com/{name}", app, FILES) for name, app in IMAGES.items()]
    nobody = make_aci(made.base / "nobody.aci", "example.com/nobody", {}, {"etc/passwd": "", "etc/group": ""})
    made.ok("fetch", *map(str, (*images, nobody)))
    yield made
    assert made.clean() == []


def run(tool: Pyrkt, image: str, *flags: str, script: str = SHOW, pod: tuple[str, ...] = ()) -> list[str]:
    return tool.ok("run", *pod, f"example.com/{image}", *flags, "--exec=/bin/sh", "--", "-c", script).splitlines()


@pytest.mark.parametrize("pod", [(), ("--private-users",)], ids=["plain", "user-namespace"])
@pytest.mark.parametrize(
    ("image", "flags", "ids"),
    [
        pytest.param("root", [], ["0", "0", "0"], id="root"),
        pytest.param("numbers", [], ["1000", "100", "100"], id="numbers"),
        pytest.param("names", [], ["1000", "100", "100"], id="names"),
        pytest.param("paths", [], ["77", "78", "78"], id="paths"),
        pytest.param("root", ["--user=user1", "--group=group1"], ["1000", "100", "100"], id="names-by-flag"),
        pytest.param("names", ["--user=200", "--group=300"], ["200", "300", "300"], id="numbers-by-flag"),
        pytest.param("numbers", ["--user=/owned", "--group=/bin/sh"], ["77", "0", "0"], id="paths-by-flag"),
        pytest.param("names", ["--user=root", "--group=root"], ["0", "0", "0"], id="root-by-flag"),
        pytest.param("names", ["--user=0"], ["0", "100", "0 100"], id="user-alone-by-flag"),
        pytest.param("names", ["--user=2000", "--group=3000"], ["77", "79", "79"], id="a-name-of-digits-is-a-name"),
        pytest.param("groups", [], ["1000", "100", "100 400 500 1200"], id="supplementary"),
        pytest.param("groups", ["--supplementary-gids=7,8"], ["1000", "100", "100 7 8"], id="supplementary-by-flag"),
    ],
)
def test_who_the_app_is(tool: Pyrkt, image: str, flags: list[str], ids: list[str], pod: tuple[str, ...]) -> None:
    found = run(tool, image, *flags, pod=pod)
    # busybox leaves out or adds the group itself; what counts is the set.
    assert found[:2] == ids[:2]
    assert set(found[2].split()) - {ids[1]} == set(ids[2].split()) - {ids[1], "0"}


def test_root_needs_no_entry(tool: Pyrkt) -> None:
    assert run(tool, "nobody", "--user=root", "--group=root")[:2] == ["0", "0"]
    assert run(tool, "nobody", "--user=5", "--group=6")[:2] == ["5", "6"]


def test_in_a_user_namespace_root_is_somebody_else_outside(tool: Pyrkt) -> None:
    (line,) = run(tool, "root", script="cat /proc/self/uid_map", pod=("--private-users",))
    inside, outside, count = map(int, line.split())
    assert (inside, count) == (0, 65536)
    assert outside >= 1 << 19
    assert run(tool, "root", script="stat -c '%u %g' / /bin /owned", pod=("--private-users",)) == [
        "0 0",
        "0 0",
        "77 78",
    ]


@pytest.mark.parametrize("pod", [(), ("--private-users",)], ids=["plain", "user-namespace"])
@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--user=user2"], "user 'user2' does not exist in the image"),
        (["--group=group2"], "group 'group2' does not exist in the image"),
        (["--user=/etc/nofile"], "user '/etc/nofile': the image has no such file or directory"),
        (["--group=/etc/nofile"], "group '/etc/nofile': the image has no such file or directory"),
        (["--user=4294967295"], "user id 4294967295 is more than"),
        (["--user=-1"], "user '-1' does not exist in the image"),
    ],
)
def test_whom_the_image_does_not_know(tool: Pyrkt, flags: list[str], problem: str, pod: tuple[str, ...]) -> None:
    answer = tool.call("run", *pod, "example.com/root", *flags, "--exec=/bin/true")
    assert answer.code == 64
    assert len(answer.err.splitlines()) == 2
    assert problem in answer.err


def test_an_id_beyond_the_user_namespace_is_refused(tool: Pyrkt) -> None:
    for flags, problem in ((["--user=70000"], "user 70000"), (["--supplementary-gids=70000"], "group 70000")):
        answer = tool.call("run", "--private-users", "example.com/root", *flags, "--exec=/bin/true")
        assert answer.code == 2
        assert problem in answer.err


def test_home_and_name_are_those_of_the_image(tool: Pyrkt) -> None:
    assert run(tool, "names", script="echo $USER $LOGNAME $HOME $SHELL") == ["user1 user1 /home/one /bin/sh"]
    assert run(tool, "root", script="echo $USER $LOGNAME $HOME $SHELL") == ["root root /root /bin/sh"]
