"""The life of apps: what their ends mean, who is started again, how all of them end, and what nobody can prevent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.oci import cgroups, eventually, processes
from tests.support.pods import Pyrkt, end, make_aci, make_layout, umoci, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.root, pytest.mark.peers]
IDLE = "while :; do sleep 0.02; done"
WAITS = f"trap 'exit 0' TERM; echo ready; {IDLE}"
UP = "until test -e /s/up; do sleep 0.02; done"


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with an OCI image; checks at the end that nothing stayed."""
    tool = Pyrkt(tmp_path_factory.mktemp("life"))
    make_layout(tool.base / "layout")
    yield tool
    assert tool.clean() == []


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory that apps see as /s."""
    (tmp_path / "s").mkdir()
    (tmp_path / "s").chmod(0o777)
    return tmp_path / "s"


def volume(shared: Path) -> tuple[str, str]:
    return f"--volume=s,kind=host,source={shared}", "--mount=volume=s,target=/s"


def app(tool: Pyrkt, name: str, script: str, *flags: str) -> tuple[str, ...]:
    """Return the words of an app that runs a shell script."""
    return (f"oci:{tool.base}/layout:bb", f"--name={name}", *flags, "--", "/bin/sh", "-c", script, "---")


def said(shared: Path) -> list[str]:
    file = shared / "said"
    return file.read_text().split() if file.exists() else []


def of(tool: Pyrkt, uuid: str, name: str) -> dict[str, Any]:
    (found,) = [app for app in tool.pod(uuid)["apps"] if app["name"] == name]
    assert isinstance(found, dict)
    return found


# --- restart and exit policies ---


@pytest.mark.parametrize(
    ("flags", "script", "runs", "code"),
    [
        pytest.param(("--restart=no",), "exit 3", 1, 3, id="no"),
        pytest.param(("--restart=on-failure:2",), "exit 3", 3, 3, id="on-failure"),
        pytest.param(("--restart=on-failure",), "exit 0", 1, 0, id="done"),
        pytest.param(("--restart=on-failure",), "[ $(wc -l < /s/said) = 3 ]", 3, 0, id="until-it-works"),
        pytest.param(("--annotation=pyrkt/restart-policy=on-failure:2",), "exit 4", 3, 4, id="annotation"),
        pytest.param(
            ("--annotation=pyrkt/restart-policy=always", "--restart=no"), "exit 4", 1, 4, id="flag-beats-annotation"
        ),
    ],
)
def test_restart_policies(tool: Pyrkt, shared: Path, flags: tuple[str, ...], script: str, runs: int, code: int) -> None:
    words = app(tool, "a", f"echo run >> /s/said; {script}", *flags, "--restart-delay=5ms")
    assert tool.call("run", *volume(shared), *words).code == code
    assert said(shared) == ["run"] * runs


def test_status_shows_the_restarts_of_an_app_that_is_waiting(tool: Pyrkt) -> None:
    uuid = tool.detached(*app(tool, "a", "exit 3", "--restart=always", "--restart-delay=10ms"))
    assert eventually(lambda: of(tool, uuid, "a").get("restarts", 0) >= 2)
    assert "restarts-a=" in tool.ok("status", uuid)
    assert tool.pod(uuid)["state"] == "running"
    tool.ok("stop", uuid)
    tool.ok("rm", uuid)


@pytest.mark.parametrize(
    ("policy", "scripts", "code"),
    [
        pytest.param("until-any-fails", ("exit 5", WAITS), 5, id="a-failing-one-ends-it"),
        pytest.param("until-any-fails", ("exit 0", "sleep 0.3; exit 4"), 4, id="a-finishing-one-does-not"),
        pytest.param("until-all-exit", ("exit 5", "sleep 0.3; echo > /s/late"), 5, id="all-exit"),
        pytest.param(
            "until-any-exits", (f"{UP}; exit 0", f"trap 'exit 0' TERM; touch /s/up; {IDLE}"), 0, id="any-exits"
        ),
    ],
)
def test_exit_policies(tool: Pyrkt, shared: Path, policy: str, scripts: tuple[str, str], code: int) -> None:
    words = [word for name, script in zip("ab", scripts, strict=True) for word in app(tool, name, script)]
    assert tool.call("run", f"--exit-policy={policy}", *volume(shared), *words).code == code
    assert (shared / "late").exists() is (policy == "until-all-exit")


@pytest.mark.parametrize("flags", [("--fatal=false",), ("--annotation=pyrkt/fatal=false",)])
def test_an_app_may_fail_without_ending_the_pod(tool: Pyrkt, shared: Path, flags: tuple[str, ...]) -> None:
    words = (*app(tool, "a", "exit 5", *flags), *app(tool, "b", "sleep 0.3; echo b >> /s/said"))
    assert tool.call("run", *volume(shared), *words).code == 5
    assert said(shared) == ["b"]


def test_handlers_run_around_every_start(tool: Pyrkt, shared: Path) -> None:
    handlers = [
        {"name": name, "exec": ["/bin/sh", "-c", f"echo {name}-$(id -u)-$AC_APP_NAME-$WORD >> /s/said"]}
        for name in ("pre-start", "post-stop")
    ]
    main = {"exec": ["/bin/sh", "-c", "echo main-$(id -u) >> /s/said; exit 1"], "user": "1000", "group": "1000"}
    more = {"environment": [{"name": "WORD", "value": "w"}], "eventHandlers": handlers}
    image = make_aci(tool.base / "h.aci", "example.com/h", app=main | more)
    (shared / "said").touch()
    (shared / "said").chmod(0o666)
    answer = tool.call("run", *volume(shared), str(image), "--restart=on-failure:2", "--restart-delay=5ms")
    assert answer.code == 1
    assert said(shared) == ["pre-start-0-h-w", "main-1000", "post-stop-0-h-w"] * 3


# --- the end ---


def ends(name: str, number: str = "TERM") -> str:
    return f"trap 'echo {name} >> /s/said; exit 0' {number}; echo ready >> /s/{name}; while :; do sleep 0.02; done"


def test_apps_are_stopped_in_the_other_order(tool: Pyrkt, shared: Path) -> None:
    words = [word for name in "abc" for word in app(tool, name, ends(name))]
    uuid = tool.detached(*volume(shared), *words)
    assert eventually(lambda: all((shared / name).exists() for name in "abc"))
    tool.ok("stop", uuid)
    assert said(shared) == ["c", "b", "a"]
    assert {app["exit_code"] for app in tool.pod(uuid)["apps"]} == {0}


def test_who_ignores_term_is_killed_after_its_share_of_the_grace(tool: Pyrkt, shared: Path) -> None:
    deaf = "trap '' TERM; echo ready >> /s/deaf; while :; do sleep 0.02; done"
    uuid = tool.detached(*volume(shared), *app(tool, "polite", ends("polite")), *app(tool, "deaf", deaf))
    assert eventually(lambda: (shared / "deaf").exists() and (shared / "polite").exists())
    tool.ok("stop", "--grace=0.4s", uuid)
    assert {app["name"]: app["exit_code"] for app in tool.pod(uuid)["apps"]} == {"polite": 0, "deaf": 137}
    assert said(shared) == ["polite"]


@pytest.mark.parametrize(("name", "number"), [("SIGQUIT", "QUIT"), ("WINCH", "WINCH"), ("12", "USR2")])
def test_an_image_says_by_which_signal_it_ends(tool: Pyrkt, shared: Path, name: str, number: str) -> None:
    layout = make_layout(tool.base / f"layout-{number}")
    umoci("config", "--image", f"{layout}:bb", "--config.stopsignal", name)
    words = (f"oci:{layout}:bb", "--name=a", "--", "/bin/sh", "-c", ends("a", number))
    uuid = tool.detached(*volume(shared), *words)
    assert eventually((shared / "a").exists)
    tool.ok("stop", uuid)
    assert said(shared) == ["a"]
    assert of(tool, uuid, "a")["exit_code"] == 0


def test_one_that_is_ended_by_kill_is_tidied_up_as_any_other(tool: Pyrkt, shared: Path) -> None:
    layout = make_layout(tool.base / "layout-kill")
    umoci("config", "--image", f"{layout}:bb", "--config.stopsignal", "SIGKILL")
    uuid = tool.detached(*volume(shared), f"oci:{layout}:bb", "--name=a", "--", "/bin/sh", "-c", ends("a"))
    assert eventually((shared / "a").exists)
    tool.ok("stop", uuid)
    assert of(tool, uuid, "a")["exit_code"] == 137
    assert not cgroups(uuid)


def test_interrupted_once_it_ends_politely_and_twice_at_once(tool: Pyrkt) -> None:
    polite = "trap 'echo int; exit 0' INT; echo ready; while :; do sleep 0.02; done"
    process = tool.popen("run", *app(tool, "a", polite))
    wait_for(process, b"ready")
    process.send_signal(signal.SIGINT)
    wait_for(process, b"int")
    assert end(process) == 0
    deaf = "trap 'echo heard' INT; echo ready; while :; do sleep 0.02; done"
    process = tool.popen("run", *app(tool, "a", deaf))
    wait_for(process, b"ready")
    process.send_signal(signal.SIGINT)
    wait_for(process, b"heard")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert end(process) == 137


@pytest.mark.parametrize("name", ["HUP", "USR1", "USR2"])
def test_other_signals_reach_every_app(tool: Pyrkt, name: str) -> None:
    hears = f"trap 'echo $AC_APP_NAME-heard' {name}; trap 'exit 0' TERM; echo ready; while :; do sleep 0.02; done"
    process = tool.popen("run", *app(tool, "one", hears), *app(tool, "two", hears))
    read = wait_for(process, b"ready")
    while read.count(b"ready") < 2:
        read += wait_for(process, b"ready")
    process.send_signal(getattr(signal, f"SIG{name}"))
    read = b""
    while not (b"one-heard" in read and b"two-heard" in read):
        read += wait_for(process, b"heard")
    process.terminate()
    assert end(process) == 0


# --- what nobody can prevent ---

FAMILY = "(trap '' TERM; while :; do sleep 0.05; done) & echo ready; wait"
"""A program with a child that outlives it."""


def pids(tool: Pyrkt, uuid: str, name: str) -> set[int]:
    return {
        process["pid"] for process in json.loads(tool.ok("ps", "--format=json", uuid)) if process.get("app") == name
    }


def started(tool: Pyrkt, *words: str, names: str = "a") -> str:
    uuid = tool.detached(*words)
    log = tool.directory(uuid) / "logs"
    assert eventually(lambda: all("ready" in (log / f"{name}.log").read_text() for name in names))
    return uuid


def supervisors(tool: Pyrkt, uuid: str) -> tuple[int, list[int]]:
    """Return the pod's supervisor and those of its apps."""
    number = int((tool.directory(uuid) / "supervisor").read_text().split()[0])
    first = int((tool.directory(uuid) / "pid").read_text().split()[0])
    children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    names = {int(child): Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0] for child in children}
    return number, [child for child, name in names.items() if child != first and name == b"pyrkt-stage1"]


def gone(numbers: set[int]) -> bool:
    return eventually(lambda: not any(Path(f"/proc/{number}").exists() for number in numbers))


def test_the_supervisor_is_killed(tool: Pyrkt) -> None:
    uuid = started(tool, *app(tool, "a", FAMILY), *app(tool, "b", FAMILY), names="ab")
    alive = pids(tool, uuid, "a") | pids(tool, uuid, "b")
    assert len(alive) >= 4
    os.kill(supervisors(tool, uuid)[0], signal.SIGKILL)
    assert gone(alive)
    assert eventually(lambda: tool.pod(uuid)["state"] == "exited")
    assert all("exit_code" not in found for found in tool.pod(uuid)["apps"])
    tool.ok("gc", "--grace-period=0")
    assert not cgroups(uuid)
    assert not processes(uuid)


@pytest.mark.parametrize("restart", ["no", "on-failure:1"])
def test_the_supervisor_of_an_app_is_killed(tool: Pyrkt, restart: str) -> None:
    words = (*app(tool, "a", FAMILY, f"--restart={restart}", "--restart-delay=5ms"), *app(tool, "b", WAITS))
    uuid = started(tool, *words, names="ab")
    alive = pids(tool, uuid, "a")
    (member,) = [
        number
        for number in supervisors(tool, uuid)[1]
        if alive & {int(child) for child in Path(f"/proc/{number}/task/{number}/children").read_text().split()}
    ]
    os.kill(member, signal.SIGKILL)
    assert gone(alive)
    if restart == "no":
        assert "app-a=137" in tool.ok("status", "--wait", uuid)
        assert of(tool, uuid, "b")["exit_code"] == 0
    else:
        assert eventually(lambda: of(tool, uuid, "a").get("restarts") == 1 and len(pids(tool, uuid, "a")) >= 2)
        tool.ok("stop", "--force", uuid)
    assert not cgroups(uuid)
    tool.ok("rm", uuid)


def test_the_first_process_is_killed(tool: Pyrkt) -> None:
    uuid = started(tool, *app(tool, "a", FAMILY), *app(tool, "b", WAITS), names="ab")
    alive = pids(tool, uuid, "a") | pids(tool, uuid, "b")
    os.kill(tool.pod(uuid)["pid"], signal.SIGKILL)
    assert gone(alive)
    assert tool.ok("status", "--wait", uuid).count("=137") == 2
    assert not cgroups(uuid)
    tool.ok("rm", uuid)


def test_the_apps_own_first_process_is_killed(tool: Pyrkt) -> None:
    uuid = started(tool, *app(tool, "a", FAMILY), *app(tool, "b", WAITS), names="ab")
    alive = pids(tool, uuid, "a")
    os.kill(int((tool.directory(uuid) / "apps/a/pid").read_text().split()[0]), signal.SIGKILL)
    assert gone(alive)
    assert "app-a=137" in tool.ok("status", "--wait", uuid)
    tool.ok("rm", uuid)


def test_what_an_app_leaves_running_ends_with_it(tool: Pyrkt, shared: Path) -> None:
    """One that daemonizes has ended, as for systemd's simple services: its daemon goes."""
    daemon = "setsid sh -c 'echo $$ > /s/daemon; while :; do sleep 0.05; done' & until test -s /s/daemon; do :; done"
    uuid = tool.detached(*volume(shared), *app(tool, "a", daemon), *app(tool, "b", WAITS))
    assert eventually(lambda: of(tool, uuid, "a")["state"] == "exited")
    assert of(tool, uuid, "a")["exit_code"] == 0
    assert not pids(tool, uuid, "a")
    tool.ok("rm", "--force", uuid)


def test_orphans_are_reaped(tool: Pyrkt) -> None:
    script = """
    i=0; while [ $i -lt 20 ]; do (sh -c 'exit 0' &); i=$((i + 1)); done
    n=1; while [ $n != 0 ]; do n=$(grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l); done; echo none left
    """
    assert tool.ok("run", *app(tool, "a", script)) == "none left\n"


# --- how many, how long ---


def test_as_many_apps_as_there_can_be(tool: Pyrkt) -> None:
    words = [word for number in range(64) for word in app(tool, f"n{number}", "exit 0")]
    answer = tool.call("run", *words)
    assert answer.code == 0, answer.err
    uuid = json.loads(tool.ok("list", "--format=json"))[-1]["name"]
    assert [app["exit_code"] for app in tool.pod(uuid)["apps"]] == [0] * 64
    assert not cgroups(uuid)
    answer = tool.call("prepare", *words, *app(tool, "last", "exit 0"))
    assert (answer.code, "64 at most" in answer.err) == (2, True)


def test_names_as_long_as_they_can_be(tool: Pyrkt) -> None:
    name = "a" * 63
    uuid = tool.ok("prepare", "--quiet", *app(tool, name, "echo $AC_APP_NAME")).split()[-1]
    assert tool.ok("run-prepared", uuid).split() == [name]
    assert of(tool, uuid, name)["exit_code"] == 0
    answer = tool.call("prepare", *app(tool, name + "b", "exit 0"))
    assert (answer.code, "more than 63" in answer.err) == (2, True)
    image = make_aci(tool.base / "long.aci", f"example.com/{'x' * 70}")
    assert tool.call("prepare", str(image)).code == 2


def test_names_that_are_no_names(tool: Pyrkt) -> None:
    for name in ("A", "-a", "a-", "a--b", "a/b", "a.b", "a b", "ä"):
        assert tool.call("prepare", f"oci:{tool.base}/layout:bb", f"--name={name}").code == 2


def test_a_whole_process_group_is_killed(tool: Pyrkt) -> None:
    process = subprocess.Popen(
        tool.argv("run", *app(tool, "a", WAITS)),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    wait_for(process, b"ready")
    os.killpg(process.pid, signal.SIGKILL)
    assert end(process) == -signal.SIGKILL
    uuid = json.loads(tool.ok("list", "--format=json"))[-1]["name"]
    assert eventually(lambda: not processes(uuid))
    assert tool.pod(uuid)["state"] == "exited"
    tool.ok("rm", uuid)
    assert not cgroups(uuid)
