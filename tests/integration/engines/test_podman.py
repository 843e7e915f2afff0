"""podman with --runtime pyrkt-oci answers as it does with runc."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.engines.compare import OURS, call, kind, must, plain, program, same
from tests.integration.engines.place import place
from tests.integration.engines.podman import Podman
from tests.support.oci import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.root, pytest.mark.peers]


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    with place() as here:
        engine = Podman(here)
        yield engine
        engine.end()


IMAGE = Podman.image
SHOW = "id; cat /proc/self/uid_map; grep -E '^(Cap|Seccomp:|NoNew|Umask)' /proc/self/status"


CASES = {
    "exit-0": (0, "", "exit 0"),
    "exit-1": (1, "", "echo out; exit 1"),
    "killed": (137, "", "sh -c 'kill -9 $$'; exit $?"),
    "usual": (0, "", SHOW),
    "user": (0, "--user 1000:1000 --group-add 5", SHOW),
    "capabilities": (0, "--cap-add NET_ADMIN --cap-drop KILL", SHOW),
    "no-capabilities": (0, "--cap-drop all --user 1000", SHOW),
    "no-new-privileges": (0, "--security-opt no-new-privileges", SHOW),
    "unconfined": (0, "--security-opt seccomp=unconfined", SHOW),
    "seccomp-refuses": (0, "", "unshare -U true 2>&1; mount -t tmpfs none /tmp 2>&1; true"),
    "uidmap": (0, "--uidmap 0:100000:2000 --gidmap 0:100000:2000", SHOW),
    "userns-host": (0, "--userns=host --umask 027", SHOW),
    "userns-keep-id-as-root": (125, "--userns=keep-id", SHOW),
    "hostname": (0, "--hostname other", "hostname; cat /etc/hostname"),
    "hosts-names": (0, "--uts=host --ipc=host", "hostname"),
    "hosts-processes": (0, "--pid=host", "test $$ -gt 1"),
    "workdir": (0, "--workdir /var/data", "pwd; cat file"),
    "workdir-nonexistent": (126, "--workdir /nonexistent", "pwd"),
    "env": (0, "--env A=b --unsetenv HOSTNAME", "echo $A $HOME $PATH $container"),
    "sysctl": (0, "--sysctl net.ipv4.ip_forward=1", "cat /proc/sys/net/ipv4/ip_forward"),
    "ulimit": (0, "--ulimit nofile=100:200 --ulimit nproc=900:1000", "ulimit -n; ulimit -Hn"),
    "device": (1, "--device /dev/kmsg:/dev/no:r", "stat -c '%n %t:%T %a' /dev/no; : >/dev/no"),
    "volume-ro": (1, "--volume {base}/data:/data:ro", "cat /data/file; : >/data/new"),
    "volume-options": (0, "--volume {base}/data:/data:noexec,nosuid", "grep ' /data ' /proc/mounts | cut -d' ' -f4"),
    "mount": (0, "--mount type=bind,src={base}/data,dst=/d,bind-nonrecursive", "cat /d/file"),
    "shm": (0, "--shm-size 1m", "df /dev/shm | tail -n 1"),
    "memory": (0, "--memory 48m --memory-swap 96m", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes"),
    "cpus": (0, "--cpus 0.5 --cpu-shares 300", "cd /sys/fs/cgroup/cpu; cat cpu.cfs_quota_us cpu.shares"),
    "pids": (0, "--pids-limit 20 --cpuset-cpus 0", "cat /sys/fs/cgroup/pids/pids.max; nproc"),
    "oom-score-adj": (0, "--oom-score-adj 300", "cat /proc/self/oom_score_adj"),
    "too-much-memory": (137, "--memory 16m --memory-swap 16m", "dd if=/dev/zero of=/dev/null bs=64M count=1"),
    "cgroupns-host": (0, "--cgroupns=host", "grep -c pyrkt-engine /proc/self/cgroup"),
    "cgroups-enabled": (0, "--cgroups=enabled", "true"),
    "cgroups-no-conmon": (0, "--cgroups=no-conmon", "true"),
    "init": (0, "--init", "cat /proc/1/comm"),
    "descriptors": (0, "", "ls /proc/self/fd; stat -L -c %t:%T /proc/self/fd/0"),
    "read-only": (0, "--read-only", "touch /file; touch /tmp/file && cat /var/data/file"),
    "read-only-all": (1, "--read-only --read-only-tmpfs=false", "touch /tmp/file"),
    "tmpfs": (0, "--tmpfs /var/data:size=1m", "cd /var/data; stat -c %a .; cat file"),
    "systemd": (0, "--systemd=always", "grep -E ' /(run|tmp|var/log/journal) ' /proc/mounts | cut -d' ' -f2-3"),
    "unknown-option": (125, "--bogus", "true"),
    "unknown-sysctl": (127, "--sysctl net.ipv4.nope=1", "true"),
    "unknown-device": (125, "--device /dev/nope", "true"),
    "unknown-volume": (125, "--volume /nope:/data", "true"),
    # CAP_SYS_RESOURCE is not everybody's: whatever happens must happen to both.
    "privileged": (None, "--privileged", "grep -E '^(Cap|Seccomp:)' /proc/self/status; stat -c %t:%T /dev/kmsg"),
}


@pytest.mark.parametrize("name", CASES)
def test_run(podman: Podman, name: str) -> None:
    wanted, options, script = CASES[name]
    words = options.format(base=podman.base).split()

    def flow(label: str) -> tuple[object, ...]:
        answer = podman.run(label, *words, IMAGE, "sh", "-c", script)
        return *plain(answer), kind(answer)

    code, *_, complaint = same(flow)
    assert wanted in (code, None), complaint


@pytest.mark.parametrize(
    ("program", "wanted"), [("/nonexistent", 127), ("nonexistent", 127), ("/etc/passwd", 126), ("/etc", 126)]
)
def test_a_program_that_cannot_run(podman: Podman, program: str, wanted: int) -> None:
    assert same(lambda label: kind(podman.run(label, IMAGE, program)))[0] == wanted


LOOP = "trap 'echo usr1' USR1; trap 'echo term' TERM; echo ready; while :; do sleep 0.1; done"


def test_exec(podman: Podman) -> None:
    def flow(label: str) -> list[object]:
        box = podman.started(label, "--env", "A=b", IMAGE, "sleep", "100")
        return [
            box.state("Status", "Running", "Paused", "OOMKilled", "Dead", "ExitCode"),
            box.do("exec", "sh", "-c", "echo $A; exit 7"),
            box.do("exec --user 1000:5 --workdir /var/data", "sh", "-c", "id; pwd; cat file"),
            box.do("exec --user user", "sh", "-c", SHOW),
            box.do("exec --privileged", "grep", "^NoNew", "/proc/self/status"),
            box.do("exec", "/nonexistent"),
            box.do("exec", "nonexistent"),
            box.do("exec", "/etc/passwd"),
            box.do("exec --workdir /nonexistent", "true"),
            box.do("exec --env E=f", "sh", "-c", "echo $E; ls /proc/self/fd"),
            box.do("exec --interactive", "cat", text="typed\n"),
            box.do("exec --detach", "sh", "-c", "echo >/tmp/detached"),
            eventually(lambda: box.do("exec", "cat", "/tmp/detached")[0] == 0),
            box.do("rm --force --time=0"),
            box.do("exec", "true"),
        ]

    found = same(flow)
    assert [entry[0] for entry in found[1:10] if isinstance(entry, tuple)] == [7, 0, 0, 0, 127, 127, 126, 127, 0]


def test_top_stats_logs_and_copies(podman: Podman) -> None:
    def flow(label: str) -> list[object]:
        box = podman.started(label, "--memory=64m", IMAGE, "sh", "-c", "echo out; echo err >&2; exec sleep 100")
        target = podman.base / f"from-{label}"
        return [
            eventually(lambda: "err" in podman(label, "logs", box.name).err),
            box.do("logs"),
            box.do("top", "pid", "args", "user"),
            box.do("stats --no-stream --format {{.PIDS}}"),
            box.do("stats --no-stream --format {{.MemUsage}}")[1].split("/")[1],
            podman(label, "cp", f"{box.name}:/var/data/file", str(target)).code,
            target.read_text(),
            podman(label, "cp", str(podman.base / "data"), f"{box.name}:/tmp/to").code,
            box.do("exec", "cat", "/tmp/to/file"),
        ]

    assert "of the image\n" in same(flow)


def test_health(podman: Podman) -> None:
    check = ("--health-cmd", "test -e /tmp/well", "--health-interval=disable", "--health-retries=1")

    def flow(label: str) -> list[object]:
        box = podman.started(label, *check, IMAGE, "sleep", "100")
        found: list[object] = [box.do("healthcheck run"), box.state("Health")["Health"]["Status"]]
        box.do("exec", "touch", "/tmp/well")
        return [*found, box.do("healthcheck run"), box.state("Health")["Health"]["Status"]]

    assert same(flow)[1::2] == ["unhealthy", "healthy"]


def test_pause(podman: Podman) -> None:
    def flow(label: str) -> list[object]:
        box = podman.started(label, IMAGE, "sleep", "100")
        found: list[object] = []
        for verb in ("pause", "exec", "pause", "unpause", "unpause", "pause", "kill", "wait", "pause"):
            answer = box.do(verb, "true") if verb == "exec" else box.do(verb)
            # The state of what was killed is "stopped" until podman has cleaned up behind it.
            found.append((verb, answer, () if verb == "kill" else box.state("Status")))
        return found

    assert same(flow)[0] == ("pause", (0, "NAME\n", ()), {"Status": "paused"})


def test_signals(podman: Podman) -> None:
    def flow(label: str) -> list[object]:
        box = podman.started(label, IMAGE, "sh", "-c", LOOP)

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
def test_stop_start_and_restart(podman: Podman, script: str, code: int) -> None:
    def flow(label: str) -> list[object]:
        box = podman.started(label, IMAGE, "sh", "-c", script)

        def ready(times: int) -> bool:
            return eventually(lambda: box.do("logs")[1].count("ready") == times, 10)

        found: list[object] = [ready(1), box.do("stop --time=1"), box.state("Status", "ExitCode"), box.do("stop")]
        found += [box.do("start"), ready(2), box.do("start"), box.do("restart --time=0"), ready(3), box.state("Status")]
        found += [box.do("rm"), box.do("rm --force --time=0"), box.do("inspect")[0]]
        return found

    assert same(flow)[2] == {"Status": "exited", "ExitCode": code}


def test_restart_policy(podman: Podman) -> None:
    def flow(label: str) -> list[object]:
        box = podman.started(label, "--restart=on-failure:2", IMAGE, "sh", "-c", "echo run; exit 4")
        ended = eventually(
            lambda: box.do("logs")[1].count("run") == 3 and box.state("Status")["Status"] == "exited", 20
        )
        return [ended, box.state("Status", "ExitCode"), box.do("logs")]

    assert same(flow)[0] is True


def test_update(podman: Podman) -> None:
    def flow(label: str) -> list[object]:
        box = podman.started(label, "--memory=48m", IMAGE, "sleep", "100")
        files = ("memory/memory.limit_in_bytes", "cpu/cpu.cfs_quota_us", "cpu/cpu.shares")
        return [
            box.do("update --memory=96m --cpu-quota=30000 --cpu-shares=300")[0],
            *(box.do("exec", "cat", f"/sys/fs/cgroup/{file}") for file in files),
        ]

    assert same(flow)[:2] == [0, (0, f"{96 << 20}\n", ())]


def test_pod(podman: Podman) -> None:
    """Containers that share namespaces of the pod's first one: they join them by path."""

    def flow(label: str) -> list[object]:
        pod = f"pod-{label}"
        create = ("pod", "create", f"--cgroup-parent=/{podman.place.cgroup}", "--network=none")
        made = podman(label, *create, "--name", pod, "--hostname=podhost", "--share=ipc,net,uts,pid")
        podman.place.parents.add(must(made))
        found: list[object] = []
        for script in ("hostname; cat /proc/1/comm; mkdir -p /dev/shm/x && echo one >/dev/shm/x/y", "cat /dev/shm/x/y"):
            answer = podman(label, "run", "--rm", "--pull=never", "--pod", pod, IMAGE, "sh", "-c", script)
            found.append(plain(answer))
        box = podman.started(label, "--pod", pod, IMAGE, "sleep", "100")
        found += [box.do("exec", "sh", "-c", "hostname; cat /proc/1/comm")]
        for verb in ("pause", "unpause", "stop --time=0", "start", "kill", "rm --force --time=0"):
            found.append((verb, podman(label, "pod", *verb.split(), pod).code))
        return found

    assert same(flow)[0] == (0, "podhost\ncatatonit\n")


def test_a_person_at_a_terminal(podman: Podman) -> None:
    """run -it and exec -it: the size arrives, also when it changes; what is typed is echoed; the code comes back."""

    def flow(label: str) -> list[object]:
        name = f"terminal-{label}"
        # podman gives the terminal its size once the program runs.
        script = (
            "until stty size 2>&1 | grep 33; do sleep 0.05; done; trap 'stty size' WINCH; echo ready; {wait}; exit 6"
        )
        script = script.format(wait="while ! test -e /tmp/end; do sleep 0.1; done")
        one = podman.console(
            label, *podman.create(label, "run", "-it", "--rm", "--name", name, IMAGE, "sh", "-c", script)
        )
        found: list[object] = [one.until("ready").split()[-2:]]
        one.resize(44, 88)
        one.until("44 88")
        two = podman.console(label, "exec", "-it", name, "sh")
        two.type("tty; until stty size 2>&1 | grep 33; do sleep 0.05; done; echo x$((1+1))x")
        found.append(two.until("x2x").split()[-3:])
        two.resize(50, 90)
        two.type("while test \"$(stty size)\" != '50 90'; do sleep 0.05; done; echo x$((1+2))x; touch /tmp/end; exit 5")
        two.until("x3x")
        return [*found, two.end(), one.end()]

    found = same(flow)
    assert found[0] == ["33", "77"]
    assert found[2:] == [5, 6]


def test_descriptors_are_passed(podman: Podman) -> None:
    def flow(label: str) -> object:
        with (podman.base / "data/file").open() as file:
            words = podman.words(label, *podman.create(label, "run", "--rm", "--preserve-fds=1", IMAGE))
            words = podman.place.enter(*words)
            script = f'exec 3<&{file.fileno()}; exec "$@"'
            shell = ["bash", "-c", script, "bash", *words, "sh", "-c", "ls /proc/self/fd; cat <&3"]
            return plain(call(shell, env=podman.env, pass_fds=[file.fileno()]))

    assert "of the host" in str(same(flow))


def test_ids_of_a_volume_are_mapped(podman: Podman) -> None:
    """Not compared: runc 1.1 ignores the option."""
    words = ("--uidmap=0:100000:2000", "--gidmap=0:100000:2000", f"--volume={podman.base}/data:/data:idmap")
    answer = podman.run(OURS, *words, IMAGE, "stat", "-c", "%u:%g", "/data/file")
    assert plain(answer) == (0, "0:0\n"), answer.err


def test_checkpoint(podman: Podman) -> None:
    """Refused where criu is missing or cannot run, and then the container goes on; else it is stopped."""

    def flow(label: str) -> list[object]:
        box = podman.started(label, IMAGE, "sleep", "100")
        return [box.do("container checkpoint")[0], box.state("Status")]

    same(flow)


def test_systemd_as_the_cgroup_manager(podman: Podman) -> None:
    def flow(label: str) -> tuple[object, ...]:
        words = podman.words(label, "--cgroup-manager=systemd", "run", "--rm", "--pull=never", IMAGE, "echo", "ran")
        return plain(call(podman.place.enter(*words), env=podman.env))

    same(flow)


def test_a_runtime_that_podman_knows(podman: Podman) -> None:
    """With the lines of docs/engines.md errors come through the log, and a container may do without cgroups."""
    known = ["runtime_supports_json", "runtime_supports_nocgroup"]
    unknown = podman.env["CONTAINERS_CONF"]
    podman.configure("\n".join(f'{name} = ["runc", "{OURS}"]' for name in known), name="known.conf")
    try:
        failed = podman.run(OURS, IMAGE, "/nonexistent")
        assert failed.code == 127
        assert f"Error: {OURS}: pyrkt-oci create failed: unable to start" in failed.err.replace(program(OURS), OURS)
        assert "level=" not in failed.err
        script = "grep -v -e pyrkt-engine -e libpod /proc/self/cgroup | wc -l; wc -l </proc/self/cgroup"
        words = ("run", "--rm", "--pull=never", "--cgroups=disabled", "--cgroupns=host", IMAGE)
        left = podman(OURS, *words, "sh", "-c", script)
        assert left.code == 0, left.err
        assert len(set(left.out.split())) == 1, left.out
    finally:
        podman.env["CONTAINERS_CONF"] = unknown


def test_hosts_null_keeps_its_owner(podman: Podman) -> None:
    """conmon's standard input is /dev/null, which is no container's to take."""
    before = Path("/dev/null").stat()
    assert podman.run(OURS, "--user=1000", IMAGE, "true").code == 0
    script = "chmod 600 /proc/self/fd/0; stat -L -c %a /dev/null"
    assert plain(podman.run(OURS, IMAGE, "sh", "-c", script)) == (0, "600\n")
    assert podman.run(OURS, "--uidmap=0:100000:2000", "--gidmap=0:100000:2000", IMAGE, "true").code == 0
    after = Path("/dev/null").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
