"""Isolators on the real kernel, what the user is told of each, and `--strict`; rkt's functional tests of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrkt.kernel import process
from pyrkt.spec.capabilities import NUMBERS
from tests.support.pods import Pyrkt, make_aci

pytestmark = [pytest.mark.root, pytest.mark.peers]

JSON = dict[str, Any]
V1 = "/sys/fs/cgroup"
CAPS = "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | tr -d '\\t'"
MEMORY = f"cat {V1}/memory/memory.limit_in_bytes"
QUOTA = f"cat {V1}/cpu/cpu.cfs_quota_us"
SHARES = f"cat {V1}/cpu/cpu.shares"
FOURTEEN, NET_ADMIN = 0xA80425FB, 1 << NUMBERS["CAP_NET_ADMIN"]


def isolator(name: str, value: Any) -> JSON:
    return {"name": name, "value": value}


def retain(*names: str) -> JSON:
    return isolator("os/linux/capabilities-retain-set", {"set": list(names)})


def calls(mode: str, *names: str, errno: str = "") -> JSON:
    return isolator(f"os/linux/seccomp-{mode}-set", {"set": list(names), "errno": errno})


IMAGES: dict[str, list[JSON]] = {
    "plain": [],
    "memory": [isolator("resource/memory", {"limit": "32Mi"})],
    "cpu": [isolator("resource/cpu", {"limit": "500m"})],
    "shares": [isolator("os/linux/cpu-shares", 512)],
    "oom": [isolator("os/linux/oom-score-adj", 99)],
    "oom-low": [isolator("os/linux/oom-score-adj", -50)],
    "nnp": [isolator("os/linux/no-new-privileges", True)],
    "nnp-no": [isolator("os/linux/no-new-privileges", False)],
    "nnp-last": [isolator("os/linux/no-new-privileges", False), isolator("os/linux/no-new-privileges", True)],
    "nnp-unfiltered": [isolator("os/linux/no-new-privileges", False), calls("retain", "@appc.io/all")],
    "caps-retain": [retain("CAP_NET_ADMIN", "CAP_KILL")],
    "caps-remove": [isolator("os/linux/capabilities-remove-set", {"set": ["CAP_MKNOD", "CAP_SYS_ADMIN"]})],
    "no-filter": [calls("retain", "@appc.io/all")],
    "default-filter": [calls("remove", "@appc.io/empty")],
    "no-mkdir": [calls("remove", "mkdir", "mkdirat", errno="EXFULL")],
    "no-mkdir-kill": [calls("remove", "mkdir", "mkdirat")],
    "no-reboot": [calls("remove", "reboot", "clock_settime", errno="EPERM")],
    "rkt-whitelist": [calls("retain", "@rkt/default-whitelist")],
    "docker-whitelist": [calls("retain", "@docker/default-whitelist", errno="EPERM")],
    "io": [
        isolator("resource/block-bandwidth", {"default": True, "limit": "7M"}),
        isolator("resource/block-iops", {"default": True, "limit": "70"}),
    ],
    "network": [isolator("resource/network-bandwidth", {"default": True, "limit": "1M"})],
    "unknown": [isolator("example.com/magic", {"x": 1}), isolator("resource/memory", {"limit": "32M"})],
    "apparmor": [isolator("os/linux/apparmor-profile", {"profile": "no-such-profile"})],
    "selinux": [isolator("os/linux/selinux-context", {"user": "u", "role": "r", "type": "t", "level": "s0"})],
    "request": [isolator("resource/cpu", {"request": "250m", "limit": "500m"})],
}


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with one ACI for each set of isolators."""
    made = Pyrkt(tmp_path_factory.mktemp("isolators"))
    made.ok("fetch", *(
        str(make_aci(made.base / f"{name}.aci", f"example.com/{name}", {"isolators": isolators}))
        for name, isolators in IMAGES.items()
    ))  # fmt: skip
    yield made
    assert made.clean() == []


def run(tool: Pyrkt, image: str, script: str, *flags: str) -> str:
    """Return what the script prints in the image's container; its exit code must be 0."""
    return tool.ok("run", f"example.com/{image}", *flags, "--exec=/bin/sh", "--", "-c", script)


def told(tool: Pyrkt, image: str, *flags: str) -> list[str]:
    """Return what `pyrkt plan` says of the image's isolators."""
    text = tool.ok("plan", *flags, f"example.com/{image}", "--exec=/bin/true")
    return text.partition("## isolators\n\n")[2].splitlines()


@pytest.mark.parametrize(
    ("image", "flags", "script", "text"),
    [
        pytest.param("memory", [], MEMORY, str(32 << 20), id="memory-of-the-image"),
        pytest.param("memory", ["--memory=42Mi"], MEMORY, str(42 << 20), id="memory-of-the-user"),
        pytest.param("cpu", [], QUOTA, "50000", id="cpu-of-the-image"),
        pytest.param("cpu", ["--cpu=900m"], QUOTA, "90000", id="cpu-of-the-user"),
        pytest.param("shares", [], SHARES, "512", id="shares-of-the-image"),
        pytest.param("shares", ["--cpu-shares=12345"], SHARES, "12345", id="shares-of-the-user"),
        pytest.param("request", [], f"{QUOTA}; {SHARES}", "50000\n256", id="request-as-a-share"),
        pytest.param("oom", [], "cat /proc/self/oom_score_adj", "99", id="oom-of-the-image"),
        pytest.param("oom", ["--oom-score-adj=42"], "cat /proc/self/oom_score_adj", "42", id="oom-of-the-user"),
        pytest.param("plain", [], "cat /proc/self/oom_score_adj", None, id="oom-by-default"),
    ],
)
def test_limits_of_the_image_and_of_the_user(
    tool: Pyrkt, image: str, flags: list[str], script: str, text: str | None
) -> None:
    expected = Path("/proc/self/oom_score_adj").read_text().strip() if text is None else text
    assert run(tool, image, f"{script}; true", *flags).rstrip() == expected


def test_a_low_oom_score_is_as_low_as_the_caller_may_go(tool: Pyrkt) -> None:
    found = run(tool, "oom-low", "cat /proc/self/oom_score_adj").strip()
    if process.holds(NUMBERS["CAP_SYS_RESOURCE"]):
        assert (found, told(tool, "oom-low")) == ("-50", ["oom-low: os/linux/oom-score-adj: enforced"])
    else:
        floor = Path("/proc/self/oom_score_adj").read_text().strip()
        assert found == floor
        assert told(tool, "oom-low") == [
            f"oom-low: os/linux/oom-score-adj: modified (the caller may not go below {floor})"
        ]


def test_the_cgroups_are_read_only_in_the_app(tool: Pyrkt) -> None:
    assert "Read-only" in run(tool, "memory", f"mkdir {V1}/memory/x 2>&1; echo 1 2>&1 > {V1}/memory/tasks; true")


@pytest.mark.parametrize(
    ("image", "flags", "mask"),
    [
        pytest.param("plain", [], FOURTEEN, id="default"),
        pytest.param("caps-retain", [], NET_ADMIN | 1 << NUMBERS["CAP_KILL"], id="retain"),
        pytest.param("caps-remove", [], FOURTEEN & ~(1 << NUMBERS["CAP_MKNOD"]), id="remove"),
        pytest.param("caps-retain", ["--caps-remove=CAP_CHOWN"], FOURTEEN & ~1, id="user-removes"),
        pytest.param("caps-remove", ["--caps-retain=CAP_NET_ADMIN"], NET_ADMIN, id="user-retains"),
        pytest.param("caps-retain", ["--caps-retain="], 0, id="user-retains-none"),
    ],
)
@pytest.mark.parametrize("user", ["0", "1000"])
def test_the_bounding_set_is_exactly_that(tool: Pyrkt, image: str, flags: list[str], mask: int, user: str) -> None:
    found = dict(line.split(":") for line in run(tool, image, CAPS, *flags, f"--user={user}").splitlines())
    assert int(found["CapBnd"], 16) == mask
    assert int(found["CapAmb"], 16) == int(found["CapInh"], 16) == 0
    assert int(found["CapEff"], 16) == (mask if user == "0" else 0)


def test_several_apps_have_each_its_own_set(tool: Pyrkt) -> None:
    words = ["--exec=/bin/sh", "--", "-c", f"echo $AC_APP_NAME $({CAPS} | grep Bnd)"]
    out = tool.ok("run", "example.com/plain", *words, "---", "example.com/caps-retain", *words, "---",
                  "example.com/caps-remove", "--caps-retain=CAP_KILL", *words)  # fmt: skip
    found = {name: int(mask, 16) for name, mask in re.findall(r"(\S+) CapBnd:(\w+)", out)}
    assert found == {"plain": FOURTEEN, "caps-retain": NET_ADMIN | 1 << 5, "caps-remove": 1 << 5}


def test_insecure_capabilities_are_all_that_the_caller_has(tool: Pyrkt) -> None:
    tool_all = Pyrkt(tool.base, insecure="image,capabilities")
    found = dict(line.split(":") for line in run(tool_all, "caps-retain", CAPS).splitlines())
    assert int(found["CapBnd"], 16) == process.capabilities()["bounding"]


@pytest.mark.parametrize(
    ("image", "flags", "on"),
    [
        pytest.param("nnp", [], "1", id="true"),
        pytest.param("nnp", ["--user=1000", "--group=100"], "1", id="true-as-a-user"),
        pytest.param("nnp-no", [], "0", id="false"),
        pytest.param("nnp-unfiltered", ["--user=1000", "--group=100"], "0", id="false-as-a-user-without-a-filter"),
        pytest.param("nnp-last", [], "1", id="the-last-one-wins"),
        pytest.param("nnp-last", ["--user=1000", "--group=100"], "1", id="the-last-one-wins-as-a-user"),
        pytest.param("plain", [], "0", id="default"),
    ],
)
def test_no_new_privileges(tool: Pyrkt, image: str, flags: list[str], on: str) -> None:
    assert run(tool, image, "grep NoNewPrivs /proc/self/status", *flags).split()[1] == on


MKDIR = "mkdir /dev/shm/dir-$AC_APP_NAME 2>&1; echo $?"
FILTER = "grep Seccomp: /proc/self/status"


@pytest.mark.parametrize(
    ("image", "flags", "script", "text"),
    [
        pytest.param("plain", [], FILTER, r"Seccomp:\s2", id="default"),
        pytest.param("no-filter", [], FILTER, r"Seccomp:\s0", id="opt-out"),
        pytest.param("default-filter", [], FILTER, r"Seccomp:\s2", id="opt-in"),
        pytest.param("default-filter", [], MKDIR, "^0", id="opt-in-works"),
        pytest.param("no-reboot", [], MKDIR, "^0", id="unrelated-calls-removed"),
        pytest.param("no-mkdir", [], MKDIR, "Exchange full", id="a-call-fails-with-its-errno"),
        pytest.param("no-mkdir-kill", [], MKDIR, "^159", id="a-call-kills-by-sigsys"),
        pytest.param("rkt-whitelist", [], MKDIR, "^0", id="rkts-whitelist"),
        pytest.param("docker-whitelist", [], MKDIR, "^0", id="dockers-whitelist"),
        pytest.param("no-mkdir", ["--seccomp=mode=retain,@appc.io/all"], MKDIR, "^0", id="user-allows"),
        pytest.param(
            "no-filter", ["--seccomp=mode=remove,errno=ENOSPC,mkdir,mkdirat"], MKDIR, "No space left", id="user-forbids"
        ),
    ],
)
def test_seccomp(tool: Pyrkt, image: str, flags: list[str], script: str, text: str) -> None:
    # One pod, two apps: root, and an ordinary user, whose filter is loaded before its rights are gone.
    apps = [
        [f"example.com/{image}", f"--name=as-{user}", *flags, f"--user={user}", f"--group={user}",
         "--exec=/bin/sh", "--", "-c", f"({script}) > /dev/shm/as-{user}; cat /dev/shm/as-{user}; true", "---"]
        for user in (0, 1000)
    ]  # fmt: skip
    found = tool.ok("run", *apps[0], *apps[1])
    assert len(re.findall(text, found, re.MULTILINE)) == 2, found


@pytest.mark.parametrize(
    ("insecure", "filtered"), [("seccomp", False), ("all-run", False), ("capabilities", True), ("paths", True)]
)
def test_insecure_seccomp_is_no_filter(tool: Pyrkt, insecure: str, filtered: bool) -> None:
    found = run(Pyrkt(tool.base, insecure=f"image,{insecure}"), "no-mkdir", f"{FILTER}; {MKDIR}; true")
    assert ("Exchange full" in found) == filtered


def test_block_limits_are_the_disks_of_the_pods_files(tool: Pyrkt) -> None:
    shown = " ".join(f"{V1}/blkio/blkio.throttle.{name}_device" for name in ("read_bps", "write_bps", "read_iops"))
    rates = {line.split()[1] for line in run(tool, "io", f"cat {shown}").splitlines()}
    assert rates == {"7000000", "70"}
    lines = told(tool, "io")
    assert [line.split(" ")[1] for line in lines] == ["resource/block-bandwidth:", "resource/block-iops:"]
    assert all(": enforced" in line or ": modified (on " in line for line in lines)


def test_a_network_limit_is_kept_where_there_is_no_network(tool: Pyrkt) -> None:
    assert told(tool, "network") == ["network: resource/network-bandwidth: enforced"]
    assert told(tool, "network", "--net=host") == [
        "network: resource/network-bandwidth: ignored (the host's network is not the pod's to limit)"
    ]


def test_an_unknown_isolator_is_ignored_and_said(tool: Pyrkt) -> None:
    answer = tool.call("run", "example.com/unknown", "--exec=/bin/true")
    assert answer.code == 0
    assert "unknown: example.com/magic: ignored (unknown)" in answer.err
    assert "resource/memory" not in answer.err
    assert told(tool, "unknown") == [
        "unknown: example.com/magic: ignored (unknown)",
        "unknown: resource/memory: enforced",
    ]


def test_verdicts_stay_with_the_pod(tool: Pyrkt) -> None:
    uuid = tool.ok("prepare", "--quiet", "example.com/unknown", "--memory=64M", "--exec=/bin/true").split()[-1]
    (app,) = tool.pod(uuid)["apps"]
    assert app["isolators"] == [
        {"name": "example.com/magic", "verdict": "ignored", "reason": "unknown"},
        {"name": "resource/memory", "verdict": "modified", "reason": "replaced by --memory"},
    ]
    assert "unknown: resource/memory: modified (replaced by --memory)" in tool.ok("plan", uuid)
    tool.ok("rm", uuid)


def test_a_profile_that_is_not_loaded_is_refused(tool: Pyrkt) -> None:
    answer = tool.call("run", "example.com/apparmor", "--exec=/bin/true")
    assert answer.code == 64
    assert "the profile 'no-such-profile' is not available" in answer.err


@pytest.mark.skipif(Path("/sys/fs/selinux/enforce").exists(), reason="this host labels")
def test_a_context_on_a_host_without_selinux_is_ignored(tool: Pyrkt) -> None:
    assert told(tool, "selinux") == ["selinux: os/linux/selinux-context: ignored (this host has no SELinux)"]


@pytest.mark.parametrize(
    ("image", "flags", "problem"),
    [
        pytest.param("plain", [], "", id="none"),
        pytest.param("memory", [], "", id="enforced"),
        pytest.param("rkt-whitelist", [], "", id="enforced-filter"),
        pytest.param("memory", ["--memory=64M"], "", id="by-the-users-word"),
        pytest.param("unknown", [], "unknown: example.com/magic: ignored (unknown)", id="unknown"),
        pytest.param("nnp-last", [], "ignored (given again further on)", id="twice"),
        pytest.param("request", [], "modified (the request is a share, not a guarantee)", id="modified"),
    ],
)
def test_strict_runs_only_what_is_enforced(tool: Pyrkt, image: str, flags: list[str], problem: str) -> None:
    for verb in ("run", "prepare", "plan") if image == "unknown" else ("run",):
        answer = tool.call(verb, "--strict", f"example.com/{image}", *flags, "--exec=/bin/true")
        assert answer.code == (125 if problem else 0), answer.err
        if problem:
            assert answer.err.startswith("pyrkt: --strict: ")
            assert problem in answer.err


def test_strict_by_the_configuration(tool: Pyrkt) -> None:
    directory = tool.base / "etc/run.d"
    directory.mkdir(parents=True)
    file = directory / "strict.json"
    file.write_text(json.dumps({"rktKind": "run", "rktVersion": "v1", "strict": True}))
    try:
        assert tool.call("run", "example.com/unknown", "--exec=/bin/true").code == 125
        assert tool.call("run", "--strict=false", "example.com/unknown", "--exec=/bin/true").code == 0
        file.write_text(json.dumps({"rktKind": "run", "rktVersion": "v1", "strict": "yes"}))
        assert "strict" in tool.call("run", "example.com/plain", "--exec=/bin/true").err
    finally:
        file.unlink()


def of_a_pod(tool: Pyrkt, path: Path, isolators: list[JSON], *apps: JSON) -> str:
    """Write a pod manifest of the plain image with these isolators of the pod; return the flag."""
    stored = json.loads(tool.ok("image", "list", "--format=json"))
    identity = next(record["id"] for record in stored if record["name"] == "example.com/plain")
    entries = [
        {"name": f"app{number}", "image": {"id": identity}, "app": {"user": "0", "group": "0"} | app}
        for number, app in enumerate(apps)
    ]
    value = {"acVersion": "0.8.11", "acKind": "PodManifest", "apps": entries, "isolators": isolators}
    file = path / "pod.json"
    file.write_text(json.dumps(value))
    return f"--pod-manifest={file}"


def test_isolators_of_the_pod_bound_those_of_the_apps(tool: Pyrkt, tmp_path: Path) -> None:
    own = [isolator("resource/memory", {"limit": "1G"}), isolator("resource/cpu", {"limit": "100m"})]
    shown = {"exec": ["/bin/sh", "-c", f"{MEMORY}; {QUOTA}"]}
    bounds = [isolator("resource/memory", {"limit": "64M"}), isolator("resource/cpu", {"limit": "500m"})]
    flag = of_a_pod(tool, tmp_path, bounds, shown | {"isolators": own})
    answer = tool.call("run", flag)
    assert (answer.code, answer.out.split()) == (0, ["64000000", "10000"])
    assert "app0: resource/memory: modified (the pod has no more)" in answer.err
    assert "resource/cpu" not in answer.err


def test_the_pods_own_cgroup_has_its_limits(tool: Pyrkt, tmp_path: Path) -> None:
    bounds = [
        isolator("resource/memory", {"limit": "64M"}),
        isolator("resource/cpu", {"limit": "500m"}),
        isolator("os/unix/sysctl", {"kernel.shmmax": "4097"}),
    ]
    app = {"exec": ["/bin/sh", "-c", "cat /proc/sys/kernel/shmmax; exec sleep 600"]}
    uuid = tool.detached(of_a_pod(tool, tmp_path, bounds, app, app))
    try:
        assert Path(V1, f"memory/pyrkt-{uuid}/memory.limit_in_bytes").read_text() == "64000000\n"
        assert Path(V1, f"cpu/pyrkt-{uuid}/cpu.cfs_quota_us").read_text() == "50000\n"
        assert tool.pod(uuid)["isolators"][0] == {"name": "resource/memory", "verdict": "enforced", "reason": ""}
    finally:
        tool.ok("stop", "--force", uuid)


def test_all_apps_of_a_pod_together_have_no_more_memory(tool: Pyrkt, tmp_path: Path) -> None:
    hog = {"exec": ["/bin/sh", "-c", "head -c 40000000 /dev/zero > /dev/shm/$AC_APP_NAME; echo done; sleep 600"]}
    flag = of_a_pod(tool, tmp_path, [isolator("resource/memory", {"limit": "64M"})], hog, hog)
    assert tool.call("run", flag).code == 137


@pytest.mark.parametrize("key", ["kernel.core_pattern", "vm.overcommit_memory", "net.ipv4/../../kernel.core_pattern"])
def test_kernel_settings_that_are_the_hosts_are_refused(tool: Pyrkt, tmp_path: Path, key: str) -> None:
    flag = of_a_pod(tool, tmp_path, [isolator("os/unix/sysctl", {key: "1"})], {"exec": ["/bin/true"]})
    answer = tool.call("run", flag)
    assert answer.code == 64
    assert "is not a kernel setting that a pod has for itself" in answer.err


def test_limits_that_cannot_be_meant_are_refused(tool: Pyrkt) -> None:
    answer = tool.call("run", "example.com/plain", "--memory=16m")
    assert answer.code == 2
    assert "m is a thousandth" in answer.err
