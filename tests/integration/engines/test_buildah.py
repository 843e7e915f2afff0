"""buildah run and buildah bud with --runtime pyrkt-oci answer as they do with runc."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.engines.buildah import Buildah
from tests.integration.engines.compare import OURS, kind, must, plain, program, same
from tests.integration.engines.place import place

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.root, pytest.mark.peers]


@pytest.fixture(scope="module")
def buildah() -> Iterator[Buildah]:
    with place() as here:
        engine = Buildah(here)
        yield engine
        engine.end()


SHOW = "id; hostname >/dev/null; grep -E '^(Cap|Seccomp:|NoNew|Umask)' /proc/self/status; ls /dev"
CASES = {
    "usual": (0, "", SHOW),
    "exit-3": (3, "", "echo out; echo err >&2; exit 3"),
    "killed": (137, "", "sh -c 'kill -9 $$'; exit $?"),
    # buildah leaves pipes open in its child: would one reach the program, buildah would wait for its end for ever.
    "descriptors": (0, "", "ls /proc/self/fd"),
    "user": (0, "--user 1000:1000", "id; pwd"),
    "capabilities": (0, "--cap-add CAP_NET_ADMIN --cap-drop CAP_KILL", SHOW),
    "volume": (1, "--volume {base}/data:/data:ro", "cat /data/file; : >/data/new"),
    "workdir": (0, "--workingdir /var/data", "cat file"),
    "hostname": (0, "--hostname other", "hostname"),
    "env": (0, "--env A=b", "echo $A"),
    "ulimit": (0, "", "ulimit -n | grep -c ."),
}


@pytest.mark.parametrize("name", CASES)
def test_run(buildah: Buildah, name: str) -> None:
    wanted, options, script = CASES[name]
    words = options.format(base=buildah.base).split()

    def flow(label: str) -> tuple[object, ...]:
        answer = buildah(label, *buildah.create(label, "run", *words, label, "--", "sh", "-c", script))
        return *plain(answer), kind(answer)

    code, *_, complaint = same(flow)
    assert code == wanted, complaint


@pytest.mark.parametrize("words", ["/nonexistent", "nonexistent", "/etc/passwd", "/etc"])
def test_a_program_that_cannot_run(buildah: Buildah, words: str) -> None:
    code, kinds = same(lambda label: kind(buildah(label, *buildah.create(label, "run", label, "--", words))))
    assert code == 1
    assert kinds


CONTAINERFILE = """
FROM localhost/pyrkt-test
COPY file /copied
RUN cat /copied; echo made >/made; ls /proc/self/fd
ENV A=b
WORKDIR /var/data
RUN echo $A; cat file; (sleep 0.1; echo late) & wait
USER 1000:1000
RUN id; test ! -w /copied
"""


def test_bud(buildah: Buildah) -> None:
    (buildah.base / "data/Containerfile").write_text(CONTAINERFILE)

    def flow(label: str) -> list[object]:
        image = f"built-{label}"
        words = ("--no-cache", "--quiet", "--tag", image, str(buildah.base / "data"))
        built = buildah(label, *buildah.create(label, "bud", *words))
        name = must(buildah(label, "from", image))
        made = buildah(label, *buildah.create(label, "run", name, "--", "cat", "/made", "/copied"))
        return [built.code, plain(made)]

    assert same(flow) == [0, (0, "made\nof the host\n")]


def test_bud_stops_where_a_step_fails(buildah: Buildah) -> None:
    directory = buildah.base / "failing"
    directory.mkdir()
    (directory / "Containerfile").write_text("FROM localhost/pyrkt-test\nRUN exit 4\n")
    assert same(lambda label: buildah(label, *buildah.create(label, "bud", "--no-cache", str(directory))).code) == 4


def test_a_person_at_a_terminal(buildah: Buildah) -> None:
    def flow(label: str) -> list[object]:
        script = "until stty size | grep 33; do sleep 0.05; done; tty; echo ready; cat; exit 6"
        console = buildah.console(label, *buildah.create(label, "run", "--tty", label, "--", "sh", "-c", script))
        found: list[object] = [console.until("ready").split()[-3:]]
        console.type("hello")
        console.until("hello")
        console.type("\x04")
        return [*found, console.end()]

    assert same(flow) == [["33", "77", "/dev/pts/0"], 6]


def test_the_named_runtime_is_the_one_that_runs(buildah: Buildah) -> None:
    """Were the option ignored, everything above would compare runc with itself."""
    answer = buildah(OURS, *buildah.create(OURS, "run", OURS, "--", "/nonexistent"))
    assert f"from {program(OURS)} creating container" in answer.err
