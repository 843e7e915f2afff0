"""Volumes on the real kernel: where they go, what is made for them, what is refused; rkt's functional tests of them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pods import Pyrkt, make_aci, make_layout

pytestmark = [pytest.mark.root, pytest.mark.peers]

JSON = dict[str, Any]
POINT = {"mountPoints": [{"name": "dir1", "path": "/dir1"}]}
POINT_RO = {"mountPoints": [{"name": "dir1", "path": "/dir1", "readOnly": True}]}
FILES = {"dir1/file": "dir1\n", "dir2/file": "dir2\n", "etc/plain": "a file\n"}
LINKS = {
    "dir1/link_rel_dir2": "../dir2",
    "dir1/link_abs_dir2": "/dir2",
    "dir1/link_abs_dotdot_dir2": "/../../dir2",
    "dir1/link_abs_notexists": "/notexists",
    "dir1/link_abs_root": "/",
}
IMPLICIT = 'no volume specified for mount point "dir1", implicitly creating an "empty" volume.'


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with an image, the same with a mount point, and with a read-only one."""
    made = Pyrkt(tmp_path_factory.mktemp("volumes"))
    made.ok("fetch", *(
        str(make_aci(made.base / f"{name}.aci", f"example.com/{name}", app, FILES, LINKS))
        for name, app in (("plain", {}), ("point", POINT), ("point-ro", POINT_RO))
    ))  # fmt: skip
    yield made
    assert made.clean() == []


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory of the host with a file."""
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "file").write_text("host\n")
    return directory


def words(script: str, image: str = "plain", *flags: str) -> list[str]:
    return [f"example.com/{image}", *flags, "--exec=/bin/sh", "--", "-c", script]


def host(source: Path, **more: str) -> str:
    return "".join([f"--volume=dir1,kind=host,source={source}", *(f",{key}={value}" for key, value in more.items())])


def mount(target: str) -> str:
    return f"--mount=volume=dir1,target={target}"


def test_a_missing_source_is_an_error_and_nothing_is_made(tool: Pyrkt, tmp_path: Path) -> None:
    answer = tool.call("run", host(tmp_path / "no/such"), mount("dir1"), *words("true"))
    assert answer.code == 66
    assert f"volume source {tmp_path}/no/such: No such file or directory" in answer.err
    assert not (tmp_path / "no").exists()


def test_a_source_that_is_or_lies_behind_a_symlink_is_an_error_unless_allowed(tool: Pyrkt, source: Path) -> None:
    (source / "inner").mkdir()
    (source / "inner/file").write_text("inner\n")
    link = source.parent / "link"
    link.symlink_to(source)
    for path, text in ((link, "host\n"), (link / "inner", "inner\n")):
        command = [host(path), mount("/v"), *words("cat /v/file")]
        answer = tool.call("run", *command)
        assert answer.code == 64
        assert "leads through a symlink" in answer.err
        assert tool.ok("run", "--linked-volumes", *command) == text


def test_files_of_the_image_can_be_read_and_written(tool: Pyrkt) -> None:
    assert tool.ok("run", *words("cat /dir1/file; echo 1 > /dir1/file; cat /dir1/file")) == "dir1\n1\n"


@pytest.mark.parametrize("image", ["point", "point-ro"])
def test_a_volume_is_read_at_the_images_mount_point(tool: Pyrkt, source: Path, image: str) -> None:
    for flags in ([], [mount("dir1")]):
        assert tool.ok("run", host(source), *flags, *words("cat /dir1/file", image)) == "host\n"


def test_the_host_sees_what_is_written(tool: Pyrkt, source: Path) -> None:
    assert tool.ok("run", host(source), *words("echo 2 > /dir1/file; cat /dir1/file", "point")) == "2\n"
    assert (source / "file").read_text() == "2\n"


@pytest.mark.parametrize(
    ("image", "flags"),
    [
        pytest.param("point-ro", {}, id="mount-point"),
        pytest.param("point", {"readOnly": "true"}, id="volume"),
        pytest.param("plain", {"readOnly": "true"}, id="without-a-mount-point"),
    ],
)
def test_a_read_only_volume_is_read_only(tool: Pyrkt, source: Path, image: str, flags: dict[str, str]) -> None:
    answer = tool.call("run", host(source, **flags), mount("/dir1"), *words("echo 3 > /dir1/file", image))
    assert answer.code == 1
    assert "Read-only file system" in answer.err
    assert (source / "file").read_text() == "host\n"


def test_the_volume_beats_the_mount_point(tool: Pyrkt, source: Path) -> None:
    tool.ok("run", host(source, readOnly="false"), *words("echo 4 > /dir1/file", "point-ro"))
    assert (source / "file").read_text() == "4\n"


def test_a_mount_without_a_mount_point_is_made_with_its_parents(tool: Pyrkt, source: Path) -> None:
    shown = "stat -c '%a %u %g' /a /a/b; cat /a/b/c/file; echo 5 > /a/b/c/file"
    assert tool.ok("run", host(source), mount("/a/b/c"), *words(shown)) == "755 0 0\n755 0 0\nhost\n"
    assert (source / "file").read_text() == "5\n"
    assert tool.ok("run", host(source), mount("/dir1/x/y"), *words("cat /dir1/x/y/file /dir1/file")) == "5\ndir1\n"


def test_a_target_that_is_made_has_its_mode_whatever_the_umask(tool: Pyrkt, source: Path) -> None:
    command = tool.argv("run", host(source), mount("/a/b"), *words("stat -c %a /a"))
    script = subprocess.run(
        ["sh", "-c", 'umask 077; exec "$@"', "sh", *command], capture_output=True, text=True, check=True
    )
    assert script.stdout == "755\n"


def test_a_mount_before_the_images_is_for_all_and_one_after_an_image_for_it(tool: Pyrkt, source: Path) -> None:
    first, second = (
        words("cat /all/file; ls -d /own", "plain", "--name=a"),
        words("cat /all/file /own/file", "plain", "--name=b", mount("/own")),
    )
    answer = tool.call("run", "--exit-policy=until-all-exit", host(source), mount("/all"), *first, "---", *second)
    assert answer.out.splitlines() == ["host"] * 3
    assert "/own" in answer.err


def test_an_implicit_volume_serves_a_mount_point_and_is_told_of(tool: Pyrkt) -> None:
    answer = tool.call("run", *words("cat /dir1/file; echo 1 > /dir1/file; cat /dir1/file", "point"))
    assert (answer.code, answer.out) == (0, "dir1\n1\n")
    assert IMPLICIT in answer.err
    assert IMPLICIT not in tool.call("run", *words("true")).err


def test_two_apps_share_a_volume_of_the_host(tool: Pyrkt, source: Path) -> None:
    writes = words("echo new > /dir1/x; mv /dir1/x /dir1/new", "point")
    reads = words("until [ -e /dir1/new ]; do sleep 0.02; done; cat /dir1/new", "point-ro")
    assert tool.ok("run", host(source), *writes, "---", *reads) == "new\n"


@pytest.mark.parametrize(
    ("target", "real"),
    [
        ("/dir1/link_abs_dir2/foo", "/dir2/foo"),
        ("/dir1/link_rel_dir2/bar", "/dir2/bar"),
        ("/dir1/../dir1/.//link_rel_dir2/foo", "/dir2/foo"),
        ("/dir1/../../../foo", "/foo"),
        ("/dir1/link_abs_dotdot_dir2/foo", "/dir2/foo"),
        ("/dir1/../../../newdir/foo", "/newdir/foo"),
        ("/dir1/link_rel_dir2/newdir/foo", "/dir2/newdir/foo"),
        ("/dir1/link_abs_notexists/newdir1/newdir2/foo", "/notexists/newdir1/newdir2/foo"),
        ("/dir1/link_abs_root/newdir1/newdir2/foo", "/newdir1/newdir2/foo"),
        ("../../../../../../../../../../../../../../../foo", "/foo"),
    ],
)
def test_links_and_dots_of_a_target_are_resolved_in_the_root(tool: Pyrkt, source: Path, target: str, real: str) -> None:
    script = f"cat {real}; grep -c ' {real} ' /proc/self/mountinfo"
    assert tool.ok("run", host(source / "file"), mount(target), *words(script)) == "host\n1\n"


def test_a_directory_takes_the_place_of_a_file_and_files_that_are_hidden_are_told_of(tool: Pyrkt, source: Path) -> None:
    answer = tool.call("run", host(source), mount("/etc/plain"), *words("cat /etc/plain/file"))
    assert (answer.code, answer.out) == (0, "host\n")
    assert "the volume on /etc/plain takes the place of a file of the image" in answer.err
    answer = tool.call("run", host(source), mount("/dir1"), *words("cat /dir1/file"))
    assert (answer.code, answer.out) == (0, "host\n")
    assert "the volume on /dir1 hides files of the image" in answer.err
    answer = tool.call("run", "--no-overlay", host(source), mount("/etc/plain"), *words("cat /etc/plain/file"))
    assert (answer.code, answer.out) == (0, "host\n")


def test_one_volume_within_another_is_an_error_unless_it_is_meant(tool: Pyrkt, source: Path) -> None:
    inner = ["--volume=inner,kind=empty", "--mount=volume=inner,target=/v/in", mount("/v")]
    command = [host(source), *inner, *words("cat /v/file; touch /v/in/x; ls /v/in")]
    (source / "in").mkdir()
    answer = tool.call("run", *command)
    assert answer.code == 2
    assert "the volume on /v/in lies within the one on /v" in answer.err
    assert tool.ok("run", "--nested-volumes", *command) == "host\nx\n"
    assert os.listdir(source / "in") == []


def test_two_volumes_of_one_name_and_two_on_one_target_are_refused(tool: Pyrkt, source: Path) -> None:
    answer = tool.call("run", host(source), host(source), *words("true"))
    assert answer.code == 2
    assert "'dir1'" in answer.err
    answer = tool.call("run", host(source), mount("/v"), mount("/dir1/../v"), *words("true"))
    assert answer.code == 2
    assert "two volumes are mounted on /v" in answer.err


@pytest.fixture
def outer(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host in which another file system is mounted."""
    directory = tmp_path / "outer"
    (directory / "inner").mkdir(parents=True)
    (directory / "outerfile").write_text("outer\n")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(directory / "inner")], check=True)
    (directory / "inner/innerfile").write_text("inner\n")
    yield directory
    subprocess.run(["umount", str(directory / "inner")], check=True)


@pytest.mark.parametrize("root", [[], ["--readonly-rootfs"]], ids=["rw-root", "ro-root"])
@pytest.mark.parametrize(
    ("fields", "seen", "writable"),
    [
        pytest.param({}, True, True, id="recursive-by-default"),
        pytest.param({"recursive": "true"}, True, True, id="recursive"),
        pytest.param({"recursive": "false"}, False, True, id="not-recursive"),
        pytest.param({"recursive": "true", "readOnly": "true"}, True, False, id="recursive-read-only"),
        pytest.param({"recursive": "false", "readOnly": "true"}, False, False, id="read-only"),
    ],
)
def test_what_is_mounted_below_the_source(  # rkt's VolumeMount
    tool: Pyrkt, outer: Path, fields: dict[str, str], seen: bool, writable: bool, root: list[str]
) -> None:
    script = "cat /v/outerfile; ls /v/inner; touch /v/new; touch /v/inner/new; ls /v /v/inner | grep -c new"
    answer = tool.call("run", host(outer, **fields), mount("/v"), *words(script, "plain", *root))
    count = 2 if writable else 0
    assert answer.out.splitlines() == ["outer", *(["innerfile"] if seen else []), str(count)]
    assert (outer / "new").exists() == writable
    assert (outer / "inner/new").exists() == (writable and seen)


def test_sys_is_replaced_only_by_a_volume_on_it(tool: Pyrkt, source: Path) -> None:
    below = (
        "while read a b c d point rest; do case $point in /sys|/sys/*) echo $point;; esac; done < /proc/self/mountinfo"
    )
    plain = tool.ok("run", *words(below)).split()
    assert "/sys" in plain
    assert "/sys/fs/cgroup" in plain
    elsewhere = tool.ok("run", host(source), mount("/system"), *words(f"{below}; cat /system/file")).split()
    assert elsewhere == [*plain, "host"]
    assert tool.ok("run", host(source), mount("/sys/class"), *words("cat /sys/class/file; ls -d /sys/fs")) == (
        "host\n/sys/fs\n"
    )
    assert tool.ok("run", host(Path("/sys")), mount("/sys"), *words("ls -d /sys/class")) == "/sys/class\n"
    assert tool.ok("run", host(source), mount("/sys"), *words("cat /sys/file; ls /sys")) == "host\nfile\n"


def test_devices_of_the_host_in_a_volume_are_no_way_out(tool: Pyrkt, source: Path) -> None:
    os.mknod(source / "kmsg", 0o020666, os.makedev(1, 11))
    answer = tool.call("run", host(source), mount("/v"), *words("head -c 1 /v/kmsg"))
    assert answer.code == 1
    assert "Operation not permitted" in answer.err or "Permission denied" in answer.err


@pytest.mark.parametrize("name", ["a:b", "a,b", "a b", "a=b", "a\\b", "ü*?[x]", "-x"])
def test_special_characters_in_paths(tool: Pyrkt, tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    directory.mkdir()
    (directory / "file").write_text("special\n")
    escaped = str(directory).replace(",", "\\,")
    target = f"/dir/{name}".replace(",", "\\,")
    flags = [f"--volume=dir1,kind=host,source={escaped}", f"--mount=volume=dir1,target={target}"]
    assert tool.ok("run", *flags, "example.com/plain", "--exec=/bin/cat", "--", f"/dir/{name}/file") == "special\n"


@pytest.mark.parametrize("name", ["a:b", "a,b", "a b", "a\\b", "a=b,c:d"])
def test_special_characters_in_the_path_of_all_pods(tmp_path: Path, name: str) -> None:
    """rkt's OverlayMount: lower, upper and work directories lie below the data directory."""
    own = Pyrkt(tmp_path / name)
    own.base.mkdir()
    image = make_aci(tmp_path / "box.aci", "example.com/box", POINT, FILES)
    answer = own.call("run", str(image), "--exec=/bin/sh", "--", "-c", "cat /dir1/file; echo x > /y; cat /y")
    assert (answer.code, answer.out) == (0, "dir1\nx\n"), answer.err
    assert own.clean() == []


@pytest.mark.parametrize("target", ["/dir1", "/dir2", "/dir1/link_rel_dir2", "/dir1/link_abs_dir2"])
def test_an_implicit_volume_begins_with_the_images_data(tool: Pyrkt, tmp_path: Path, target: str) -> None:
    """rkt's DockerVolumeSemantics."""
    points = {"mountPoints": [{"name": "mydir", "path": target}]}
    image = make_aci(tmp_path / "x.aci", "example.com/x", points, FILES, LINKS)
    expected = "dir2\n" if target.endswith("dir2") else "dir1\n"
    assert tool.ok("run", str(image), "--exec=/bin/cat", "--", f"{target}/file") == expected


def test_it_keeps_modes_and_owners_and_outlives_a_restart(tool: Pyrkt, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout", "--config.volume", "/data", "--config.volume", "/root")
    script = "stat -c '%a %u %g' /root; cat /data/seed; echo $((`cat /data/n` + 1)) > /data/n; [ `cat /data/n` = 3 ]"
    answer = tool.call(
        "run", f"oci:{layout}:bb", "--restart=on-failure:5", "--restart-delay=10ms", "--", "sh", "-c", script
    )
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == ["755 0 0", "from the image"] * 3


def test_an_empty_volume_is_the_pods_and_goes_with_it(tool: Pyrkt) -> None:
    empty = ["--volume=v,kind=empty,mode=0123,uid=9991,gid=9992", "--mount=volume=v,target=/v"]
    uuid = tool.ok("prepare", "--quiet", *empty, *words("stat -c '%a %u %g' /v; echo kept > /v/x")).split()[-1]
    assert tool.call("run-prepared", uuid).out == "123 9991 9992\n"
    directory = tool.directory(uuid)
    assert (directory / "volumes/v/x").read_text() == "kept\n"
    tool.ok("rm", uuid)
    assert not directory.exists()


def test_in_a_user_namespace_an_empty_volume_is_the_pods_roots(tool: Pyrkt) -> None:
    flags = ["--private-users", "--volume=v,kind=empty,uid=5", "--volume=w,kind=empty"]
    mounts = ["--mount=volume=v,target=/v", "--mount=volume=w,target=/w"]
    script = "stat -c '%u %g' /v /w /dir1 /dir1/file; echo x > /w/x; echo y > /dir1/y; cat /dir1/file"
    assert tool.ok("run", *flags, *mounts, *words(script, "point")) == "5 0\n0 0\n0 0\n0 0\ndir1\n"
