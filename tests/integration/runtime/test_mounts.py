"""Mounts: what their words do, where they may be put, and in which order they are made."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import mounts, oci

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root
INFO = "cat /proc/self/mountinfo"


@pytest.fixture
def open_box() -> Iterator[Bundle]:
    with mounts.open_bundle() as made:
        yield made


def inside(runtime: Runtime, box: Bundle) -> dict[str, mounts.Seen]:
    answer = runtime.run(box.script(INFO).path)
    assert answer.code == 0, answer.err
    return mounts.seen(answer.out)


def said(runtime: Runtime, box: Bundle, script: str) -> str:
    answer = runtime.run(box.script(script).path)
    assert answer.code == 0, answer.err
    return answer.out


# --- flags of binds ---

# host's flags, the words of the mount, what is seen, what is not; mount(8) and runc keep the access time
FLAGS = [
    ("ro,noexec,nosymfollow,nodiratime", "bind", "ro noexec nodiratime nosymfollow", "rw"),
    ("ro,noexec,nosymfollow,nodiratime", "bind,dev", "rw nodiratime", "ro noexec nosymfollow"),
    ("ro", "bind,nosuid,nodev,rprivate", "rw nosuid nodev", "ro"),
    ("ro", "bind,rw,nosuid,nodev", "rw nosuid nodev", "ro"),
    ("nosuid,nodev,noexec,noatime", "bind,dev,suid,exec,atime", "rw noatime", "nosuid nodev noexec"),
    ("nodev,nosuid,noexec,noatime", "bind,ro", "ro noatime", "rw nosuid nodev noexec"),
    ("nodev,nosymfollow", "bind,ro,symfollow", "ro", "rw nodev nosymfollow"),
    ("noatime", "bind,relatime", "relatime", "noatime"),
    ("noatime", "bind,nodiratime", "nodiratime relatime", "noatime"),
    ("nodiratime", "bind,strictatime", "rw", "noatime relatime nodiratime"),
    ("noatime", "bind,nodiratime,strictatime", "nodiratime", "noatime relatime"),
    ("noatime", "bind,norelatime", "noatime", "relatime"),
]
# The same within a user namespace: what the host's mount forbids stays forbidden.
LOCKED = [
    ("ro,noexec,nosymfollow,nodiratime", "bind", "ro noexec nodiratime nosymfollow", "rw"),
    ("ro,noexec,nosymfollow,nodiratime", "bind,dev", "ro noexec nodiratime", "rw nosymfollow"),
    ("ro", "bind,nosuid,nodev,rprivate", "ro nosuid nodev", "rw"),
    ("nodev,nosuid,noexec,noatime", "bind,ro", "ro nosuid nodev noexec noatime", "rw"),
    ("nodev,nosymfollow", "bind,rw", "rw nodev", "ro nosymfollow"),
    ("strictatime", "bind,nostrictatime", "rw", "noatime relatime"),
    ("noatime,nodiratime", "bind,norelatime", "noatime nodiratime", "relatime"),
    ("nodev,nosuid,noatime", "bind,ro,exec", "ro nodev nosuid noatime", "noexec"),
]
REFUSED = [
    ("ro", "bind,rw,nosuid"),
    ("nodev,nosuid,noatime", "bind,dev,suid,exec"),
    ("nodiratime", "bind,strictatime"),
    ("relatime", "bind,noatime"),
    ("relatime", "bind,nodiratime"),
    ("strictatime", "bind,relatime"),
    ("noatime", "bind,relatime"),
]


def flagged(top: Path, rows: list[Any]) -> list[Path]:
    """Mount one tmpfs a row below ``top`` with the row's flags."""
    paths = []
    for number, row in enumerate(rows):
        paths.append(top / str(number))
        paths[-1].mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "strictatime", "pyrkt-test", paths[-1]], check=True)
        subprocess.run(["mount", "-o", f"remount,bind,{row[0]}", paths[-1]], check=True)
    return paths


@pytest.mark.parametrize("rows", [pytest.param(FLAGS, id="root"), pytest.param(LOCKED, id="userns")])
@pytest.mark.parametrize("reachable", [True, False], ids=["reachable", "out-of-reach"])
def test_a_bind_has_the_named_flags_and_no_other(
    runtime: Runtime, open_box: Bundle, rows: list[tuple[str, str, str, str]], reachable: bool
) -> None:
    with mounts.mounted(open_box.path / "volumes") as top:
        for number, path in enumerate(flagged(top, rows)):
            mounts.add(open_box, f"/v/{number}", path, *rows[number][1].split(","))
        top.chmod(0o755 if reachable else 0o700)
        open_box.config["root"]["readonly"] = False
        if rows is LOCKED:
            mounts.map_users(open_box)
        found = inside(runtime, open_box)
    for number, (host, words, yes, no) in enumerate(rows):
        options = found[f"/v/{number}"].options
        assert set(yes.split()) <= options, (host, words)
        assert not set(no.split()) & options, (host, words)


@pytest.mark.parametrize("row", REFUSED, ids="; ".join)
def test_a_user_namespace_takes_nothing_away_that_was_asked_for(
    runtime: Runtime, open_box: Bundle, row: tuple[str, str]
) -> None:
    with mounts.mounted(open_box.path / "volumes") as top:
        (path,) = flagged(top, [row])
        top.chmod(0o755 if len(row[1]) % 2 else 0o700)  # made inside, and by the supervisor
        mounts.add(open_box, "/tmp", path, *row[1].split(","))
        mounts.map_users(open_box)
        answer = runtime.run(open_box.runs("true").path)
    assert answer.code == 1
    text = answer.err.replace('\\"', '"')
    assert "run failed: unable to start container process: error during container init: error mounting" in text
    assert f'error mounting "{path}" to rootfs at "/tmp" ' in text
    assert "operation not permitted" in text


@pytest.mark.peers
def test_the_same_mounts_look_the_same_with_runc(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    words = [
        "rbind",
        "bind,ro",
        "rbind,rw,nodev",
        "bind,nosuid,nodev",
        "bind,noexec,ro",
        "bind,noatime",
        "bind,relatime",
    ]
    words += ["bind,nodiratime", "bind,strictatime", "rbind,ro,rslave", "bind,private", "bind,unbindable"]
    box.config["root"]["readonly"] = False
    (box.rootfs / "odd").mkdir(mode=0o710)
    (box.rootfs / "t/plain").mkdir(parents=True)  # which mode a tmpfs on a new directory has, runc 1.5 has changed
    with mounts.mounted(tmp_path / "v", "-t", "tmpfs", "-o", "nosuid,noexec,noatime", "pyrkt-test") as volume:
        subprocess.run(["mount", "--make-private", volume], check=True)
        (volume / "file").touch()
        for number, word in enumerate(words):
            mounts.add(box, f"/v/{number}", volume, *word.split(","))
        mounts.add(box, "/etc/file", volume / "file", "bind", "ro")
        mounts.add_tmpfs(box, "/t/plain")
        mounts.add_tmpfs(box, "/t/options", "ro", "nosuid", "mode=700", "size=64k", "uid=3", "gid=4")
        mounts.add_tmpfs(box, "/odd", "nodev")
        cgroup = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
        box.config["mounts"].append(cgroup | {"options": ["nosuid", "noexec", "nodev", "relatime", "ro"]})
        box.script(
            f"{INFO}; stat -c '%n %a %u:%g' /t/* /odd /v /v/0 /etc/file;"
            " ls -la /dev | grep -v kcore | busybox awk '{print $1, $NF}'"
        )
        peer = oci.peer("runc", tmp_path)
        answers = [one.run(box.path) for one in (runtime, peer)]
        peer.clean()
    assert [answer.code for answer in answers] == [0, 0], answers
    shown = [answer.out.split("/t/")[-1] for answer in answers]
    assert shown[0] == shown[1]
    ours, theirs = (mounts.seen(answer.out) for answer in answers)
    for point in (mount["destination"] for mount in box.config["mounts"][:-1]):
        assert ours[point].options == theirs[point].options, point
        assert ours[point].kind == theirs[point].kind, point
        assert {word.split(":")[0] for word in ours[point].fields} == {
            word.split(":")[0] for word in theirs[point].fields
        }, point
        differing = {"rw", "ro", "mode=755", "mode=710"}
        assert ours[point].superoptions - differing == theirs[point].superoptions - differing, point
    assert {p for p in theirs if p.startswith("/sys/fs/cgroup")} <= ours.keys()


# --- tmpfs ---


def test_a_tmpfs_takes_the_mode_of_what_it_covers_unless_told(runtime: Runtime, box: Bundle) -> None:
    (box.rootfs / "lent").mkdir()
    (box.rootfs / "lent").chmod(0o2710)
    mounts.add_tmpfs(box, "/lent")
    mounts.add_tmpfs(box, "/made/by/us")
    (box.rootfs / "told").mkdir(mode=0o710)
    mounts.add_tmpfs(box, "/told", "mode=1500")
    box.config["root"]["readonly"] = False
    assert said(runtime, box, "stat -c %a /lent /made/by/us /told") == "2710\n1777\n1500\n"
    found = inside(runtime, box)
    assert "mode=2710" in found["/lent"].superoptions
    assert "mode=1500" in found["/told"].superoptions
    assert (box.rootfs / "made/by/us").stat().st_mode & 0o7777 == 0o755
    assert (box.rootfs / "told").stat().st_mode & 0o7777 == 0o710


def test_read_only_tmpfs_and_dev_are_filled_first(runtime: Runtime, box: Bundle) -> None:
    mounts.add_tmpfs(box, "/tmp", "ro", "mode=755")
    mounts.add(box, "/tmp/in/it", ".", "bind")
    for mount in box.config["mounts"]:
        if mount["destination"] == "/dev":
            mount["options"].append("ro")
    box.save()
    assert "config.json" in said(runtime, box, "ls /tmp/in/it; touch /dev/x /tmp/x 2>&1 || echo > /dev/null")
    found = inside(runtime, box)
    assert "ro" in found["/tmp"].options
    assert "ro" in found["/dev"].options
    assert "rw" in found["/dev/shm"].options


def covered(box: Bundle) -> Path:
    top = box.rootfs / "dir1"
    (top / "sub/deep").mkdir(parents=True)
    (top / "sub").chmod(0o1777)
    (top / "sub/deep/file").write_text("x" * 3_000_000)
    (top / "sub/deep/file").chmod(0o4750)
    os.chown(top / "sub/deep/file", 12, 34)
    (top / "sub/deep/file").chmod(0o4750)
    os.utime(top / "sub/deep/file", (1, 1_000_000))
    (top / "link").symlink_to("/etc/passwd")
    os.mkfifo(top / "fifo", 0o640)
    (top / "cap").write_text("")
    # struct vfs_cap_data, version 2: CAP_NET_RAW, effective
    os.setxattr(top / "cap", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    top.chmod(0o2775)
    os.chown(top, 7, 8)
    for number in range(200):
        (top / f"file-of-many-{number}").touch()
    return top


def test_copy_up_fills_the_tmpfs_with_what_it_covers(runtime: Runtime, box: Bundle) -> None:
    top = covered(box)
    mounts.add_tmpfs(box, "/dir1", "tmpcopyup", "nosuid")
    script = (
        "cd /dir1; stat -c '%n %a %u:%g %F' . sub sub/deep/file link fifo; stat -c %s sub/deep/file;"
        "stat -c %Y sub/deep/file; readlink link;"
        "ls | wc -l; touch sub/deep/new; rm sub/deep/file; " + INFO
    )
    answer = runtime.run(box.script(script).path)
    lines = answer.out.splitlines()
    assert lines[:5] == [
        ". 2775 7:8 directory",
        "sub 1777 0:0 directory",
        "sub/deep/file 4750 12:34 regular file",
        "link 777 0:0 symbolic link",
        "fifo 640 0:0 fifo",
    ]
    assert lines[5:9] == ["3000000", "1000000", "/etc/passwd", "204"]
    assert mounts.seen(answer.out)["/dir1"].kind == "tmpfs"
    assert "nosuid" in mounts.seen(answer.out)["/dir1"].options
    assert (top / "sub/deep/file").exists()
    assert not (top / "sub/deep/new").exists()


def test_copy_up_follows_no_link_and_says_what_does_not_fit(runtime: Runtime, box: Bundle) -> None:
    covered(box)
    mounts.add_tmpfs(box, "/dir1", "tmpcopyup", "size=64k")
    answer = runtime.run(box.runs("true").path)
    assert answer.code == 1
    assert "copying what the mount covers: no space left on device" in answer.err
    deep = box.rootfs / "dir2"
    deep.mkdir()
    (deep / "out").symlink_to("../../../../../../etc")
    box.config["mounts"].pop()
    mounts.add_tmpfs(box, "/dir2", "tmpcopyup")
    assert said(runtime, box, "readlink /dir2/out; ls /dir2") == "../../../../../../etc\nout\n"


def test_capabilities_of_files_are_copied_up(runtime: Runtime, box: Bundle) -> None:
    covered(box)
    mounts.add_tmpfs(box, "/dir1", "tmpcopyup")
    box.config["mounts"].append({"destination": "/dir1", "options": ["rshared"]})
    name = runtime.new_id()
    assert runtime.detached("run", "-d", "-b", str(box.runs("sleep", "300").path), name).code == 0
    root = Path(f"/proc/{runtime.state(name)['pid']}/root")
    assert os.getxattr(root / "dir1/cap", "security.capability")[4:6] == b"\x00\x20"


# --- remount and options of file systems ---


def test_remount_changes_flags_and_the_file_systems_options(runtime: Runtime, box: Bundle) -> None:
    mounts.add_tmpfs(box, "/tmp", "size=1m", "nosuid", "nodev")
    remount = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}
    box.config["mounts"].append(remount | {"options": ["remount", "size=2m", "noexec"]})
    mounts.add(box, "/var", ".", "bind", "ro")
    box.config["mounts"].append({"destination": "/var", "options": ["bind", "remount", "rw", "nosuid"]})
    found = inside(runtime, box)
    assert "size=2048k" in found["/tmp"].superoptions
    assert {"noexec", "nosuid", "nodev", "rw"} <= found["/tmp"].options
    assert {"rw", "nosuid"} <= found["/var"].options


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        (["nosuchoption=1"], "tmpfs", "setting an option of the file system: invalid argument"),
        (
            ["remount", "nosuchoption=1"],
            "tmpfs",
            "changing the file system at /tmp (config.json: /mounts/6): ",
        ),
        ([], "nosuchfs", "creating the file system: no such device"),
        (["idmap", "bind"], "bind", "idmap needs uidMappings and gidMappings"),
    ],
)
def test_options_nobody_knows_are_refused_and_leave_nothing(
    runtime: Runtime, box: Bundle, options: list[str], kind: str, text: str
) -> None:
    mount = {"destination": "/tmp", "source": "/etc", "type": kind, "options": options}
    box.config["mounts"].append(mount)
    answer = runtime.run(box.runs("true").path)
    assert answer.code == 1
    assert text in answer.err
    assert answer.err.count("\n") == 1


# --- where mounts may be put ---


def test_mount_points_are_made_also_in_a_read_only_root(runtime: Runtime, box: Bundle) -> None:
    (box.path / "file").write_text("of the bundle")
    (box.rootfs / "setgid").mkdir()
    (box.rootfs / "setgid").chmod(0o7755)
    mounts.add(box, "/new/dir", ".", "rbind")
    mounts.add(box, "/new/file", "file", "bind")
    mounts.add(box, "relative/file", "file", "bind")
    mounts.add(box, f"{box.rootfs}/by/host/name", "file", "bind")
    mounts.add_tmpfs(box, "/setgid/a/b", "ro")
    script = "cat /new/dir/file /new/file /relative/file /by/host/name; touch /x 2>&1; test -d /new/dir -a -f /new/file"
    answer = runtime.run(box.script(script).path)
    assert answer.code == 0, answer.err
    assert answer.out == "of the bundle" * 4 + "touch: /x: Read-only file system\n"
    assert "is relative, which is deprecated" in answer.err
    assert [(box.rootfs / f"setgid/{name}").stat().st_mode & 0o7777 for name in ("a", "a/b")] == [0o2755] * 2


@pytest.mark.parametrize(
    ("links", "target", "real"),
    [
        ({"conf": "/real/conf"}, "/conf/stack", "real/conf/stack"),
        ({"jump": "/tmp/foo/bar", "etc/hosts": "/jump/baz/hosts"}, "/etc/hosts", "tmp/foo/bar/baz/hosts"),
        ({"etc/hosts": "../tmp/./hosts"}, "/etc/hosts", "tmp/hosts"),
        ({"etc/hosts": "../../../../../../made/outside"}, "/etc/hosts", "made/outside"),
        ({"a": "b", "b": "new/x/../y"}, "/a/z", "new/y/z"),
    ],
)
@pytest.mark.parametrize("source", ["config.json", "."], ids=["file", "directory"])
def test_mounts_follow_the_images_links_inside(
    runtime: Runtime, box: Bundle, links: dict[str, str], target: str, real: str, source: str
) -> None:
    for name, text in links.items():
        (box.rootfs / name).symlink_to(text)
    mounts.add(box, target, source, "bind")
    box.config["root"]["readonly"] = False
    found = inside(runtime, box)
    assert f"/{real}" in found
    assert (box.rootfs / real).is_dir() == (source == ".")
    wanted = os.stat(box.path / source)
    assert said(runtime, box, f"stat -Lc %i {target}") == f"{wanted.st_ino}\n"


@pytest.mark.parametrize(("source", "target"), [(".", "/etc/passwd"), ("config.json", "/etc")])
def test_a_directory_does_not_go_on_a_file(runtime: Runtime, box: Bundle, source: str, target: str) -> None:
    mounts.add(box, target, source, "bind")
    answer = runtime.run(box.runs("true").path)
    assert answer.code == 1
    assert "attaching the mount: not a directory" in answer.err  # dockerd looks for these words


def test_a_loop_of_links_is_refused(runtime: Runtime, box: Bundle) -> None:
    (box.rootfs / "a").symlink_to("b")
    (box.rootfs / "b").symlink_to("a")
    (box.rootfs / "long").symlink_to("long/new")
    for target in ("/a/x", "/long/y"):
        mounts.add_tmpfs(box, target)
        answer = runtime.run(box.runs("true").path)
        assert answer.code == 1
        assert "too many levels of symbolic links" in answer.err
        box.config["mounts"].pop()


@pytest.mark.parametrize("kind", ["proc", "sysfs"])
@pytest.mark.parametrize("what", ["link", "file"])
def test_proc_and_sys_are_mounted_on_ordinary_directories(runtime: Runtime, box: Bundle, kind: str, what: str) -> None:
    place = box.rootfs / {"proc": "proc", "sysfs": "sys"}[kind]
    place.rmdir()
    if what == "link":
        (box.rootfs / "bad").mkdir()
        place.symlink_to("/bad")
    else:
        place.touch()
    answer = runtime.run(box.runs("true").path)
    assert answer.code == 1
    text = answer.err.replace('\\"', '"')
    assert f'filesystem "{kind}" must be mounted on ordinary directory' in text


def test_a_mount_on_the_root_is_the_root(runtime: Runtime, box: Bundle, tmp_path: Path) -> None:
    from tests.support import bundle

    other = bundle.make_root(tmp_path / "other")
    (other / "mark").write_text("the other\n")
    box.config["mounts"].insert(0, {"destination": "/", "source": str(other), "options": ["rbind"]})
    assert said(runtime, box, "cat /mark; touch /x 2>&1; ls -d /proc/1 /dev/null") == (
        "the other\ntouch: /x: Read-only file system\n/dev/null\n/proc/1\n"
    )


# --- order ---


@pytest.mark.parametrize("users", [False, True], ids=["root", "userns"])
@pytest.mark.parametrize("option", ["rbind", "rbind,idmap"])
def test_mounts_are_made_in_their_order_and_may_be_sources(
    runtime: Runtime, open_box: Bundle, users: bool, option: str
) -> None:
    top = open_box.path / "source"
    for name in ("a/x", "b/y", "c/z"):
        (top / name).mkdir(parents=True)
        (top / name / "file").write_text(f"{name}\n")
        (top / f"sym-{name[0]}").symlink_to(name[0])
    root, tree = open_box.rootfs, option.split(",")
    (root / "mnt").mkdir()
    (root / "final").mkdir()
    top.chmod(0o750)  # out of reach in the user namespace
    maps: dict[str, Any] = {}
    if "idmap" in tree:
        ids = [{"containerID": 0, "hostID": mounts.SHIFT if users else 0, "size": 65536}]
        maps = {"uidMappings": ids, "gidMappings": ids}
    mounts.add(open_box, "/mnt", top / "a", "bind")
    mounts.add(open_box, "/mnt/x", top / "sym-b", "bind")
    mounts.add(open_box, "/mnt/x/y", top / "c", "bind")
    mounts.add(open_box, "/mnt/x/y/z", top / "sym-a", "bind")
    mounts.add(open_box, f"{root}/mnt/x/y/z/x", root / "mnt/x", *tree, **maps)
    mounts.add(open_box, f"{root}/mnt/x/y/z", root / "mnt/x/y", *tree, **maps)
    mounts.add(open_box, f"{root}/final", root / "mnt", *tree, **maps)
    if users:
        mounts.map_users(open_box)
    assert said(runtime, open_box, "cat /final/x/y/z/z/x/y/z/x/file") == "a/x\n"


# --- views of the kernel ---


@pytest.mark.parametrize("own", [True, False], ids=["cgroup-namespace", "host's"])
@pytest.mark.parametrize("access", ["ro", "rw"])
def test_cgroups_show_the_containers_part(runtime: Runtime, box: Bundle, own: bool, access: str) -> None:
    name = "pyrkt-test-cgroups"
    box.config["linux"]["cgroupsPath"] = f"/{name}-{os.getpid()}"
    box.config["mounts"].append(
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", access],
        }
    )
    if not own:
        box.config["linux"]["namespaces"].remove({"type": "cgroup"})
    script = (
        "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do test -e $d/cgroup.procs || continue; echo $d;"
        "grep -qx $$ $d/cgroup.procs || grep -qx $$ $d/tasks || echo not in $d;"
        f"mkdir $d/x && busybox rmdir $d/x; done; {INFO}"
    )
    answer = runtime.run(box.script(script).path)
    assert "not in" not in answer.out.replace("not in /sys/fs/cgroup/unified\n", "")
    places = [line for line in answer.out.splitlines() if line.startswith("/sys/fs/cgroup")]
    assert places
    assert (answer.err.count("Read-only file system") > 0) == (access == "ro")
    found = mounts.seen(answer.out)
    assert all(access in found[point].options for point in found if point.startswith("/sys/fs/cgroup/"))
    for left in oci.cgroups(f"{name}-{os.getpid()}"):
        Path(left).rmdir()


def test_views_of_joined_namespaces_are_the_hosts_in_a_user_namespace(runtime: Runtime, open_box: Bundle) -> None:
    mounts.map_users(open_box)
    linux = open_box.config["linux"]
    linux["namespaces"] = [space for space in linux["namespaces"] if space["type"] not in ("network", "ipc")]
    open_box.config["mounts"] = [m for m in open_box.config["mounts"] if m["type"] != "mqueue"]
    found = inside(runtime, open_box)
    assert found["/sys"].kind == "sysfs"
    assert {"ro", "nosuid", "nodev", "noexec"} <= found["/sys"].options
    assert found["/proc"].kind == "proc"


def test_a_group_that_the_user_namespace_lacks_is_left_out_of_devpts(runtime: Runtime, open_box: Bundle) -> None:
    mounts.map_users(open_box)
    linux = open_box.config["linux"]
    linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": mounts.SHIFT, "size": 3}]
    answer = runtime.run(open_box.script(INFO).path)
    assert answer.code == 0, answer.err
    assert not any(word.startswith("gid=") for word in mounts.seen(answer.out)["/dev/pts"].superoptions)


def test_message_queues_have_a_file_system(runtime: Runtime, box: Bundle) -> None:
    found = inside(runtime, box)
    assert found["/dev/mqueue"].kind == "mqueue"
    assert said(runtime, box, "cat /proc/sys/fs/mqueue/msg_max >/dev/null; ls /dev/mqueue") == ""
