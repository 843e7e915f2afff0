"""An ordinary user's pyrkt: with one id and with a range of them, and in places that may do even less."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import oci
from tests.support.pods import Pyrkt
from tests.support.skopeo import Layout, Member, busybox_root
from tests.support.user import RANGE, UID, User, installed, ordinary

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

APPLETS = ("cat", "chmod", "chown", "echo", "id", "ls", "mkdir", "sleep", "stat", "su", "touch")
CAPABILITY = "\x01\0\0\x02\0\x04" + "\0" * 14
LOWER = [
    *busybox_root(),
    *(Member(name=f"bin/{name}", link="busybox") for name in APPLETS),
    Member(name="etc/passwd", data=b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n", mode=0o644),
    Member(name="home/", more={"uid": 1000, "gid": 1000}),
    Member(name="home/file", data=b"of uid 1000\n", mode=0o600, more={"uid": 1000, "gid": 1000}),
    Member(name="far", data=b"of uid 200000\n", mode=0o644, more={"uid": 200000, "gid": 200000}),
    Member(name="shut", data=b"of mode 0\n", mode=0),
    Member(name="shutters/", mode=0),
    Member(name="shutters/file", data=b"below mode 0\n", mode=0o400),
    Member(name="dev/sda", mode=0o660, more={"type": tarfile.BLKTYPE, "devmajor": 8}),
    Member(name="dev/null", mode=0o666, more={"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
    Member(name="pipe", more={"type": tarfile.FIFOTYPE}),
    Member(name="able", data=b"x", more={"pax_headers": {"SCHILY.xattr.security.capability": CAPABILITY}}),
    Member(name="covered/"),
    Member(name="covered/old", data=b"x"),
    Member(name="gone", data=b"x"),
]
UPPER = [
    Member(name="covered/"),
    Member(name="covered/.wh..wh..opq"),
    Member(name="covered/new"),
    Member(name=".wh.gone"),
]
NOWHERE = (
    "unshare",
    "-Ur",
    "sh",
    "-c",
    'for f in /proc/sys/user/max_*_namespaces; do echo 0 >"$f"; done; exec "$@"',
    "sh",
)
"""A place that may create no namespaces: the limits of a user namespace bind what is below it, and nothing else."""
WEAK = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
NO_LIMITS = "no cgroup is delegated to this user"


@pytest.fixture(scope="module")
def layout() -> Iterator[str]:
    """An image with everything in it that an ordinary user cannot have."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="pyrkt-test-layout-") as directory:
        os.chmod(directory, 0o755)
        Layout(path=Path(directory, "l")).image([LOWER, UPPER], tag="odd")
        yield f"oci:{directory}/l:odd"


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    with installed() as found:
        yield found


@pytest.fixture(scope="module", params=[False, True], ids=["one-id", "subordinate-ids"])
def user(request: pytest.FixtureRequest, programs: Path, layout: str) -> Iterator[User]:
    with ordinary(programs, ranges=request.param) as made:
        answer = made.call("fetch", layout)
        # What an ordinary user cannot have of an image is no news to him.
        assert (answer.code, answer.err) == (0, "")
        yield made
        left = made.clean()
    assert left == []


def has_ranges(user: User) -> bool:
    return bool((user.etc / "subuid").read_text())


def test_the_ids_of_the_container(user: User, layout: str) -> None:
    found = user.ok("run", layout, "--", "sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/gid_map").split()
    first, size = RANGE
    more = ["1", str(first), str(size)] if has_ranges(user) else []
    assert found == ["0", "0", str(UID), "1", *more, "0", str(UID), "1", *more]


@pytest.mark.parametrize("how", [(), ("--no-overlay",)], ids=["overlay", "copied"])
def test_an_image_with_what_he_cannot_have(user: User, layout: str, how: tuple[str, ...]) -> None:
    script = "cat /home/file /far /shut /shutters/file; ls /covered /gone; echo x >/dev/null && touch /new && id -u"
    answer = user.call("run", *how, layout, "--", "sh", "-c", script)
    assert answer.out.splitlines() == [
        "of uid 1000",
        "of uid 200000",
        "of mode 0",
        "below mode 0",
        "/covered:",
        "new",
        "0",
    ]
    assert answer.err.splitlines() == ["ls: /gone: No such file or directory"]


def test_another_user_of_the_container(user: User, layout: str) -> None:
    answer = user.call("run", layout, "--user=web", "--group=1000", "--", "id", "-u")
    if has_ranges(user):
        assert (answer.code, answer.out, answer.err) == (0, "1000\n", "")
    else:
        assert answer.code not in (0, 1)
        assert len(answer.err.splitlines()) == 2  # the error, the hint


def test_what_others_of_the_container_leave_is_removed(user: User, layout: str) -> None:
    if not has_ranges(user):
        answer = user.call("run", layout, "--", "chown", "1000:1000", "/far")
        assert (answer.code, answer.err) == (1, "chown: /far: Invalid argument\n")
        return
    script = 'mkdir -p /x/y && chown -R 1000:1000 /x && su web -c "touch /x/y/file" && chmod 700 /x/y && chmod 700 /x'
    for how in ((), ("--no-overlay",)):
        user.ok("run", *how, layout, "--", "sh", "-c", script)
    for pod in user.pods():
        answer = user.call("rm", pod["name"])
        assert (answer.code, answer.err) == (0, "")
    assert user.pods() == []


def test_one_line_says_that_there_are_no_limits(user: User, layout: str) -> None:
    for _ in range(2):  # the second comes from a record
        answer = user.call("run", layout, "--memory=64Mi", "--pids-limit=20", "--", "echo", "ran")
        assert (answer.code, answer.out) == (0, "ran\n")
        (line,) = answer.err.splitlines()
        assert NO_LIMITS in line


def test_the_life_of_a_pod(user: User, layout: str) -> None:
    uuid = user.ok("run", "-d", "--name=life", layout, "--", "sleep", "600").strip()
    status = user.pod("life")
    assert (status["name"], status["state"]) == (uuid, "running")
    assert json.loads(Path(status["apps"][0]["bundle"], "config.json").read_text())["ociVersion"]
    assert "cgroups" not in status["apps"][0]
    user.ok("stop", uuid)
    assert user.pod(uuid)["state"] == "exited"
    user.ok("export", "--bundle", uuid, str(user.base / "exported"))
    assert (user.base / "exported/rootfs/bin/busybox").exists()
    user.ok("rm", uuid)
    assert user.call("status", uuid).code == 66
    prepared = user.ok("prepare", layout, "--", "echo", "prepared").strip()
    assert user.ok("run-prepared", prepared) == "prepared\n"
    user.ok("gc", "--grace-period=0")
    assert user.pods() == []


def test_images(user: User, layout: str) -> None:
    (image,) = json.loads(user.ok("image", "list", "--format=json"))
    uid = image["id"]
    assert json.loads(user.ok("image", "cat-manifest", uid))["schemaVersion"] == 2
    user.ok("image", "verify", uid)
    user.ok("image", "export", uid, str(user.base / "image.tar"))
    user.ok("image", "render", uid, str(user.base / "rendered"))
    assert (user.base / "rendered/rootfs/far").read_text() == "of uid 200000\n"
    assert user.ok("plan", "--hash", layout).startswith("sha256:")
    user.ok("image", "gc")


@pytest.mark.parametrize("runtime", ["pyrkt-oci", "runc"])
def test_a_bundle_runs_by_any_runtime(user: User, layout: str, runtime: str) -> None:
    bundle = user.base / f"bundle-{runtime}"
    user.ok("image", "unpack", layout, str(bundle))
    assert user.ok("plan", "--hash", str(bundle)).startswith("sha256:")
    program = user.bin / runtime if runtime == "pyrkt-oci" else shutil.which(runtime)
    assert program, f"needs {runtime}"
    answer = user.runs(program, "run", "--bundle", bundle, f"pyrkt-test-{UID}", stdin=None, input="id -u; cat /far\n")
    assert (answer.code, answer.out) == (0, "0\nof uid 200000\n"), answer.err


def test_the_example_of_a_rootless_bundle_runs(user: User, layout: str) -> None:
    bundle = user.base / "example"
    user.ok("image", "unpack", layout, str(bundle))
    for name in ("config.json", "runtime.json"):
        (bundle / name).unlink()
    assert user.runs(user.bin / "pyrkt-oci", "spec", "--rootless", "--bundle", bundle).code == 0
    config = json.loads((bundle / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/bin/id", "-u"]}
    config["root"]["readonly"] = True
    (bundle / "config.json").write_text(json.dumps(config))
    answer = user.runs(user.bin / "pyrkt-oci", "run", "--bundle", bundle, f"pyrkt-test-{UID}")
    assert (answer.code, answer.out, answer.err) == (0, "0\n", "")


def test_doctor(user: User) -> None:
    answer = user.call("doctor", "--format=json")
    facts = {fact["name"]: fact for fact in json.loads(answer.out)}
    assert answer.code == 0
    assert facts["user namespaces"]["verdict"] == facts["overlayfs in user namespaces"]["verdict"] == "ok"
    assert facts["subordinate ids"]["verdict"] == ("ok" if has_ranges(user) else "limited")
    assert facts["controller memory"]["verdict"] == "limited"
    assert all(fact["remedy"] for fact in facts.values() if fact["verdict"] != "ok")


def test_without_new_privileges_there_is_one_id(user: User, layout: str) -> None:
    user.place = ("setpriv", "--no-new-privs")
    try:
        found = user.ok("run", layout, "--", "cat", "/proc/self/uid_map")
    finally:
        user.place = ()
    assert found.split() == ["0", str(UID), "1"]


def test_root_of_a_namespace_with_one_id(user: User, layout: str) -> None:
    """As ``unshare -r`` makes it: everything is as for the user outside, who has the same store."""
    user.place = ("unshare", "-Ur")
    try:
        answer = user.call("run", layout, "--memory=64Mi", "--", "sh", "-c", "id -u; cat /far")
        assert (answer.code, answer.out) == (0, "0\nof uid 200000\n")
        assert NO_LIMITS in answer.err
    finally:
        user.place = ()


def test_a_place_that_may_not_create_namespaces(user: User, layout: str) -> None:
    user.place = NOWHERE
    try:
        user.ok("fetch", "--pull-policy=update", layout)
        user.ok("image", "unpack", layout, str(user.base / "nowhere"))
        assert json.loads((user.base / "nowhere/config.json").read_text())["ociVersion"]
        assert user.ok("plan", layout).count("\n") > 50
        answer = user.call("run", layout, "--", "true")
        assert (answer.code, answer.out) == (125, "")
        error, hint = answer.err.splitlines()
        assert "making the namespaces" in error
        assert "hint:" in hint
        assert user.call("doctor").code == 1
        user.ok("gc", "--grace-period=0")
    finally:
        user.place = ()


class Weak(Pyrkt):
    """Root without CAP_SYS_ADMIN, as in most containers."""

    place: tuple[str, ...] = WEAK

    def argv(self, *words: str) -> list[str]:
        """Return the command line, run as such a root."""
        return [*self.place, *super().argv(*words)]


@pytest.fixture
def weak(tmp_path: Path) -> Iterator[Weak]:
    tool = Weak(tmp_path)
    yield tool
    assert tool.clean() == []


def test_root_without_cap_sys_admin_goes_through_a_user_namespace(weak: Weak, layout: str) -> None:
    script = "id -u; cat /proc/self/uid_map /proc/1/cgroup; stat -c %u /home/file; ls /covered"
    answer = weak.call("run", layout, "--memory=64Mi", "--", "sh", "-c", script)
    lines = answer.out.splitlines()
    assert (answer.code, answer.err) == (0, "")
    assert (lines[0], lines[1].split()) == ("0", ["0", "0", "4294967295"])
    assert lines[-2:] == ["1000", "new"]
    assert weak.ok("run", "--no-overlay", layout, "--", "cat", "/shut") == "of mode 0\n"


def test_a_bundle_of_root_without_cap_sys_admin(weak: Weak, layout: str, tmp_path: Path) -> None:
    weak.ok("image", "unpack", layout, str(tmp_path / "bundle"))
    runtime = oci.ours(tmp_path, (*WEAK, *oci.LAUNCHER))
    with oci.nothing_left(tmp_path):
        answer = runtime.run(tmp_path / "bundle", stdin=None, input="id -u; stat -c %u /home/file\n")
        assert (answer.code, answer.out) == (0, "0\n1000\n"), answer.err
        runtime.clean()


def test_the_limits_of_root_without_cap_sys_admin(weak: Weak, layout: str) -> None:
    uuid = weak.detached(layout, "--memory=64Mi", "--", "sleep", "600")
    found = [
        Path(directory, name).read_text().strip()
        for directory in weak.pod(uuid)["apps"][0]["cgroups"]
        for name in ("memory.limit_in_bytes", "memory.max")
        if Path(directory, name).exists()
    ]
    assert found == [str(64 << 20)]


def test_what_root_has_stored_is_the_same_to_one_who_may_less(tmp_path: Path, layout: str) -> None:
    Pyrkt(tmp_path).ok("fetch", layout)
    weak = Weak(tmp_path)
    assert weak.ok("run", layout, "--", "ls", "/covered") == "new\n"
    assert weak.clean() == []


def test_root_without_namespaces(tmp_path: Path, layout: str) -> None:
    nowhere = Weak(tmp_path)
    nowhere.place = NOWHERE
    nowhere.ok("fetch", layout)
    nowhere.ok("image", "unpack", layout, str(tmp_path / "bundle"))
    answer = nowhere.call("run", layout, "--", "true")
    assert answer.code == 125
    assert len([line for line in answer.err.splitlines() if "warning" not in line]) == 2
    assert nowhere.clean() == []
