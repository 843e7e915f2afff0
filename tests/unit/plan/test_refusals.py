"""What the compiler refuses: valid documents that ask for what cannot work, or must not."""

from __future__ import annotations

import pytest

from pyrkt.base.errors import InvalidSpec
from pyrkt.spec.example import example_config
from pyrkt.spec.runtime import (
    Config,
    ConsoleSize,
    Device,
    IdMapping,
    IntelRdt,
    Mount,
    NetDevice,
    Root,
    Scheduler,
)
from tests.unit.plan.hosts import (
    USERNS,
    bind,
    changed,
    compiled,
    mounted,
    namespaces,
)


@pytest.mark.parametrize(
    ("config", "where", "problem"),
    [
        pytest.param(changed(root=None), "root", "is required", id="no-root"),
        pytest.param(changed(root=Root(path="/")), "root.path", "host's root", id="root-of-the-host"),
        pytest.param(changed(root=Root(path="../.././..")), "root.path", "host's root", id="root-of-the-host-by-dots"),
        pytest.param(example_config().replace(process=None), "process", "is required", id="no-process"),
        pytest.param(
            changed(hostname="", linux={"namespaces": namespaces("pid")}),
            "linux.namespaces",
            "unable to restrict sys entries without a private MNT namespace",
            id="no-mount-ns",
        ),
        pytest.param(
            changed(linux={"namespaces": namespaces("mount")}),
            "hostname",
            "needs a uts namespace",
            id="hostname-of-host",
        ),
        pytest.param(changed(hostname="x" * 65), "hostname", "64 bytes", id="hostname-long"),
        pytest.param(
            changed(hostname="", domainname="d", linux={"namespaces": namespaces("mount")}),
            "domainname",
            "needs a uts namespace",
            id="domainname-of-host",
        ),
        pytest.param(mounted(bind("/proc")), "mounts[7].destination", "only a proc", id="bind-on-proc"),
        pytest.param(
            mounted(Mount(destination="/proc", type="tmpfs")),
            "mounts[7].destination",
            "only a proc",
            id="tmpfs-on-proc",
        ),
        pytest.param(mounted(bind("/proc/self/attr")), "mounts[7].destination", "is inside /proc", id="in-proc"),
        pytest.param(mounted(bind("/x/../proc/sys")), "mounts[7].destination", "is inside /proc", id="in-proc-by-dots"),
        pytest.param(mounted(bind("/a", "")), "mounts[7].source", "needs a source", id="bind-of-nothing"),
        pytest.param(mounted(Mount(destination="/a")), "mounts[7].type", "is required", id="no-type"),
        pytest.param(
            mounted(Mount(destination="/dev/shm", options=("bind", "remount", "size=1"))),
            "mounts[7].options",
            "cannot have any filesystem-specific options applied: 'size=1'",
            id="remount-data",
        ),
        pytest.param(
            mounted(bind("/a", "/b", "idmap")),
            "mounts[7].options",
            "idmap needs uidMappings and gidMappings",
            id="idmap-of-what",
        ),
        pytest.param(
            mounted(Mount(destination="/a", type="tmpfs", options=("idmap",))),
            "mounts[7].uidMappings",
            "only a bind",
            id="idmap-tmpfs",
        ),
        pytest.param(
            mounted(Mount(destination="/a", type="ramfs", options=("tmpcopyup",))),
            "mounts[7].options",
            "tmpcopyup is for a tmpfs",
            id="tmpcopyup",
        ),
        pytest.param(
            changed(linux={"devices": (Device(type="c", path="/", major=1, minor=1),)}),
            "linux.devices[0].path",
            "not a device",
            id="device-root",
        ),
        *(
            pytest.param(
                changed(linux={"sysctl": {name: value}}), f"linux.sysctl.{name}", problem, id=f"sysctl-{label}"
            )
            for name, value, problem, label in (
                ("vm.overcommit_memory", "1", "is not in a separate kernel namespace", "of-the-host"),
                ("kernel.core_pattern", "|/x", "is not in a separate kernel namespace", "gadget"),
                ("vm/overcommit_memory", "1", "is not in a separate kernel namespace", "slashes"),
                ("net/ipv4//x", "1", "is not the name", "two-slashes"),
                ("net/../vm/swappiness", "1", "is not the name", "climbing"),
                ("net.//.vm.swappiness", "1", "is not the name", "climbing-by-dots"),
                ("net/./x", "1", "is not the name", "staying"),
                ("net..x", "1", "is not the name", "two-dots"),
                ("kernel.shm_rmid_forced+net.x", "1", "is not the name", "plus"),
                ("kernel.hostname", "x", "set by another member", "hostname"),
                ("kernel.msgmaxx", "1", "is not in a separate kernel namespace", "longer-name"),
                ("net.ipv4.ip_forward", "1\n2", "line break", "value"),
                ("user.max_user_namespaces", "1", "needs a user namespace", "user"),
            )
        ),
        pytest.param(
            changed(linux={"namespaces": namespaces("mount", "uts"), "sysctl": {"net.x": "1"}}),
            "linux.sysctl.net.x",
            "needs a network namespace",
            id="sysctl-of-a-shared-namespace",
        ),
        pytest.param(
            changed(process={"scheduler": Scheduler(policy="SCHED_OTHER", priority=1)}),
            "process.scheduler.priority",
            "SCHED_OTHER has none",
            id="scheduler-priority",
        ),
        pytest.param(
            changed(process={"scheduler": Scheduler(policy="SCHED_FIFO", period=1)}),
            "process.scheduler.period",
            "SCHED_FIFO has none",
            id="scheduler-period",
        ),
        pytest.param(
            changed(process={"apparmor_profile": "p"}),
            "process.apparmorProfile",
            "does not run apparmor",
            id="apparmor",
        ),
        pytest.param(changed(process={"selinux_label": "l"}), "process.selinuxLabel", "not run selinux", id="selinux"),
        pytest.param(changed(linux={"mount_label": "l"}), "linux.mountLabel", "does not run selinux", id="mount-label"),
        pytest.param(
            changed(process={"terminal": True, "console_size": ConsoleSize(height=70_000, width=1)}),
            "process.consoleSize.height",
            "more than the kernel's",
            id="console-size",
        ),
        pytest.param(
            changed(linux=USERNS | {"uid_mappings": (IdMapping(container_id=1, host_id=1, size=1),)}),
            "linux.uidMappings",
            "needs id 0",
            id="userns-without-root",
        ),
        pytest.param(
            changed(linux={"net_devices": {"eth0": NetDevice(), "eth1": NetDevice(name="eth0")}}),
            "linux.netDevices.eth1",
            "two devices would be called 'eth0'",
            id="netdev-twice",
        ),
        pytest.param(changed(linux={"intel_rdt": IntelRdt()}), "linux.intelRdt", "RDT is not enabled", id="rdt"),
    ],
)
def test_refuses_what_cannot_work_and_says_where(config: Config, where: str, problem: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        compiled(config)
    assert (caught.value.document, caught.value.where) == ("config.json", where)
    assert problem in caught.value.problem
