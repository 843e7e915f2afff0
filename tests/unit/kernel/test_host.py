"""Facts of the host: what /proc says, read as it is written on hosts of each kind."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pyrkt.kernel.host import Host, cgroup_mounts, probe

V1_LINE = "35 30 0:31 / /sys/fs/cgroup/{0} rw,nosuid shared:9 - cgroup cgroup rw,{1}\n"
V2_LINE = "42 30 0:28 {1} {0} rw - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("mountinfo", "own", "expected"),
    [
        pytest.param("22 1 8:1 / / rw - ext4 /dev/sda rw\n", "", (), id="none"),
        pytest.param(
            V2_LINE.format("/sys/fs/cgroup", "/"),
            "0::/user.slice/a.scope\n",
            (("/sys/fs/cgroup", "", "/user.slice/a.scope"),),
            id="v2",
        ),
        pytest.param(
            V1_LINE.format("cpu,cpuacct", "cpu,cpuacct") + V1_LINE.format("systemd", "xattr,name=systemd"),
            "5:cpu,cpuacct:/x\n1:name=systemd:/\n",
            (("/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct", "/x"), ("/sys/fs/cgroup/systemd", "none,name=systemd", "")),
            id="v1",
        ),
        pytest.param(
            V1_LINE.format("memory", "memory,release_agent=/x") + V1_LINE.format("again", "memory"),
            "3:memory:/a:b\n",
            (("/sys/fs/cgroup/memory", "memory", "/a:b"),),
            id="mounted-twice",
        ),
        pytest.param(
            V2_LINE.format("/cg\\040x", "/pod"), "0::/pod/app\n", (("/cg x", "", "/app"),), id="part-and-blank"
        ),
        pytest.param(V2_LINE.format("/cg", "/pod"), "0::/podium\n", (("/cg", "", ""),), id="outside-the-part"),
    ],
)
def test_reads_cgroup_mounts(mountinfo: str, own: str, expected: tuple[tuple[str, str, str], ...]) -> None:
    assert cgroup_mounts(mountinfo, own) == expected


def test_knows_this_host() -> None:
    host = probe()
    assert host.euid == os.geteuid()
    assert f"{host.kernel[0]}.{host.kernel[1]}" in os.uname().release
    assert host.last_cap >= 37
    assert host.cgroup in {"v1", "hybrid", "v2"}
    assert host == probe()


@pytest.mark.parametrize(
    ("facts", "administers", "privileged"),
    [
        pytest.param({}, True, True, id="root"),
        pytest.param({"euid": 1000}, False, False, id="ordinary-user"),
        pytest.param({"effective": (1 << 41) - 1 - (1 << 21)}, False, False, id="root-without-CAP_SYS_ADMIN"),
        pytest.param({"in_userns": True}, True, False, id="root-of-a-user-namespace"),
        pytest.param({"in_userns": True, "alone": True}, False, False, id="root-of-nobody-else"),
    ],
)
def test_who_may_do_what(facts: dict[str, Any], administers: bool, privileged: bool) -> None:
    root = Host(kernel=(6, 1), euid=0, egid=0, last_cap=40, bounding=(1 << 41) - 1, cgroup="v2")
    host = root.replace(**facts)
    assert (host.administers, host.privileged) == (administers, privileged)
