"""dockerd with pyrkt-oci as a further runtime answers as it does with runc."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.integration.engines.compare import kind, plain, same
from tests.integration.engines.docker import Docker
from tests.integration.engines.place import place
from tests.support import oci
from tests.support.oci import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.root, pytest.mark.peers]
IMAGE = Docker.image


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with place() as here:
        engine = Docker(here)
        yield engine
        engine.end()


SHOW = "id; cat /proc/self/uid_map; grep -E '^(Cap|Seccomp:|NoNew|Umask)' /proc/self/status"
CASES = {
    "exit-1": (1, "", "echo out; echo err >&2; exit 1"),
    "killed": (137, "", "sh -c 'kill -9 $$'; exit $?"),
    "usual": (0, "", SHOW),
    "user": (0, "--user 1000:1000 --group-add 5", SHOW),
    "capabilities": (0, "--cap-add NET_ADMIN --cap-drop KILL", SHOW),
    "no-new-privileges": (0, "--security-opt no-new-privileges", SHOW),
    "unconfined": (0, "--security-opt seccomp=unconfined", SHOW),
    "seccomp-refuses": (0, "", "unshare -U true 2>&1; mount -t tmpfs none /tmp 2>&1; true"),
    "names": (0, "--hostname other --domainname example.com", "hostname; cat /etc/hostname"),
    "workdir": (0, "--workdir /var/data", "pwd; cat file"),
    "ulimit": (0, "--ulimit nofile=100:200 --ulimit nproc=900:1000", "ulimit -n; ulimit -Hn"),
    "device": (1, "--device /dev/kmsg:/dev/no:r", "stat -c '%n %t:%T %a' /dev/no; : >/dev/no"),
    "volume": (1, "--volume {base}/data:/data:ro", "cat /data/file; : >/data/new"),
    "mount": (
        0,
        "--mount type=bind,src={base}/data,dst=/d,readonly",
        "grep ' /d ' /proc/self/mountinfo | wc -l",
    ),
    "tmpfs": (0, "--tmpfs /var/data:size=1m", "cd /var/data; stat -c %a .; ls"),
    "read-only": (1, "--read-only", "touch /file"),
    "shm": (0, "--shm-size 1m", "df /dev/shm | tail -n 1"),
    "memory": (0, "--memory 48m --memory-swap 96m", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes"),
    "cpus": (0, "--cpus 0.5 --cpu-shares 300", "cd /sys/fs/cgroup/cpu; cat cpu.cfs_quota_us cpu.shares"),
    "pids": (0, "--pids-limit 20 --cpuset-cpus 0", "cat /sys/fs/cgroup/pids/pids.max; nproc"),
    "oom-score-adj": (0, "--oom-score-adj 300", "cat /proc/self/oom_score_adj"),
    "sysctl": (0, "--sysctl net.ipv4.ip_forward=1", "cat /proc/sys/net/ipv4/ip_forward"),
    "init": (0, "--init", "cat /proc/1/comm"),
    "network-host": (0, "--network=host --pid=host --ipc=host --uts=host", "test $$ -gt 1"),
    "cgroupns-private": (0, "--cgroupns=private", "grep -c pyrkt-engine /proc/self/cgroup; true"),
    "descriptors": (0, "", "ls /proc/self/fd; stat -L -c %t:%T /proc/self/fd/0"),
    "mounts": (0, "", "cut -d' ' -f2-3 /proc/mounts | grep -v -e overlay -e unified -e '^/proc/[kst]' | sort"),
    "unknown-option": (125, "--bogus", "true"),
    "unknown-device": (127, "--device /dev/nope", "true"),
}


@pytest.mark.parametrize("name", CASES)
def test_run(docker: Docker, name: str) -> None:
    wanted, options, script = CASES[name]
    words = options.format(base=docker.base).split()

    def flow(label: str) -> tuple[object, ...]:
        answer = docker.run(label, *words, IMAGE, "sh", "-c", script)
        return *plain(answer), kind(answer)

    code, *_, complaint = same(flow)
    assert code == wanted, complaint


@pytest.mark.parametrize(
    ("program", "options", "wanted"),
    [
        pytest.param("/nonexistent", (), 127, id="nonexistent-path"),
        pytest.param("nonexistent", (), 127, id="nonexistent"),
        pytest.param("/etc/passwd", (), 126, id="not-executable"),
        pytest.param("/etc", (), 126, id="directory"),
        pytest.param("true", ("--sysctl=net.ipv4.nope=1",), 127, id="unknown-sysctl"),
    ],
)
def test_a_program_that_cannot_run(docker: Docker, program: str, options: tuple[str, ...], wanted: int) -> None:
    assert same(lambda label: kind(docker.run(label, *options, IMAGE, program)))[0] == wanted


LOOP = "trap 'echo usr1' USR1; trap 'echo term' TERM; echo ready; while :; do sleep 0.1; done"


def test_exec(docker: Docker) -> None:
    def flow(label: str) -> list[object]:
        box = docker.started(label, "--env", "A=b", IMAGE, "sleep", "100")
        return [
            box.state("Status", "Running", "Paused", "OOMKilled", "Dead", "ExitCode"),
            box.do("exec", "sh", "-c", "echo $A; exit 7"),
            box.do("exec --user 1000:5 --workdir /var/data", "sh", "-c", "id; pwd; cat file"),
            box.do("exec --user user", "sh", "-c", SHOW),
            box.do("exec", "/nonexistent"),
            box.do("exec", "nonexistent"),
            box.do("exec", "/etc/passwd"),
            box.do("exec --workdir /nonexistent", "true"),
            box.do("exec --env E=f", "sh", "-c", "echo $E; ls /proc/self/fd"),
            box.do("exec --interactive", "cat", text="typed\n"),
            box.do("exec --detach", "sh", "-c", "echo >/tmp/detached"),
            eventually(lambda: box.do("exec", "cat", "/tmp/detached")[0] == 0),
            box.do("rm --force"),
            box.do("exec", "true"),
        ]

    codes = [entry[0] for entry in same(flow)[1:10] if isinstance(entry, tuple)]
    assert codes == [7, 0, 0, 126, 126, 126, 126, 0, 0]


def test_top_stats_logs_and_copies(docker: Docker) -> None:
    def flow(label: str) -> list[object]:
        box = docker.started(label, "--memory=64m", IMAGE, "sh", "-c", "echo out; echo err >&2; exec sleep 100")
        target = docker.base / f"from-{label}"
        return [
            eventually(lambda: "err" in docker(label, "logs", box.name).err),
            box.do("logs"),
            box.do("top", "-o", "pid,args")[1].split()[1:2] + box.do("top", "-o", "pid,args")[1].split()[3:],
            box.do("stats --no-stream --format {{.PIDs}}"),
            box.do("stats --no-stream --format {{.MemUsage}}")[1].split("/")[1],
            docker(label, "cp", f"{box.name}:/var/data/file", str(target)).code,
            target.read_text(),
            docker(label, "cp", str(docker.base / "data"), f"{box.name}:/tmp/to").code,
            box.do("exec", "cat", "/tmp/to/file"),
        ]

    found = same(flow)
    assert found[2] == ["COMMAND", "sleep", "100"]
    assert found[3] == (0, "1\n", ())


def test_health(docker: Docker) -> None:
    check = ("--health-cmd=test -e /tmp/well", "--health-interval=100ms", "--health-retries=1", "--health-timeout=10s")

    def flow(label: str) -> list[object]:
        box = docker.started(label, *check, IMAGE, "sleep", "100")
        found: list[object] = []
        for status in ("unhealthy", "healthy"):
            found.append(eventually(lambda: box.state("Health")["Health"]["Status"] == status, 20))  # noqa: B023
            box.do("exec", "touch", "/tmp/well")
        return found

    assert same(flow) == [True, True]


def test_pause(docker: Docker) -> None:
    def flow(label: str) -> list[object]:
        box = docker.started(label, IMAGE, "sleep", "100")
        found: list[object] = []
        for verb in ("pause", "exec", "pause", "unpause", "unpause", "pause", "kill", "unpause", "wait", "pause"):
            answer = box.do(verb, "true") if verb == "exec" else box.do(verb)
            found.append((verb, answer, box.state("Status")))
        return found

    assert same(flow)[0] == ("pause", (0, "NAME\n", ()), {"Status": "paused"})


def test_signals(docker: Docker) -> None:
    def flow(label: str) -> list[object]:
        box = docker.started(label, IMAGE, "sh", "-c", LOOP)

        def logged(text: str) -> bool:
            return eventually(lambda: text in box.do("logs")[1], 10)

        found: list[object] = [logged("ready")]
        found += [box.do("kill --signal=USR1"), logged("usr1"), box.do("kill --signal=15"), logged("term")]
        found += [box.do("kill --signal=99"), box.do("kill --signal=NONE"), box.state("Status")]
        found += [box.do("kill --signal=SIGKILL"), box.do("wait"), box.state("Status", "ExitCode"), box.do("kill")]
        return found

    assert {"Status": "exited", "ExitCode": 137} in same(flow)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param("trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done", 9, id="obeys"),
        pytest.param("trap '' TERM; echo ready; while :; do sleep 0.05; done", 137, id="does-not"),
    ],
)
def test_stop_start_and_restart(docker: Docker, script: str, code: int) -> None:
    def flow(label: str) -> list[object]:
        box = docker.started(label, IMAGE, "sh", "-c", script)

        def ready(times: int) -> bool:
            return eventually(lambda: box.do("logs")[1].count("ready") == times, 10)

        found: list[object] = [ready(1), box.do("stop --time=1"), box.state("Status", "ExitCode"), box.do("stop")]
        found += [box.do("start"), ready(2), box.do("start"), box.do("restart --time=0"), ready(3), box.state("Status")]
        found += [box.do("rm"), box.do("rm --force"), box.do("inspect")[0]]
        return found

    assert same(flow)[2] == {"Status": "exited", "ExitCode": code}


def test_restart_policy(docker: Docker) -> None:
    """Whoever kills the program from outside finds it started again; whoever stops the container does not."""

    def flow(label: str) -> list[object]:
        box = docker.started(label, "--restart=always", IMAGE, "sleep", "100")
        first = box.state("Pid")["Pid"]
        oci.kill(first)
        again = eventually(lambda: box.state("Pid")["Pid"] not in (0, first), 20)
        found: list[object] = [again, box.inspect()["RestartCount"], box.state("Status")]
        found += [box.do("update --restart=no"), box.do("stop --time=0"), box.state("Status", "ExitCode")]
        return found

    assert same(flow)[:3] == [True, 1, {"Status": "running"}]


def test_update(docker: Docker) -> None:
    def flow(label: str) -> list[object]:
        box = docker.started(label, "--memory=48m", "--memory-swap=48m", IMAGE, "sleep", "100")
        files = ("memory/memory.limit_in_bytes", "cpu/cpu.cfs_quota_us", "cpu/cpu.shares", "pids/pids.max")
        words = "update --memory=96m --memory-swap=128m --cpus=0.3 --cpu-shares=300 --pids-limit=30"
        return [
            box.do(words)[0],
            *(box.do("exec", "cat", f"/sys/fs/cgroup/{file}") for file in files),
            box.inspect()["HostConfig"]["Memory"],
            box.do("update --memory=1m")[0],
            box.do("exec", "cat", f"/sys/fs/cgroup/{files[0]}"),
        ]

    assert same(flow)[:2] == [0, (0, f"{96 << 20}\n", ())]


def test_a_memory_hog(docker: Docker) -> None:
    def flow(label: str) -> list[object]:
        # docker learns of the event by one way and of the end by another: one that comes long before the other is told.
        hog = ("sh", "-c", "sleep 0.5; dd if=/dev/zero of=/dev/null bs=64M count=1; code=$?; sleep 0.5; exit $code")
        box = docker.started(label, "--memory=16m", "--memory-swap=16m", IMAGE, *hog)
        return [box.do("wait"), box.state("OOMKilled", "ExitCode", "Status")]

    assert same(flow)[1] == {"OOMKilled": True, "ExitCode": 137, "Status": "exited"}


def test_events(docker: Docker) -> None:
    def flow(label: str) -> list[object]:
        box = docker.started(label, IMAGE, "sleep", "100")
        box.do("exec", "true")
        for verb in ("pause", "unpause", "kill", "wait", "rm"):
            box.do(verb)
        until = ("events", "--since=10m", "--until=-1s", "--filter", f"container={box.name}", "--format={{json .}}")
        events = [json.loads(line) for line in docker(label, *until).out.splitlines()]
        return [(event["Action"], event["Actor"]["Attributes"].get("exitCode")) for event in events]

    assert ("die", "137") in same(flow)


def test_namespaces_of_another_container(docker: Docker) -> None:
    def flow(label: str) -> list[object]:
        box = docker.started(label, "--ipc=shareable", "--hostname=first", IMAGE, "sleep", "100")
        box.do("exec", "touch", "/dev/shm/seen")
        other = f"container:{box.name}"
        words = (f"--pid={other}", f"--ipc={other}", f"--network={other}", IMAGE)
        found: list[object] = [plain(docker.run(label, *words, "sh", "-c", "cat /proc/1/comm; ls /dev/shm"))]
        # Without a pid namespace of its own all its processes are killed by their cgroup.
        guest = docker.started(label, *words, "sh", "-c", "sleep 101 & exec sleep 102")
        found += [guest.do("stop --time=0"), guest.do("rm --force"), box.state("Status")]
        left = box.do("exec", "ps")[1]
        return [*found, "sleep 101" in left, "sleep 102" in left, "sleep 100" in left]

    assert same(flow)[-3:] == [False, False, True]


def test_a_person_at_a_terminal(docker: Docker) -> None:
    """run -it and exec -it: the size arrives, also when it changes; what is typed is echoed; the code comes back."""

    def flow(label: str) -> list[object]:
        name = f"terminal-{label}"
        # The client gives the terminal its size once the program runs.
        script = (
            "until stty size 2>&1 | grep 33; do sleep 0.05; done; trap 'stty size' WINCH; echo ready; {wait}; exit 6"
        )
        script = script.format(wait="while ! test -e /tmp/end; do sleep 0.1; done")
        words = docker.create(label, "run", "-it", "--rm", "--name", name, IMAGE, "sh", "-c", script)
        one = docker.console(label, *words)
        found: list[object] = [one.until("ready").split()[-2:]]
        one.resize(44, 88)
        one.until("44 88")
        two = docker.console(label, "exec", "-it", name, "sh")
        two.type("tty; until stty size 2>&1 | grep 33; do sleep 0.05; done; echo x$((1+1))x")
        found.append(two.until("x2x").split()[-3:])
        two.resize(50, 90)
        two.type("while test \"$(stty size)\" != '50 90'; do sleep 0.05; done; echo x$((1+2))x; touch /tmp/end; exit 5")
        two.until("x3x")
        return [*found, two.end(), one.end()]

    found = same(flow)
    assert found[0] == ["33", "77"]
    assert found[2:] == [5, 6]
