"""What only a host with every capability shows: raised limits, real time, a lowered OOM score; and AppArmor."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import oci
from tests.support.running import executed, executed_process, started

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

ALL = sorted(os.sched_getaffinity(0))
APPARMOR = Path("/sys/module/apparmor/parameters/enabled")


def test_limits_above_the_callers(runtime: Runtime, box: Bundle) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    box.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": hard + 1, "hard": hard + 2}]
    show = ("sh", "-c", "ulimit -n; ulimit -H -n")
    name = started(runtime, box)
    assert executed(runtime, name, *show).split() == [str(hard + 1), str(hard + 2)]
    assert runtime.run(box.runs(*show).path).out.split() == [str(hard + 1), str(hard + 2)]


def test_limits_above_the_callers_for_mapped_users(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        box.config["linux"][kind] = [{"containerID": 0, "hostID": 0, "size": 65536}]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    box.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": hard + 1, "hard": hard + 2}]
    box.config["process"]["oomScoreAdj"] = -500
    answer = runtime.run(box.script("ulimit -n; ulimit -H -n; cat /proc/self/oom_score_adj").path)
    assert answer.out.split() == [str(hard + 1), str(hard + 2), "-500"], answer.err


@pytest.mark.parametrize("score", [-1000, -500, 0, 1000])
def test_oom_score(runtime: Runtime, box: Bundle, score: int) -> None:
    box.config["process"]["oomScoreAdj"] = score
    assert runtime.run(box.runs("cat", "/proc/self/oom_score_adj").path).out.strip() == str(score)


def test_every_capability(runtime: Runtime, box: Bundle) -> None:
    from pyrkt.kernel.process import last_cap
    from pyrkt.spec.capabilities import NAMES

    box.config["process"]["capabilities"] = {
        kind: list(NAMES) for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")
    }
    fields = oci.status_fields(runtime.run(box.runs("cat", "/proc/self/status").path).out)
    full = (1 << last_cap() + 1) - 1
    assert {fields[f"Cap{kind}"] for kind in ("Bnd", "Eff", "Prm", "Inh", "Amb")} == {f"{full:016x}"}


@pytest.mark.parametrize(("policy", "number"), [("SCHED_FIFO", os.SCHED_FIFO), ("SCHED_RR", os.SCHED_RR)])
def test_real_time(runtime: Runtime, box: Bundle, policy: str, number: int) -> None:
    box.config["process"]["scheduler"] = {"policy": policy, "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
    pid = runtime.state(started(runtime, box))["pid"]
    assert os.sched_getscheduler(pid) == number | os.SCHED_RESET_ON_FORK
    assert os.sched_getparam(pid).sched_priority == 3


@pytest.mark.parametrize("initial", [True, False])
def test_processors_of_exec(runtime: Runtime, box: Bundle, *, initial: bool) -> None:
    name = started(runtime, box)
    affinity: dict[str, Any] = {"final": str(ALL[-1])} | ({"initial": str(ALL[0])} if initial else {})
    answer = executed_process(
        runtime, box.path, name, args=["grep", "Cpus_allowed_list:", "/proc/self/status"], execCPUAffinity=affinity
    )
    assert answer.out.split() == ["Cpus_allowed_list:", str(ALL[-1])], answer.err


def test_a_pinned_caller_pins_nobody(runtime: Runtime, box: Bundle) -> None:
    box.runs("grep", "Cpus_allowed_list:", "/proc/self/status")
    free = runtime.run(box.path).out
    assert runtime.run(box.path, preexec_fn=lambda: os.sched_setaffinity(0, ALL[:1])).out == free


def test_exec_is_born_in_the_cgroup_and_sees_its_namespace(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["cgroupsPath"] = "/pyrkt-test-exec"
    name = started(runtime, box)
    assert executed(runtime, name, "cat", "/proc/self/cgroup") == "0::/\n"
    pids = Path("/sys/fs/cgroup/pyrkt-test-exec/cgroup.procs")
    with subprocess.Popen(runtime.argv("exec", name, "sleep", "300")) as process:
        assert oci.eventually(lambda: len(pids.read_text().split()) == 2)
        process.kill()


def test_a_killed_call_on_an_older_kernel(runtime: Runtime, box: Bundle) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}
    box.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    box.config["process"]["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    assert runtime.run(box.runs("mkdir", "/dev/shm/foo").path).code == 128 + signal.SIGSYS


def test_a_network_device_moves(runtime: Runtime, box: Bundle) -> None:
    if subprocess.run(["ip", "link", "add", "pyr0", "type", "veth", "peer", "name", "pyr1"], check=False).returncode:
        pytest.skip("this kernel cannot make a pair of network devices")
    try:
        subprocess.run(["ip", "address", "add", "10.99.1.2/24", "dev", "pyr0"], check=True)
        (box.rootfs / "bin/ip").symlink_to("busybox")
        box.config["linux"]["netDevices"] = {"pyr0": {"name": "ctr0"}}
        answer = runtime.run(box.runs("ip", "address", "show", "dev", "ctr0").path)
        assert "10.99.1.2/24" in answer.out, answer.err
    finally:
        subprocess.run(["ip", "link", "del", "pyr1"], capture_output=True, check=False)  # with its other end it is gone


@pytest.mark.skipif(not APPARMOR.exists() or "Y" not in APPARMOR.read_text(), reason="this kernel has no AppArmor")
class TestAppArmor:
    """Without apparmor_parser there is no profile to load; what is there is "unconfined", and names of nothing."""

    def test_unconfined_is_applied(self, runtime: Runtime, box: Bundle) -> None:
        box.config["process"]["apparmorProfile"] = "unconfined"
        answer = runtime.run(box.runs("cat", "/proc/self/attr/current").path)
        assert answer.out.strip() == "unconfined", answer.err

    def test_a_profile_that_is_not_loaded_is_an_error(self, runtime: Runtime, box: Bundle) -> None:
        box.config["process"]["apparmorProfile"] = "pyrkt-no-such-profile"
        answer = runtime.run(box.save().path)
        assert answer.code == 1
        assert "applying the AppArmor profile pyrkt-no-such-profile" in answer.err
