"""podman without root, with --runtime pyrkt-oci, answers as it does with runc."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.engines.compare import kind, plain, same
from tests.integration.engines.place import place
from tests.integration.engines.rootless import RANGE, UID, RootlessPodman
from tests.support.oci import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.root, pytest.mark.peers]
IMAGE = RootlessPodman.image


@pytest.fixture(scope="module")
def podman() -> Iterator[RootlessPodman]:
    with place() as here:
        engine = RootlessPodman(here)
        yield engine
        engine.end()
        assert eventually(lambda: not engine.processes(), 10), engine.processes()


SHOW = "id; cat /proc/self/uid_map; grep -E '^(Cap|Seccomp:|NoNew|Umask)' /proc/self/status; ls /dev"
CASES = {
    "usual": (0, "", SHOW),
    "exit-3": (3, "", "echo out; exit 3"),
    "user": (0, "--user 1000:1000", SHOW),
    "keep-id": (0, "--userns=keep-id", "id -u; cat /proc/self/uid_map"),
    "capabilities": (0, "--cap-add NET_ADMIN --cap-drop KILL", SHOW),
    "host-network": (0, "--network=host", "test $(ls /sys/class/net | wc -l) -ge 1"),
    "volume": (0, "--volume {base}/home:/data", "echo x >/data/file; stat -c %u:%g /data/file; rm /data/file"),
    "read-only": (1, "--read-only --tmpfs /var/data", "touch /var/data/new && touch /file"),
    "memory": (0, "--memory 32m", "true"),
    "init": (0, "--init --hostname other", "hostname; cat /proc/1/comm"),
    "device": (0, "--device /dev/null:/dev/no", "stat -c %t:%T /dev/no"),
    "pid-host": (0, "--pid=host", "test $$ -gt 1"),
    "descriptors": (0, "", "ls /proc/self/fd"),
}


@pytest.mark.parametrize("name", CASES)
def test_run(podman: RootlessPodman, name: str) -> None:
    wanted, options, script = CASES[name]
    words = options.format(base=podman.base).split()

    def flow(label: str) -> tuple[object, ...]:
        answer = podman.run(label, *words, IMAGE, "sh", "-c", script)
        return *plain(answer), kind(answer)

    code, out, complaint = same(flow)
    assert code == wanted, complaint
    if name == "usual":
        assert [str(UID), "1"] == str(out).splitlines()[1].split()[1:]
        assert [str(number) for number in RANGE] == str(out).splitlines()[2].split()[1:]


@pytest.mark.parametrize(("program", "wanted"), [("/nonexistent", 127), ("/etc/passwd", 126)])
def test_a_program_that_cannot_run(podman: RootlessPodman, program: str, wanted: int) -> None:
    assert same(lambda label: kind(podman.run(label, IMAGE, program)))[0] == wanted


def test_life(podman: RootlessPodman) -> None:
    def flow(label: str) -> list[object]:
        box = podman.started(label, IMAGE, "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done")
        return [
            eventually(lambda: "ready" in box.do("logs")[1], 10),
            box.do("exec", "sh", "-c", "id -u; exit 4"),
            box.do("exec", "/nonexistent"),
            box.do("top", "args"),
            box.do("pause")[0],
            box.do("stop --time=10"),
            box.state("Status", "ExitCode"),
            box.do("start"),
            box.do("kill"),
            box.do("wait"),
            box.do("rm"),
        ]

    found = same(flow)
    assert found[1] == (4, "0\n", ())
    assert found[6] == {"Status": "exited", "ExitCode": 9}


def test_a_person_at_a_terminal(podman: RootlessPodman) -> None:
    def flow(label: str) -> list[object]:
        wait = "until stty size 2>&1 | grep {}; do sleep 0.05; done"
        script = f"{wait.format(33)}; tty; echo ready; {wait.format(88)}; read line; echo got $line; exit 6"
        one = podman.console(label, *podman.create(label, "run", "-it", "--rm", IMAGE, "sh", "-c", script))
        found: list[object] = [one.until("ready").split()[-3:]]
        one.resize(44, 88)
        one.until("44 88")
        one.type("hello")
        one.until("got hello")
        return [*found, one.end()]

    assert same(flow) == [["33", "77", "/dev/pts/0"], 6]
