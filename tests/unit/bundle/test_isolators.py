"""Isolators and options: what is enforced, and what the user is told."""

from __future__ import annotations

from typing import Any

import pytest

from pyrkt.base.errors import InvalidSpec, UsageError
from pyrkt.bundle import isolators, seccomp
from pyrkt.bundle.isolators import Limits, Report
from pyrkt.bundle.options import DeviceNode, IoLimit, RunOptions, SeccompChoice, Signs
from pyrkt.kernel import process
from pyrkt.spec.appc import Isolator
from pyrkt.spec.capabilities import NAMES, mask
from pyrkt.spec.runtime import BlockIO, Cpu, DeviceRule, Memory, Pids, ThrottleDevice, WeightDevice

RETAIN, REMOVE = "os/linux/capabilities-retain-set", "os/linux/capabilities-remove-set"
CALLS, NO_CALLS = "os/linux/seccomp-retain-set", "os/linux/seccomp-remove-set"
NONE = RunOptions()


def read(*pairs: tuple[str, Any], options: RunOptions = NONE) -> tuple[Limits, list[str]]:
    limits, reports = isolators.read([Isolator(name=name, value=value) for name, value in pairs], options)
    assert [report.name for report in reports] == [name for name, _ in pairs]
    return limits, [str(report).partition(": ")[2] for report in reports]


@pytest.mark.parametrize(
    ("name", "value", "limits", "report"),
    [
        pytest.param("resource/memory", {"limit": "1Gi"}, Limits(memory=1 << 30), "enforced", id="memory"),
        pytest.param(
            "resource/memory",
            {"limit": 2048, "request": "1k"},
            Limits(memory=2048, memory_request=1000),
            "enforced",
            id="memory-request",
        ),
        pytest.param("resource/cpu", {"limit": "750m"}, Limits(cpu_milli=750), "enforced", id="cpu"),
        pytest.param(
            "resource/cpu",
            {"limit": "2", "request": "500m"},
            Limits(cpu_milli=2000, cpu_shares=512),
            "modified (the request is a share, not a guarantee)",
            id="cpu-request",
        ),
        pytest.param("resource/cpu", {"request": "1m"}, Limits(cpu_shares=2), "modified (the request", id="cpu-least"),
        pytest.param("os/linux/cpu-shares", 12345, Limits(cpu_shares=12345), "enforced", id="shares"),
        pytest.param("os/linux/oom-score-adj", -50, Limits(oom_score_adj=-50), "enforced", id="oom"),
        pytest.param("os/linux/no-new-privileges", False, Limits(no_new_privileges=False), "enforced", id="privileges"),
        pytest.param(RETAIN, {"set": ["CAP_KILL"]}, Limits(retain=("CAP_KILL",)), "enforced", id="caps-retain"),
        pytest.param(REMOVE, {"set": ["CAP_KILL"]}, Limits(remove=("CAP_KILL",)), "enforced", id="caps-remove"),
        pytest.param(
            CALLS,
            {"set": ["read"], "errno": "EPERM"},
            Limits(filter=("retain", ("read",), "EPERM")),
            "enforced (with execve, exit",
            id="seccomp-retain",
        ),
        pytest.param(
            CALLS,
            {"set": ["@appc.io/all"], "errno": None},
            Limits(filter=("retain", ("@appc.io/all",), "")),
            "enforced",
            id="seccomp-retain-all",
        ),
        pytest.param(
            NO_CALLS, {"set": ["stat"]}, Limits(filter=("remove", ("stat",), "")), "enforced", id="seccomp-remove"
        ),
        pytest.param(
            NO_CALLS,
            {"set": ["@appc.io/empty"]},
            Limits(filter=("remove", ("@appc.io/empty",), "")),
            "enforced (the default filter stands)",
            id="seccomp-remove-nothing",
        ),
        pytest.param(
            "os/linux/selinux-context",
            {"user": "u", "role": "r", "type": "t", "level": "s0:c1"},
            Limits(selinux_label="u:r:t:s0:c1"),
            "enforced",
            id="selinux",
        ),
        pytest.param(
            "os/linux/apparmor-profile", {"profile": "p"}, Limits(apparmor_profile="p"), "enforced", id="apparmor"
        ),
        pytest.param(
            "resource/block-iops", {"default": True, "limit": "1"}, Limits(), "ignored (no io controller", id="iops"
        ),
        pytest.param(
            NO_CALLS,
            {"set": ["@appc.io/empty", "stat"]},
            Limits(filter=("remove", ("@appc.io/empty", "stat"), "")),
            "enforced (the default filter stands)",
            id="seccomp-empty-masks-the-rest",
        ),
        pytest.param(
            CALLS,
            {"set": ["@docker/default-whitelist", *seccomp.ALWAYS]},
            Limits(filter=("retain", ("@docker/default-whitelist", *seccomp.ALWAYS), "")),
            "enforced",
            id="seccomp-nothing-to-add",
        ),
        pytest.param(
            "os/linux/cpu-shares", 1, Limits(cpu_shares=2), "modified (the kernel takes 2 to 262144", id="shares-few"
        ),
        pytest.param(
            "os/linux/cpu-shares", 1 << 30, Limits(cpu_shares=1 << 18), "modified (the kernel takes", id="shares-many"
        ),
        pytest.param(
            "resource/network-bandwidth",
            {"default": True, "limit": "1"},
            Limits(),
            "ignored (needs a net",
            id="network",
        ),
        pytest.param("os/unix/sysctl", {}, Limits(), "ignored (belongs to a pod", id="sysctl"),
        pytest.param("example.com/x", 1, Limits(), "ignored (unknown)", id="unknown"),
    ],
)
def test_reads_and_reports(name: str, value: Any, limits: Limits, report: str) -> None:
    found, reports = read((name, value))
    assert found == limits
    assert reports[0].startswith(report)


LABEL = {"user": "u", "role": "r", "type": "t", "level": "s0"}
LABELLED = Limits(selinux_label="u:r:t:s0")
RATE = {"default": True, "limit": "1M"}
DISK = (8, 0)


@pytest.mark.parametrize(
    ("name", "value", "signs", "limits", "report"),
    [
        pytest.param("os/linux/selinux-context", LABEL, Signs(selinux=True), LABELLED, "enforced", id="selinux"),
        pytest.param(
            "os/linux/selinux-context", LABEL, Signs(), Limits(), "ignored (this host has no", id="no-selinux"
        ),
        pytest.param(
            "os/linux/apparmor-profile",
            {"profile": "p"},
            Signs(apparmor=frozenset("pq")),
            Limits(apparmor_profile="p"),
            "enforced",
            id="profile-loaded",
        ),
        pytest.param(
            "os/linux/apparmor-profile",
            {"profile": "p"},
            Signs(apparmor=frozenset("*")),
            Limits(apparmor_profile="p"),
            "enforced",
            id="profiles-not-to-be-seen",
        ),
        pytest.param(
            "resource/block-bandwidth",
            RATE,
            Signs(disk=DISK, disks=1),
            Limits(disk=DISK, block_bps=1_000_000),
            "enforced",
            id="bandwidth",
        ),
        pytest.param(
            "resource/block-iops",
            RATE,
            Signs(disk=DISK, disks=2),
            Limits(disk=DISK, block_iops=1_000_000),
            "modified (on 8:0, the disk of the app's files; the host has others)",
            id="iops-two-disks",
        ),
        pytest.param("resource/block-iops", RATE, Signs(), Limits(), "ignored (no io controller", id="no-disk"),
        pytest.param(
            "resource/network-bandwidth",
            RATE,
            Signs(shaped=True),
            Limits(network_bps=1_000_000),
            "enforced",
            id="shaped",
        ),
        pytest.param(
            "resource/network-bandwidth",
            RATE,
            Signs(shaped=True, apps=2),
            Limits(network_bps=1_000_000),
            "modified (for all apps of the pod together",
            id="shaped-for-two",
        ),
        pytest.param(
            "resource/network-bandwidth", RATE, Signs(network="why not"), Limits(), "ignored (why not)", id="not-shaped"
        ),
        pytest.param("os/linux/oom-score-adj", -5, Signs(), Limits(oom_score_adj=-5), "enforced", id="oom-by-root"),
        pytest.param(
            "os/linux/oom-score-adj",
            -5,
            Signs(oom_floor=3),
            Limits(oom_score_adj=3),
            "modified (the caller may",
            id="oom",
        ),
        pytest.param(
            RETAIN,
            {"set": ["CAP_KILL", "CAP_SYS_TIME"]},
            Signs(capabilities=frozenset(("CAP_KILL",))),
            Limits(retain=("CAP_KILL", "CAP_SYS_TIME")),
            "modified (the caller has no CAP_SYS_TIME to give)",
            id="caps-that-nobody-has",
        ),
        pytest.param(
            RETAIN,
            {"set": ["CAP_KILL"]},
            Signs(capabilities=frozenset(("CAP_KILL",))),
            Limits(retain=("CAP_KILL",)),
            "enforced",
            id="caps-that-are-there",
        ),
    ],
)
def test_the_host_decides(name: str, value: Any, signs: Signs, limits: Limits, report: str) -> None:
    found, reports = read((name, value), options=RunOptions(signs=signs))
    assert found == limits
    assert reports[0].startswith(report)


@pytest.mark.parametrize("profiles", [None, frozenset("q")], ids=["no-apparmor", "not-loaded"])
def test_a_profile_that_is_not_loaded_is_refused(profiles: frozenset[str] | None) -> None:
    with pytest.raises(InvalidSpec, match="the profile 'p' is not available") as caught:
        read(("os/linux/apparmor-profile", {"profile": "p"}), options=RunOptions(signs=Signs(apparmor=profiles)))
    assert "apparmor_parser" in caught.value.hint


def pod(*pairs: tuple[str, Any], **options: Any) -> RunOptions:
    return RunOptions(pod_isolators=tuple(Isolator(name=name, value=value) for name, value in pairs), **options)


def test_the_pods_bound_the_apps() -> None:
    options = pod(("resource/memory", {"limit": "1G"}), ("resource/cpu", {"limit": "1"}))
    limits, reports = read(("resource/memory", {"limit": "2G"}), ("resource/cpu", {"limit": "500m"}), options=options)
    assert (limits.memory, limits.cpu_milli) == (10**9, 500)
    assert reports == ["modified (the pod has no more)", "enforced"]
    # What an app does not ask for, the pod's own cgroup bounds.
    assert read(options=options)[0] == Limits()


def test_labels_of_the_pod_are_for_apps_without() -> None:
    context, profile = ("os/linux/selinux-context", LABEL), ("os/linux/apparmor-profile", {"profile": "p"})
    options = pod(context, profile, ("os/unix/sysctl", {"kernel.shmmax": "1"}))
    limits, _ = read(options=options)
    assert (limits.selinux_label, limits.apparmor_profile) == ("u:r:t:s0", "p")
    assert limits.sysctl == {"kernel.shmmax": "1"}
    limits, _ = read(("os/linux/apparmor-profile", {"profile": "q"}), options=options)
    assert (limits.selinux_label, limits.apparmor_profile) == ("u:r:t:s0", "q")


def test_isolators_of_a_pod() -> None:
    options = pod(
        ("resource/memory", {"limit": "5G"}),
        ("resource/memory", {"limit": "1G", "request": "1M"}),
        ("os/linux/no-new-privileges", True),
        ("resource/block-iops", RATE),
        ("resource/network-bandwidth", RATE),
        signs=Signs(disk=DISK, disks=1, shaped=True, apps=3),
    )
    limits, reports = isolators.read_pod(options.pod_isolators, options)
    assert [str(report) for report in reports] == [
        "resource/memory: ignored (given again further on)",
        "resource/memory: enforced",
        "os/linux/no-new-privileges: ignored (belongs to an app, not to a pod)",
        "resource/block-iops: enforced",
        "resource/network-bandwidth: enforced",
    ]
    made = isolators.shared_resources(limits)
    assert made is not None
    assert made.memory == Memory(limit=10**9, reservation=10**6)
    assert made.block_io is not None
    assert made.block_io.throttle_read_iops_device == (ThrottleDevice(major=8, minor=0, rate=10**6),)
    assert (made.devices, made.cpu, limits.network_bps) == ((), None, 10**6)
    assert isolators.shared_resources(Limits()) is None


def test_an_explicit_share_beats_one_from_a_request() -> None:
    pairs: list[tuple[str, Any]] = [("os/linux/cpu-shares", 77), ("resource/cpu", {"limit": "1", "request": "500m"})]
    assert read(*pairs)[0].cpu_shares == 77
    assert read(*reversed(pairs))[0].cpu_shares == 77


def test_a_disk_that_the_user_limits_is_his_alone() -> None:
    limits = Limits(disk=DISK, block_bps=5, block_iops=6)
    made = isolators.resources(limits, NONE).block_io
    assert made == BlockIO(
        throttle_read_bps_device=(ThrottleDevice(major=8, minor=0, rate=5),),
        throttle_write_bps_device=(ThrottleDevice(major=8, minor=0, rate=5),),
        throttle_read_iops_device=(ThrottleDevice(major=8, minor=0, rate=6),),
        throttle_write_iops_device=(ThrottleDevice(major=8, minor=0, rate=6),),
    )
    own = RunOptions(io=(IoLimit(major=8, minor=0, read_bps=1),))
    made = isolators.resources(limits, own).block_io
    assert made == BlockIO(throttle_read_bps_device=(ThrottleDevice(major=8, minor=0, rate=1),))


def test_in_force_is_each_name_once_the_options_last() -> None:
    given = [
        Isolator(name="resource/memory", value={"limit": "1"}),
        Isolator(name="resource/memory", value={"limit": "2"}),
        Isolator(name="os/linux/cpu-shares", value=5),
        Isolator(name=RETAIN, value={"set": ["CAP_KILL"]}),
        Isolator(name="example.com/x", value=1),
    ]
    choice = SeccompChoice(mode="remove", syscalls=("stat",), errno="EPERM")
    found = isolators.in_force(given, RunOptions(cpu_shares=9, cpu_milli=250, caps_remove=(), seccomp=choice))
    assert [(each.name, each.value) for each in found] == [
        ("resource/memory", {"limit": "2"}),
        ("resource/cpu", {"limit": "250m"}),
        ("os/linux/cpu-shares", 9),
        (REMOVE, {"set": []}),
        (NO_CALLS, {"set": ["stat"], "errno": "EPERM"}),
    ]
    off = RunOptions(caps_retain=(), seccomp=choice, insecure=frozenset(("seccomp", "capabilities")))
    assert isolators.in_force(given[3:], off) == ()


def test_the_last_one_counts() -> None:
    limits, reports = read(("resource/memory", {"limit": "1"}), ("resource/memory", {"limit": "2"}))
    assert limits.memory == 2
    assert reports == ["ignored (given again further on)", "enforced"]


@pytest.mark.parametrize(
    ("name", "value", "options", "limits", "flag"),
    [
        ("resource/memory", {"limit": "1"}, RunOptions(memory=5), Limits(memory=5), "--memory"),
        ("resource/cpu", {"limit": "1"}, RunOptions(cpu_milli=5), Limits(cpu_milli=5), "--cpu"),
        ("os/linux/cpu-shares", 1, RunOptions(cpu_shares=5), Limits(cpu_shares=5), "--cpu-shares"),
        ("os/linux/oom-score-adj", 1, RunOptions(oom_score_adj=0), Limits(oom_score_adj=0), "--oom-score-adj"),
        (
            "os/linux/no-new-privileges",
            False,
            RunOptions(no_new_privileges=True),
            Limits(no_new_privileges=True),
            "--no-new-privileges",
        ),
        (RETAIN, {"set": []}, RunOptions(caps_remove=("CAP_KILL",)), Limits(remove=("CAP_KILL",)), "--caps-remove"),
        (REMOVE, {"set": []}, RunOptions(caps_retain=()), Limits(retain=()), "--caps-retain"),
        (
            CALLS,
            {"set": ["read"]},
            RunOptions(seccomp=SeccompChoice(mode="remove", syscalls=("stat",))),
            Limits(filter=("remove", ("stat",), "")),
            "--seccomp",
        ),
        (NO_CALLS, {"set": ["x"]}, RunOptions(insecure=frozenset({"seccomp"})), Limits(), "--insecure-options=seccomp"),
        (RETAIN, {"set": []}, RunOptions(insecure=frozenset({"capabilities"})), Limits(), "--insecure-options=capabil"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_users_word_replaces_the_images(
    name: str, value: Any, options: RunOptions, limits: Limits, flag: str
) -> None:
    found, reports = read((name, value), options=options)
    assert found == limits
    assert reports[0].startswith(f"modified (replaced by {flag}")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (RETAIN, {"set": ["CAP_FLY"]}, "no capability is called 'CAP_FLY'"),
        (CALLS, {"set": ["@x/y"]}, "no set is called '@x/y'"),
        (NO_CALLS, {"set": ["read"], "errno": "EXX"}, "no error is called 'EXX'"),
    ],
)
def test_refuses_names_that_do_not_exist(name: str, value: Any, problem: str) -> None:
    with pytest.raises(InvalidSpec, match=problem):
        read((name, value))


def test_refuses_options_that_do_not_exist() -> None:
    with pytest.raises(UsageError, match="--caps-retain: no capability is called 'CAP_FLY'"):
        read(options=RunOptions(caps_retain=("CAP_FLY",)))
    with pytest.raises(InvalidSpec, match="no set is called '@x/y'"):
        read(options=RunOptions(seccomp=SeccompChoice(mode="retain", syscalls=("@x/y",))))
    with pytest.raises(UsageError, match="exclude each other"):
        RunOptions(caps_retain=(), caps_remove=())
    with pytest.raises(UsageError, match="needs id mappings"):
        RunOptions(userns=True)


def test_reports_read_as_lines() -> None:
    assert str(Report(name="a", verdict="enforced")) == "a: enforced"
    assert str(Report(name="a", verdict="ignored", reason="why")) == "a: ignored (why)"


@pytest.mark.parametrize(
    ("limits", "memory", "cpu"),
    [
        pytest.param(Limits(), None, None, id="none"),
        pytest.param(Limits(memory=5), Memory(limit=5), None, id="memory"),
        pytest.param(Limits(memory=5, memory_request=3), Memory(limit=5, reservation=3), None, id="request"),
        pytest.param(Limits(memory=5, memory_request=5), Memory(limit=5), None, id="request-is-limit"),
        pytest.param(Limits(memory_request=5), Memory(reservation=5), None, id="request-alone"),
        pytest.param(Limits(cpu_milli=750), None, Cpu(quota=75_000, period=100_000), id="cpu"),
        pytest.param(Limits(cpu_milli=1), None, Cpu(quota=1000, period=100_000), id="cpu-least"),
        pytest.param(Limits(cpu_shares=5), None, Cpu(shares=5), id="shares"),
        pytest.param(Limits(cpu_milli=10, cpu_shares=5), None, Cpu(shares=5, quota=1000, period=100_000), id="both"),
    ],
)
def test_memory_and_cpu(limits: Limits, memory: Memory | None, cpu: Cpu | None) -> None:
    made = isolators.resources(limits, NONE)
    assert (made.memory, made.cpu, made.pids, made.block_io) == (memory, cpu, None, None)


def test_pids_and_io_come_from_options() -> None:
    options = RunOptions(
        pids=7,
        io_weight=100,
        io=(
            IoLimit(major=8, minor=0, read_bps=1, write_iops=2),
            IoLimit(major=8, minor=16, write_bps=3, read_iops=4, weight=50),
        ),
    )
    made = isolators.resources(Limits(), options)
    assert made.pids == Pids(limit=7)
    assert made.block_io == BlockIO(
        weight=100,
        weight_device=(WeightDevice(major=8, minor=16, weight=50),),
        throttle_read_bps_device=(ThrottleDevice(major=8, minor=0, rate=1),),
        throttle_write_bps_device=(ThrottleDevice(major=8, minor=16, rate=3),),
        throttle_read_iops_device=(ThrottleDevice(major=8, minor=16, rate=4),),
        throttle_write_iops_device=(ThrottleDevice(major=8, minor=0, rate=2),),
    )


def test_devices_are_denied_but_for_a_few() -> None:
    node = DeviceNode(path="/dev/fuse", kind="c", major=10, minor=229, access="rw")
    rules = isolators.resources(Limits(), RunOptions(devices=(node,))).devices
    assert rules[0] == DeviceRule(allow=False, access="rwm")
    assert all(rule.allow for rule in rules[1:])
    assert DeviceRule(allow=True, type="c", major=1, minor=3, access="rwm") in rules
    assert DeviceRule(allow=True, type="c", major=10, minor=229, access="rw") in rules
    made = [rule for rule in rules if rule.allow and "m" in rule.access]
    assert (5, 2) not in {(rule.major, rule.minor) for rule in made}
    assert all(rule.major is not None for rule in made)
    open_rules = isolators.resources(Limits(), RunOptions(insecure=frozenset({"paths"}))).devices
    assert open_rules == (DeviceRule(allow=True, access="rwm"),)


@pytest.mark.parametrize(
    ("limits", "options", "expected"),
    [
        pytest.param(Limits(), NONE, 14, id="default"),
        pytest.param(Limits(retain=("CAP_SYS_TIME", "CAP_KILL")), NONE, ("CAP_KILL", "CAP_SYS_TIME"), id="retain"),
        pytest.param(Limits(retain=()), NONE, (), id="retain-none"),
        pytest.param(Limits(remove=("CAP_KILL", "CAP_SYS_ADMIN")), NONE, 13, id="remove"),
    ],
)
def test_capabilities(limits: Limits, options: RunOptions, expected: int | tuple[str, ...]) -> None:
    held = isolators.capability_set(limits, options)
    assert len(held) == expected if isinstance(expected, int) else held == expected
    assert list(held) == sorted(held)


def test_insecure_capabilities_are_all_that_the_caller_could_give() -> None:
    held = isolators.capability_set(Limits(retain=()), RunOptions(insecure=frozenset({"capabilities"})))
    assert mask(held) == process.capabilities()["bounding"] & (1 << len(NAMES)) - 1


def test_filters() -> None:
    assert isolators.filter_of(Limits(), RunOptions(insecure=frozenset({"seccomp"})), ()) is None
    default = isolators.filter_of(Limits(), NONE, ())
    assert isolators.filter_of(Limits(filter=("remove", ("@appc.io/empty",), "")), NONE, ()) == default
    assert isolators.filter_of(Limits(filter=("retain", ("@appc.io/all",), "")), NONE, ()) is None
    removed = isolators.filter_of(Limits(filter=("remove", ("stat",), "")), NONE, ())
    assert removed is not None
    assert removed.default_action == "SCMP_ACT_ALLOW"


@pytest.mark.parametrize(
    ("name", "host_network", "own"),
    [
        ("kernel.shmmax", False, True),
        ("kernel.msgmni", True, True),
        ("fs.mqueue.msg_max", False, True),
        ("net.ipv4.ip_forward", False, True),
        ("net.ipv4.conf.eth0-1.rp_filter", False, True),
        ("net.ipv4.ip_forward", True, False),
        ("kernel.core_pattern", False, False),
        ("kernel.shm_rmid_forced+x", False, False),
        ("kernel/shmmax", False, False),
        ("net.ipv4/../../kernel.core_pattern", False, False),
        ("net.", False, False),
        ("vm.overcommit_memory", False, False),
        ("net.a\n", False, False),
    ],
)
def test_pods_have_only_kernel_settings_of_their_own(name: str, host_network: bool, own: bool) -> None:
    pod = [Isolator(name="resource/memory", value={"limit": "1"}), Isolator(name="os/unix/sysctl", value={name: "1"})]
    if own:
        assert isolators.pod_sysctl(pod, host_network=host_network) == {name: "1"}
        return
    with pytest.raises(InvalidSpec, match="is not a kernel setting that a pod has for itself"):
        isolators.pod_sysctl(pod, host_network=host_network)


def test_in_the_hosts_ipc_namespace_no_setting_of_it_is_the_pods() -> None:
    setting = [Isolator(name="os/unix/sysctl", value={"kernel.shmmax": "1"})]
    with pytest.raises(InvalidSpec, match="is not a kernel setting"):
        isolators.pod_sysctl(setting, host_network=False, host_ipc=True)


def test_a_kernel_setting_is_one_line() -> None:
    with pytest.raises(InvalidSpec):
        isolators.pod_sysctl([Isolator(name="os/unix/sysctl", value={"kernel.shmmax": "1\n2"})], host_network=False)
