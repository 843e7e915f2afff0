"""containerd with pyrkt-oci as the shim's runtime answers as it does with runc: through ctr, and through CRI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.engines.compare import kind, must, plain, same
from tests.integration.engines.containerd import Containerd
from tests.integration.engines.place import place
from tests.integration.engines.wire import Cri, Refused
from tests.support.oci import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.root, pytest.mark.peers]
IMAGE = Containerd.image
RUNNING, EXITED = 1, 2
"""States of a container in CRI."""


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    with place() as here:
        engine = Containerd(here)
        yield engine
        engine.end()


SHOW = "id; hostname; grep -E '^(Cap|Seccomp:|NoNew|Umask)' /proc/self/status; ls /proc/self/fd; ls /dev"
CASES = {
    "usual": (0, "", SHOW),
    "exit-3": (3, "", "echo out; exit 3"),
    "killed": (137, "", "sh -c 'kill -9 $$'; exit $?"),
    "env": (0, "--env A=b --cwd /var/data", "echo $A; cat file"),
    "mount": (
        1,
        "--mount type=bind,src={base}/data,dst=/data,options=rbind:ro",
        "cat /data/file; touch /data/new",
    ),
    "memory": (137, "--memory-limit 16777216", "dd if=/dev/zero of=/dev/null bs=64M count=1"),
    "seccomp": (0, "--seccomp", "grep Seccomp: /proc/self/status; unshare -U true 2>&1; true"),
    "read-only": (1, "--read-only", "touch /file"),
    "hosts-network": (0, "--net-host", "test $(ls /sys/class/net | wc -l) -ge 1"),
}


@pytest.mark.parametrize("name", CASES)
def test_run(containerd: Containerd, name: str) -> None:
    wanted, options, script = CASES[name]
    words = options.format(base=containerd.base).split()
    # One stream only: the shim 1.6 may close the file of both when the first ends.
    shell = ("sh", "-c", f"exec 2>/dev/null; {script}")

    def flow(label: str) -> tuple[object, ...]:
        command = containerd.create(label, "run", "--rm", *words, "--", IMAGE, f"{label}-{name}", *shell)
        answer = containerd.logged(label, *command)
        code, out = plain(answer)
        return code, out.replace(f"{label}-{name}", "NAME"), kind(answer)

    code, *_, complaint = same(flow)
    assert code == wanted, complaint


@pytest.mark.parametrize("words", ["/nonexistent", "nonexistent", "/etc/passwd"])
def test_a_program_that_cannot_run(containerd: Containerd, words: str) -> None:
    def flow(label: str) -> tuple[object, ...]:
        name = f"{label}-cannot"
        answer = containerd(label, *containerd.create(label, "run", "--rm", IMAGE, name, words))
        text = answer.err.replace("pyrkt-oci create", "runc create").strip()
        return *kind(answer), text, containerd(label, "containers", "info", name).code

    code, kinds, text, gone = same(flow)
    assert (code, gone) == (1, 1)
    assert kinds
    assert "unable to start container process" in str(text)


def test_life_of_a_task(containerd: Containerd) -> None:
    def flow(label: str) -> list[object]:
        name = f"{label}-life"
        must(containerd(label, *containerd.create(label, "run", "--detach", IMAGE, name, "sleep", "100")))

        def do(*words: str) -> tuple[str, int, str, tuple[str, ...]]:
            answer = containerd(label, "tasks", *words)
            return words[0], answer.code, answer.out.replace(name, "NAME"), kind(answer)[1]

        def status() -> str:
            lines = containerd(label, "tasks", "list").out.splitlines()
            return next((line.split()[-1] for line in lines if line.split()[0] == name), "")

        found: list[object] = [status()]
        for number, script in enumerate(("echo out; exit 4", "cat file; ls /proc/self/fd")):
            options = ("tasks", "exec", f"--exec-id={number}", "--cwd=/var/data")
            found.append(plain(containerd.logged(label, *options, "--", name, "sh", "-c", script)))
        found += [do("exec", "--exec-id=c", name, "/nonexistent")[1], do("exec", "--exec-id=d", name, "/etc/passwd")[1]]
        found += [do("pause", name), status(), do("exec", "--exec-id=e", name, "true")[1], do("resume", name), status()]
        found += [len(do("ps", name)[2].splitlines()), "pids.current" in str(do("metrics", name)[2])]
        found += [
            do("delete", name)[1],
            do("kill", "--signal=SIGKILL", name)[1],
            eventually(lambda: status() == "STOPPED"),
        ]
        found += [do("kill", "--signal=SIGKILL", name)[1], do("exec", "--exec-id=f", name, "true")[1]]
        found += [containerd(label, "tasks", "delete", name).code, status(), do("delete", name)[1]]
        found.append(containerd(label, "containers", "delete", name).code)
        return found

    found = same(flow)
    assert found[:2] == ["RUNNING", (4, "out\n")]
    assert found[6] == "PAUSED"


def test_a_person_at_a_terminal(containerd: Containerd) -> None:
    def flow(label: str) -> list[object]:
        name = f"{label}-terminal"
        wait = "until stty size 2>&1 | grep {}; do sleep 0.05; done"
        script = f"{wait.format(33)}; tty; echo ready; {wait.format(88)}; read line; echo got $line; exit 6"
        words = containerd.create(label, "run", "--rm", "--tty", IMAGE, name, "sh", "-c", script)
        console = containerd.console(label, *words)
        found: list[object] = [console.until("ready").split()[-3:]]
        console.resize(44, 88)
        console.until("44 88")
        console.type("hello")
        console.until("got hello")
        return [*found, console.end()]

    assert same(flow) == [["33", "77", "/dev/pts/0"], 6]


def sandbox_config(containerd: Containerd, label: str, spaces: dict[str, int]) -> dict[str, Any]:
    """Return what a kubelet would say of a pod; its namespaces are 0 the pod's, 1 each container's, 2 the host's."""
    return {
        "metadata": {
            "name": "pod",
            "uid": f"{label}-{spaces['network']}{spaces['pid']}",
            "namespace": "n",
            "attempt": 0,
        },
        "log_directory": str(containerd.base),
        "linux": {
            "cgroup_parent": f"/{containerd.place.cgroup}",
            "security_context": {"namespace_options": spaces},
        },
        **({"hostname": "pod"} if spaces["network"] == 0 else {}),
    }


@pytest.fixture
def cri(containerd: Containerd) -> Iterator[Cri]:
    client = Cri(str(containerd.socket))
    yield client
    client.close()


@pytest.mark.parametrize(
    ("spaces", "wanted"),
    [
        pytest.param({"network": 0, "pid": 1, "ipc": 0}, "pod\neth0\n", id="own-network"),
        pytest.param({"network": 0, "pid": 0, "ipc": 0}, "pod\neth0\n", id="shared-processes"),
        pytest.param({"network": 2, "pid": 1, "ipc": 0}, "", id="hosts-network"),
    ],
)
def test_a_pod_through_cri(containerd: Containerd, cri: Cri, spaces: dict[str, int], wanted: str) -> None:
    def flow(label: str) -> list[object]:
        config = sandbox_config(containerd, label, spaces)
        pod = cri("RunPodSandbox", config=config, runtime_handler=label)["id"]
        name = f"{label}-{spaces['network']}{spaces['pid']}.log"
        wishes: dict[str, Any] = {
            "metadata": {"name": "box"},
            "image": {"image": IMAGE},
            "command": ["sh", "-c", "echo of the container; trap 'exit 9' TERM; while :; do sleep 0.05; done"],
            "log_path": name,
            "linux": {
                "resources": {"memory_limit_in_bytes": 64 << 20},
                "security_context": {
                    "capabilities": {"drop_capabilities": ["KILL"]},
                    "namespace_options": spaces,
                    "no_new_privs": True,
                },
            },
        }
        box = cri("CreateContainer", id=pod, config=wishes, sandbox_config=config)["id"]
        cri("StartContainer", id=box)
        log = containerd.base / name
        limit = "/sys/fs/cgroup/memory/memory.limit_in_bytes"
        found: list[object] = [
            eventually(lambda: "of the container" in log.read_text(), 10),
            _without_id(cri("ContainerStatus", id=box)),
            cri("ExecSync", id=box, cmd=["sh", "-c", "hostname; ls /sys/class/net | head -n 1; exit 5"], timeout=20),
            cri("ExecSync", id=box, cmd=["grep", "-E", "^(Cap|NoNew)", "/proc/self/status"], timeout=20),
            cri("ExecSync", id=box, cmd=["sh", "-c", "cat /proc/1/comm; id; ls /proc/self/fd"], timeout=20),
            _refusal(cri, box, ["/nonexistent"]),
            cri("ExecSync", id=box, cmd=["cat", limit], timeout=20),
        ]
        cri("UpdateContainerResources", id=box, linux={"memory_limit_in_bytes": 96 << 20, "cpu_shares": 300})
        found.append(cri("ExecSync", id=box, cmd=["cat", limit], timeout=20))
        found.append(cri("ContainerStats", id=box)["stats"]["memory"]["working_set_bytes"]["value"] > 0)
        cri("StopContainer", id=box, timeout=20)
        found.append(_without_id(cri("ContainerStatus", id=box)))
        cri("RemoveContainer", id=box)
        cri("StopPodSandbox", id=pod)
        cri("RemovePodSandbox", id=pod)
        return found

    found = same(flow)
    assert found[1] == {"state": RUNNING, "exit_code": 0, "reason": "", "message": ""}
    executed = found[2]
    assert isinstance(executed, dict)
    assert executed["exit_code"] == 5
    assert executed["stdout"].startswith(wanted)
    assert found[7] == {"stdout": f"{96 << 20}\n", "stderr": "", "exit_code": 0}
    assert found[-1] == {"state": EXITED, "exit_code": 9, "reason": "Error", "message": ""}


def test_what_cri_says_of_a_container_that_cannot_start(containerd: Containerd, cri: Cri) -> None:
    def flow(label: str) -> list[object]:
        config = sandbox_config(containerd, label, {"network": 2, "pid": 1, "ipc": 0})
        pod = cri("RunPodSandbox", config=config, runtime_handler=label)["id"]
        wishes = {"metadata": {"name": "box"}, "image": {"image": IMAGE}, "command": ["/nonexistent"]}
        box = cri("CreateContainer", id=pod, config=wishes, sandbox_config=config)["id"]
        try:
            cri("StartContainer", id=box)
            refusal = ""
        except Refused as refused:
            refusal = str(refused).replace("pyrkt-oci create", "runc create")
        status = _without_id(cri("ContainerStatus", id=box))
        cri("RemovePodSandbox", id=pod)
        return [
            refusal,
            status["exit_code"],
            status["reason"],
            status["message"].replace("pyrkt-oci create", "runc create"),
        ]

    found = same(flow)
    assert "stat /nonexistent: no such file or directory" in str(found[0])
    assert found[1:3] == [128, "StartError"]


def _without_id(answer: dict[str, Any]) -> dict[str, Any]:
    status = answer["status"]
    del status["id"]
    assert isinstance(status, dict)
    return status


def _refusal(cri: Cri, box: str, command: list[str]) -> str:
    try:
        cri("ExecSync", id=box, cmd=command, timeout=20)
    except Refused as refused:
        return str(refused).rpartition("OCI runtime")[2]
    return ""


def test_both_runtimes_are_where_they_were_asked_for(containerd: Containerd) -> None:
    """Were the option ignored, everything above would compare runc with itself."""

    def flow(label: str) -> bool:
        name = f"{label}-there"
        must(containerd(label, *containerd.create(label, "run", "--detach", IMAGE, name, "sleep", "100")))
        there = list((containerd.base / label).glob(f"**/{name}/state.json"))
        must(containerd(label, "tasks", "delete", "--force", name))
        must(containerd(label, "containers", "delete", name))
        return len(there) == 1

    assert same(flow) is True
