"""Bundles on disk: whole, deterministic, valid by both schemas."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from pyrkt.bundle import from_appc, from_oci, write
from pyrkt.bundle.options import DeviceNode, IdRange, IoLimit, RunOptions, SeccompChoice, VolumeMount
from pyrkt.spec.appc import EventHandler, Isolator, MountPoint
from pyrkt.spec.runtime import parse_config
from tests.unit.bundle.support import appc, make_rootfs, oci

if TYPE_CHECKING:
    from pyrkt.bundle.assemble import Bundle
    from pyrkt.store.rootfs import Rootfs

SPECS = Path(__file__).parents[3] / "specs"
MAP = (IdRange(container=0, host=100_000, size=65536),)
EVERYTHING = RunOptions(
    name="app",
    args=("a", "b"),
    set_env={"A": "b"},
    readonly_rootfs=True,
    hostname="h",
    net="host",
    interactive=True,
    seccomp=SeccompChoice(mode="retain", syscalls=("@rkt/default-whitelist",), errno="EPERM"),
    memory=1 << 26,
    cpu_milli=500,
    cpu_shares=512,
    pids=10,
    io_weight=100,
    io=(IoLimit(major=8, minor=0, read_bps=1, write_bps=1, read_iops=1, write_iops=1, weight=10),),
    devices=(DeviceNode(path="/dev/fuse", kind="c", major=10, minor=229),),
    oom_score_adj=5,
    mounts=(VolumeMount(target="/v", source="/srv", readonly=True), VolumeMount(target="/e", kind="empty")),
    userns=True,
    uid_mappings=MAP,
    gid_mappings=MAP,
    annotations={"a": "b"},
    cgroups_path="/pyrkt/x",
)


@pytest.fixture(name="rootfs")
def _rootfs(tmp_path: Path) -> Rootfs:
    return make_rootfs(tmp_path / "image")


def bundle_dir(tmp_path: Path, name: str = "bundle") -> Path:
    directory = tmp_path / name
    directory.mkdir()
    return directory


def problems(directory: Path) -> list[str]:
    found: list[str] = []
    for file, schema in (("config.json", "oci-runtime"), ("runtime.json", "oci-2015-runtime")):
        validator = Draft202012Validator(json.loads((SPECS / f"{schema}.schema.json").read_text()))
        document = json.loads((directory / file).read_text())
        found += [f"{file}: {error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    return found


def both_families(rootfs: Rootfs, options: RunOptions) -> list[Bundle]:
    app: dict[str, Any] = {
        "event_handlers": (EventHandler(name="pre-start", exec=("/bin/tool",)),),
        "mount_points": (MountPoint(name="db", path="/db"),),
        "isolators": (
            Isolator(name="os/linux/selinux-context", value={"user": "u", "role": "r", "type": "t", "level": "s0"}),
        ),
    }
    pod = (Isolator(name="os/unix/sysctl", value={"kernel.shmmax": "1"}),)
    return [
        from_oci.compose(oci(volumes=("/data",), labels={"k": "v"}), rootfs, options),
        from_appc.compose(appc(**app), rootfs, replace(options, pod_isolators=pod)),
    ]


@pytest.mark.parametrize(
    "options",
    [RunOptions(), EVERYTHING, RunOptions(insecure=frozenset({"paths", "capabilities", "seccomp"}))],
    ids=["defaults", "everything", "insecure"],
)
def test_both_documents_are_valid(tmp_path: Path, rootfs: Rootfs, options: RunOptions) -> None:
    for number, made in enumerate(both_families(rootfs, options)):
        directory = bundle_dir(tmp_path, str(number))
        write.write(directory, made)
        assert problems(directory) == []
        assert parse_config((directory / "config.json").read_bytes()) == made.config
        for each in made.config.mounts:
            if each.type == "bind" and not each.source.startswith("/"):
                assert (directory / each.source).exists()


def test_the_same_container_makes_the_same_bytes(tmp_path: Path, rootfs: Rootfs) -> None:
    names = ("config.json", "runtime.json", "files/hosts")
    texts = []
    for name in ("one", "two"):
        directory = bundle_dir(tmp_path, name)
        write.write(directory, from_oci.compose(oci(env=("A=b",)), rootfs, RunOptions(pids=5)))
        texts.append([(directory / file).read_bytes() for file in names])
    assert texts[0] == texts[1]
    assert texts[0][0].endswith(b"}\n")


def test_writing_again_replaces_documents_and_keeps_data(tmp_path: Path, rootfs: Rootfs) -> None:
    directory = bundle_dir(tmp_path)
    made = from_oci.compose(oci(volumes=("/data",)), rootfs, RunOptions())
    write.write(directory, made, rootfs)
    (directory / "volumes/0-data/more").write_text("more")
    (directory / "rootfs/file").write_text("kept")
    write.write(directory, from_oci.compose(oci(volumes=("/data",)), rootfs, RunOptions(hostname="other")), rootfs)
    assert json.loads((directory / "config.json").read_text())["hostname"] == "other"
    assert (directory / "volumes/0-data/more").read_text() == "more"
    assert (directory / "rootfs/file").read_text() == "kept"
    assert sorted(os.listdir(directory)) == ["config.json", "files", "rootfs", "runtime.json", "volumes"]


def test_volumes_of_the_image_start_with_its_data(tmp_path: Path, rootfs: Rootfs) -> None:
    (tmp_path / "image/data").chmod(0o1770)
    (tmp_path / "image/link").symlink_to("srv")
    (tmp_path / "image/alias").symlink_to("/data")
    made = from_oci.compose(oci(volumes=("/data", "/alias", "/link", "/none", "/bin/tool")), rootfs, RunOptions())
    directory = bundle_dir(tmp_path)
    write.write(directory, made, rootfs)
    places = {each.seed: directory / each.path for each in made.volumes}
    assert (places["/data"] / "seed").read_text() == "seed"
    assert stat.S_IMODE(places["/data"].stat().st_mode) == 0o1770
    assert os.listdir(places["/srv"]) == ["www"]
    assert len(made.volumes) == 4  # two names of one place are one volume
    assert made.replaced == ("/bin/tool",)
    assert os.listdir(places["/none"]) == []
    assert stat.S_IMODE(places["/none"].stat().st_mode) == 0o755
    assert places["/bin/tool"].is_dir()


def test_a_half_made_volume_is_made_anew(tmp_path: Path, rootfs: Rootfs) -> None:
    directory = bundle_dir(tmp_path)
    (directory / "volumes/0-data.new").mkdir(parents=True)
    (directory / "volumes/0-data.new/half").write_text("half")
    write.write(directory, from_oci.compose(oci(volumes=("/data",)), rootfs, RunOptions()), rootfs)
    assert os.listdir(directory / "volumes") == ["0-data"]
    assert os.listdir(directory / "volumes/0-data") == ["seed"]


def test_an_empty_volume_is_made_as_asked(tmp_path: Path, rootfs: Rootfs) -> None:
    me = os.geteuid(), os.getegid()
    volume = VolumeMount(target="/e", kind="empty", mode=0o2750, uid=me[0], gid=me[1])
    directory = bundle_dir(tmp_path)
    old = os.umask(0o077)
    try:
        write.write(directory, from_oci.compose(oci(), rootfs, RunOptions(mounts=(volume,))), rootfs)
    finally:
        os.umask(old)
    status = (directory / "volumes/0-e").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (*me, 0o2750)


def test_a_config_alone_is_a_bundle_too(tmp_path: Path, rootfs: Rootfs) -> None:
    directory = bundle_dir(tmp_path)
    write.write(directory, from_oci.configure(oci(volumes=("/data",)), rootfs, RunOptions(net="host")))
    assert sorted(os.listdir(directory / "files")) == ["hosts", "resolv.conf"]
    assert (directory / "files/resolv.conf").read_bytes() == Path("/etc/resolv.conf").read_bytes()
    assert os.listdir(directory / "volumes") == ["0-data"]


def test_no_files_where_none_are_needed(tmp_path: Path, rootfs: Rootfs) -> None:
    (tmp_path / "image/etc/hosts").write_text("127.0.0.1 mine\n")
    directory = bundle_dir(tmp_path)
    write.write(directory, from_oci.compose(oci(), rootfs, RunOptions()))
    assert sorted(os.listdir(directory)) == ["config.json", "rootfs", "runtime.json"]


def test_a_failure_leaves_no_config(tmp_path: Path, rootfs: Rootfs) -> None:
    directory = bundle_dir(tmp_path)
    (directory / "runtime.json").mkdir()
    with pytest.raises(OSError, match="runtime"):
        write.write(directory, from_oci.compose(oci(), rootfs, RunOptions()))
    assert not (directory / "config.json").exists()
