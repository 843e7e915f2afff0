"""Mutable pods, as rkt's ``app`` commands and a Kubernetes runtime drive them (rkt's TestAppSandbox*)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.oci import cgroups, eventually
from tests.support.pods import Pyrkt, make_aci, make_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.root, pytest.mark.peers]
FOREVER = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.02; done"


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with an OCI image, and ACIs beside it; checks at the end that nothing stayed."""
    tool = Pyrkt(tmp_path_factory.mktemp("apps"))
    make_layout(tool.base / "layout")
    make_aci(tool.base / "box.aci", app={"exec": ["/bin/sh", "-c", FOREVER]})
    yield tool
    assert tool.clean() == []


@pytest.fixture
def pod(tool: Pyrkt) -> Iterator[str]:
    """A sandbox without apps."""
    uuid = sandbox(tool)
    yield uuid
    tool.call("stop", "--force", uuid)
    tool.call("rm", uuid)


def sandbox(tool: Pyrkt, *words: str) -> str:
    """Start a sandbox; return its UUID."""
    return tool.ok("app", "sandbox", *words).strip()


def box(tool: Pyrkt) -> str:
    return f"{tool.base}/box.aci"


def shell(tool: Pyrkt, pod: str, name: str, script: str, *flags: str) -> None:
    """Add an app that runs a shell script."""
    tool.ok("app", "add", pod, f"oci:{tool.base}/layout:bb", f"--name={name}", *flags, "--", "/bin/sh", "-c", script)


def states(tool: Pyrkt, pod: str) -> dict[str, str]:
    lines = tool.ok("app", "list", pod).splitlines()
    return dict(line.split("\t") for line in lines)


def state(tool: Pyrkt, pod: str, name: str) -> dict[str, Any]:
    found = json.loads(tool.ok("app", "status", pod, f"--app={name}", "--format=json"))
    assert isinstance(found, dict)
    return found


def log(tool: Pyrkt, pod: str, name: str) -> str:
    return (tool.directory(pod) / f"logs/{name}.log").read_text()


def ready(tool: Pyrkt, pod: str, name: str) -> bool:
    return eventually(lambda: "ready" in log(tool, pod, name))


# --- rkt's own cases ---


def test_smoke(tool: Pyrkt, tmp_path: Path) -> None:
    saved = tmp_path / "uuid"
    pod = sandbox(tool, f"--uuid-file-save={saved}", "--name=smoke")
    assert saved.read_text().strip() == pod
    assert states(tool, pod) == {}
    assert tool.ok("app", "add", pod, box(tool), "--name=a") == "a\n"
    assert states(tool, pod) == {"a": "created"}
    tool.ok("app", "start", pod, "--app=a")
    assert states(tool, "smoke") == {"a": "running"}
    assert ready(tool, pod, "a")
    tool.ok("app", "stop", pod, "--app=a")
    assert states(tool, pod) == {"a": "exited"}
    tool.ok("app", "rm", pod, "--app=a")
    assert states(tool, pod) == {}
    assert tool.pod(pod)["state"] == "running"
    tool.ok("stop", pod)
    assert tool.pod(pod)["state"] == "exited"
    tool.ok("rm", pod)
    assert not cgroups(pod)


def test_an_app_without_a_name_has_its_images(tool: Pyrkt, pod: str) -> None:
    assert tool.ok("app", "add", pod, box(tool)) == "box\n"
    assert tool.ok("app", "add", "--name=given", pod, box(tool)) == "given\n"
    assert tool.ok("app", "add", pod, "--name=between", box(tool)) == "between\n"
    assert set(states(tool, pod)) == {"box", "given", "between"}


def test_several_apps_come_and_go(tool: Pyrkt, pod: str) -> None:
    names = [f"app{number}" for number in range(4)]
    for name in names:
        tool.ok("app", "add", pod, box(tool), f"--name={name}")
    for name in names:
        tool.ok("app", "start", pod, name)
    assert states(tool, pod) == dict.fromkeys(names, "running")
    assert all(ready(tool, pod, name) for name in names)
    for name in names[:2]:
        tool.ok("app", "stop", pod, name)
        tool.ok("app", "rm", pod, name)
    assert states(tool, pod) == dict.fromkeys(names[2:], "running")
    assert {app["name"] for app in json.loads(tool.ok("cat-manifest", pod))["apps"]} == set(names[2:])
    tool.ok("stop", pod)
    assert [app["exit_code"] for app in tool.pod(pod)["apps"]] == [0, 0]


def test_one_is_started_again_and_keeps_its_files(tool: Pyrkt, pod: str) -> None:
    shell(tool, pod, "a", f"date +%s >> /count; {FOREVER}")
    for _ in range(5):
        tool.ok("app", "start", pod, "a")
        assert state(tool, pod, "a")["state"] == "running"
        tool.ok("app", "stop", pod, "a")
        assert state(tool, pod, "a")["state"] == "exited"
    (upper,) = tool.directory(pod).glob("apps/a/upper/count")
    assert len(upper.read_text().split()) == 5


@pytest.mark.parametrize("read_only", [False, True])
def test_a_volume_of_an_app(tool: Pyrkt, pod: str, tmp_path: Path, read_only: bool) -> None:
    (tmp_path / "seen").write_text("from the host\n")
    volume = f"name=v,kind=host,source={tmp_path},target=/mnt/v,readOnly={str(read_only).lower()}"
    shell(tool, pod, "a", "cat /mnt/v/seen; touch /mnt/v/new && echo wrote", f"--mnt-volume={volume}")
    tool.ok("app", "start", pod, "a")
    assert eventually(lambda: state(tool, pod, "a")["state"] == "exited")
    assert "from the host" in log(tool, pod, "a")
    assert (tmp_path / "new").exists() is not read_only
    mounts = state(tool, pod, "a")["mounts"]
    assert {"name": "v", "container_path": "/mnt/v", "host_path": str(tmp_path), "read_only": read_only} in mounts


def test_annotations_and_labels(tool: Pyrkt) -> None:
    pod = sandbox(tool, "--annotation=example.com/a=pod", "--user-annotation=x=y", "--user-label=l=m")
    try:
        flags = ("--annotation=example.com/a=app", "--user-annotation=u=v", "--user-label=k=w")
        tool.ok("app", "add", pod, box(tool), "--name=a", *flags)
        found = state(tool, pod, "a")
        assert (found["user_annotations"], found["user_labels"]) == ({"u": "v"}, {"k": "w"})
        manifest = json.loads(tool.ok("cat-manifest", pod))
        assert manifest["annotations"] == [{"name": "example.com/a", "value": "pod"}]
        assert manifest["apps"][0]["annotations"] == [{"name": "example.com/a", "value": "app"}]
        whole = tool.pod(pod)
        assert (whole["user_annotations"], whole["user_labels"]) == ({"x": "y"}, {"l": "m"})
    finally:
        tool.ok("rm", "--force", pod)


def test_logs_where_kubernetes_looks_for_them(tool: Pyrkt, tmp_path: Path) -> None:
    begin = "--annotation=coreos.com/rkt/experiment"
    pod = sandbox(tool, f"{begin}/logmode=k8s-plain", f"{begin}/kubernetes-log-dir={tmp_path}/logs")
    try:
        shell(tool, pod, "a", "echo out; echo err >&2", f"{begin}/kubernetes-log-path=a/0.log")
        tool.ok("app", "start", pod, "a")
        assert eventually(lambda: state(tool, pod, "a")["state"] == "exited")
        lines = (tmp_path / "logs/a/0.log").read_text().splitlines()
        assert sorted(line.split(" ", 1)[1] for line in lines) == ["stderr F err", "stdout F out"]
        answer = tool.call("app", "add", pod, box(tool), "--name=b", f"{begin}/kubernetes-log-path=../b.log")
        assert (answer.code, "not below" in answer.err) == (2, True)
        assert "a" in tool.ok("app", "list", pod)
        tool.ok("app", "rm", pod, "a")
        assert not os.path.lexists(tmp_path / "logs/a/0.log")
    finally:
        tool.ok("rm", "--force", pod)


# --- what a Kubernetes runtime asks ---


def test_the_lines_of_app_status(tool: Pyrkt, pod: str) -> None:
    shell(tool, pod, "a", "exit 7")
    lines = dict(line.split("=", 1) for line in tool.ok("app", "status", pod, "a").splitlines())
    assert lines.keys() == {"name", "state", "image_id", "created_at"}
    assert lines["state"] == "created"
    tool.ok("app", "start", pod, "a")
    assert eventually(lambda: state(tool, pod, "a")["state"] == "exited")
    lines = dict(line.split("=", 1) for line in tool.ok("app", "status", pod, "a").splitlines())
    assert [*lines] == ["name", "state", "image_id", "created_at", "started_at", "finished_at", "exit_code"]
    assert (lines["state"], lines["exit_code"]) == ("exited", "7")
    times = [int(lines[name]) for name in ("created_at", "started_at", "finished_at")]
    assert times == sorted(times)


def test_each_run_has_its_own_times_and_code(tool: Pyrkt, pod: str) -> None:
    shell(tool, pod, "a", "[ -e /again ] && exit 3; touch /again; exit 4")
    seen = []
    for _ in range(2):
        tool.ok("app", "start", pod, "a")
        assert eventually(lambda: state(tool, pod, "a")["state"] == "exited")
        seen.append(state(tool, pod, "a"))
    assert [found["exit_code"] for found in seen] == [4, 3]
    assert seen[0]["finished_at"] <= seen[1]["started_at"]
    assert seen[0]["created_at"] == seen[1]["created_at"]
    assert seen[0]["state"] == "exited"
    assert tool.pod(pod)["state"] == "running"


def test_stop_waits_for_its_grace(tool: Pyrkt, pod: str) -> None:
    shell(tool, pod, "deaf", "trap '' TERM; echo ready; while :; do sleep 0.02; done")
    for flags in (("--grace=50ms",), ("--force",)):
        (tool.directory(pod) / "logs/deaf.log").unlink(missing_ok=True)
        tool.ok("app", "start", pod, "deaf")
        assert ready(tool, pod, "deaf")
        tool.ok("app", "stop", pod, "deaf", *flags)
        assert state(tool, pod, "deaf")["exit_code"] == 137
    answer = tool.call("app", "stop", pod, "deaf")
    assert (answer.code, "not running" in answer.err) == (0, True)


def test_apps_share_the_pod_and_its_limits(tool: Pyrkt, pod: str) -> None:
    look = "for n in pid net uts ipc; do readlink /proc/self/ns/$n; done; echo ready; sleep 600"
    for name in ("a", "b"):
        shell(tool, pod, name, look, "--pids=20")
        tool.ok("app", "start", pod, name)
        assert ready(tool, pod, name)
    first, second = ([line.split(" ")[3] for line in log(tool, pod, name).splitlines()[:4]] for name in ("a", "b"))
    assert first == second
    found = tool.pod(pod)["apps"]
    assert all(path.endswith(f"/pyrkt-{pod}/{app['name']}") for app in found for path in app["cgroups"])
    limits = [Path(path, "pids.max") for app in found for path in app["cgroups"]]
    assert [path.read_text() for path in limits if path.exists()] == ["20\n", "20\n"]


def test_exec_is_confined_as_the_app(tool: Pyrkt, pod: str) -> None:
    shell(tool, pod, "a", FOREVER, "--user=1000", "--group=1000")
    tool.ok("app", "start", pod, "a")
    out = tool.ok("app", "exec", "--app=a", pod, "sh", "-c", "id -u; grep NoNewPrivs /proc/self/status")
    assert out.split() == ["1000", "NoNewPrivs:", "1"]
    assert tool.call("app", "exec", pod, "sh", "-c", "exit 6").code == 6


def test_a_failing_app_ends_nothing_unless_it_should(tool: Pyrkt, pod: str) -> None:
    shell(tool, pod, "a", "exit 1")
    tool.ok("app", "start", pod, "a")
    assert eventually(lambda: state(tool, pod, "a")["state"] == "exited")
    assert tool.pod(pod)["state"] == "running"
    strict = sandbox(tool, "--exit-policy=until-any-fails")
    shell(tool, strict, "a", "exit 5")
    tool.ok("app", "start", strict, "a")
    assert "app-a=5" in tool.ok("status", "--wait", strict)
    tool.ok("rm", strict)


def test_one_with_a_restart_policy_goes_on_until_it_is_stopped(tool: Pyrkt, pod: str) -> None:
    shell(tool, pod, "a", "exit 1", "--restart=always", "--restart-delay=5ms")
    tool.ok("app", "start", pod, "a")
    assert eventually(lambda: state(tool, pod, "a").get("restarts", 0) > 2)
    tool.ok("app", "stop", pod, "a")
    assert state(tool, pod, "a")["state"] == "exited"
    tool.ok("app", "start", pod, "a")
    tool.ok("app", "stop", pod, "a")


def test_its_handlers_are_run(tool: Pyrkt, pod: str, tmp_path: Path) -> None:
    handlers = [
        {"name": "pre-start", "exec": ["/bin/sh", "-c", "echo pre $(id -u) $AC_APP_NAME >> /v/said"]},
        {"name": "post-stop", "exec": ["/bin/sh", "-c", "echo post $(id -u) >> /v/said"]},
    ]
    app = {"exec": ["/bin/sh", "-c", "echo main $(id -u) >> /v/said"], "user": "1000", "group": "1000"}
    image = make_aci(tmp_path / "h.aci", "example.com/h", app={**app, "eventHandlers": handlers})
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "said").touch()
    (shared / "said").chmod(0o666)
    tool.ok("app", "add", pod, str(image), f"--mnt-volume=name=v,kind=host,source={shared},target=/v")
    for _ in range(2):
        tool.ok("app", "start", pod, "h")
        assert eventually(lambda: state(tool, pod, "h")["state"] == "exited")
    assert (shared / "said").read_text().splitlines() == ["pre 0 h", "main 1000", "post 0"] * 2


def test_a_pre_start_that_fails_is_told(tool: Pyrkt, pod: str, tmp_path: Path) -> None:
    handlers = [{"name": "pre-start", "exec": ["/bin/sh", "-c", "exit 9"]}]
    image = make_aci(tmp_path / "h.aci", "example.com/h", app={"exec": ["/bin/true"], "eventHandlers": handlers})
    tool.ok("app", "add", pod, str(image), "--restart=always")
    answer = tool.call("app", "start", pod, "h")
    assert answer.code == 125
    assert "the pre-start handler of app 'h' ended with 9" in answer.err
    tool.ok("app", "stop", pod, "h")


def test_volumes_of_the_sandbox_are_shared(tool: Pyrkt) -> None:
    pod = sandbox(tool, "--volume=common,kind=empty,mode=0777", "--set-env=WORD=given")
    try:
        for name, script in (("a", "echo $WORD > /c/word"), ("b", "until cat /c/word; do sleep 0.02; done")):
            shell(tool, pod, name, script, "--mount=volume=common,target=/c")
            tool.ok("app", "start", pod, name)
        assert eventually(lambda: state(tool, pod, "b").get("exit_code") == 0)
        assert "given" in log(tool, pod, "b")
        answer = tool.call("app", "add", pod, box(tool), "--mount=volume=other,target=/c")
        assert (answer.code, "other" in answer.err) == (2, True)
    finally:
        tool.ok("rm", "--force", pod)


def test_an_empty_volume_goes_with_its_app(tool: Pyrkt, pod: str) -> None:
    shell(tool, pod, "a", "touch /v/x; stat -c %a /v", "--mnt-volume=name=v,kind=empty,mode=0750,target=/v")
    volume = tool.directory(pod) / "volumes/a.v"
    tool.ok("app", "start", pod, "a")
    assert eventually(lambda: (volume / "x").exists() and "750" in log(tool, pod, "a"))
    assert eventually(lambda: state(tool, pod, "a")["state"] == "exited")
    tool.ok("app", "rm", pod, "a")
    assert not volume.exists()


def test_in_user_namespaces(tool: Pyrkt) -> None:
    pod = sandbox(tool, "--private-users")
    try:
        for name in ("a", "b"):
            shell(tool, pod, name, "id -u; awk '{print $2}' /proc/self/uid_map; echo ready; sleep 600")
            tool.ok("app", "start", pod, name)
            assert ready(tool, pod, name)
        seen = [[line.split(" ")[3] for line in log(tool, pod, name).splitlines()] for name in ("a", "b")]
        assert seen[0] == seen[1]
        assert seen[0][0] == "0"
        assert int(seen[0][1]) >= 1 << 19
    finally:
        tool.ok("rm", "--force", pod)


def test_in_a_network_with_its_names(tool: Pyrkt) -> None:
    pod = sandbox(tool, "--net=default", "--hostname=box", "--dns=10.9.9.9", "--hosts-entry=10.1.1.1=db")
    try:
        shell(
            tool, pod, "a", "ip -4 -o addr show eth0; cat /etc/resolv.conf /etc/hosts; hostname; echo ready; sleep 60"
        )
        tool.ok("app", "start", pod, "a")
        assert ready(tool, pod, "a")
        text = log(tool, pod, "a")
        (network,) = tool.pod(pod)["networks"]
        for word in (network["ip"], "nameserver 10.9.9.9", "10.1.1.1", "F box"):
            assert word in text
    finally:
        tool.ok("rm", "--force", pod)


def test_an_app_that_comes_later_has_the_networks_servers(tool: Pyrkt) -> None:
    (tool.base / "etc/net.d").mkdir(parents=True)
    conf = {
        "name": "named", "type": "ptp", "ipMasq": False, "cniVersion": "0.4.0",
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.250.77.0/24"}]]},
        "dns": {"nameservers": ["10.250.77.53"]},
    }  # fmt: skip
    (tool.base / "etc/net.d/named.conf").write_text(json.dumps(conf))
    pod = sandbox(tool, "--net=named")
    try:
        shell(tool, pod, "a", "cat /etc/resolv.conf; echo ready")
        tool.ok("app", "start", pod, "a")
        assert ready(tool, pod, "a")
        assert "nameserver 10.250.77.53" in log(tool, pod, "a")
    finally:
        tool.ok("rm", "--force", pod)
        (tool.base / "etc/net.d/named.conf").unlink()


def test_the_metadata_service_knows_it_as_soon_as_it_runs(tool: Pyrkt, pod: str) -> None:
    url = "$AC_METADATA_URL/acMetadata/v1"
    script = f"wget -q -O - {url}/apps/a/image/id; echo; wget -q -O - {url}/pod/manifest | grep -c second; echo ready"
    shell(tool, pod, "second", FOREVER)
    tool.ok("app", "start", pod, "second")
    shell(tool, pod, "a", script)
    tool.ok("app", "start", pod, "a")
    assert ready(tool, pod, "a")
    words = [line.split(" ")[3] for line in log(tool, pod, "a").splitlines()]
    assert words[0].startswith("sha512-")
    assert words[-2:] == ["1", "ready"]


# --- what other commands make of such pods ---


def test_the_other_commands_know_it(tool: Pyrkt, pod: str, tmp_path: Path) -> None:
    (row,) = [line.split() for line in tool.ok("list", "--full").splitlines() if line.startswith(pod)]
    assert row[1] == "-"
    plan = tool.ok("plan", pod)
    assert "## pod" in plan
    assert "## apps/" not in plan
    shell(tool, pod, "a", f"echo changed > /note; {FOREVER}")
    tool.ok("app", "start", pod, "a")
    assert ready(tool, pod, "a")
    assert "## apps/a/plan" in tool.ok("plan", pod)
    assert tool.ok("plan", "--hash", pod) != ""
    assert tool.ok("enter", pod, "cat", "/note") == "changed\n"
    assert "ready" in tool.ok("logs", pod)
    assert "running" in tool.ok("status", "--wait-ready=10s", pod)
    assert tool.call("rm", pod).code == 75
    tool.ok("stop", pod)
    tool.ok("export", pod, str(tmp_path / "a.aci"))
    assert (tmp_path / "a.aci").stat().st_size > 0


def test_its_processes_are_shown_by_app(tool: Pyrkt, pod: str) -> None:
    shell(tool, pod, "a", FOREVER)
    tool.ok("app", "start", pod, "a")
    assert ready(tool, pod, "a")
    found = json.loads(tool.ok("ps", "--format=json", pod))
    assert "a" in {process.get("app") for process in found}


def test_an_image_in_use_is_kept(tool: Pyrkt, pod: str) -> None:
    own = make_aci(tool.base / "own.aci", "example.com/own", app={"exec": ["/bin/sh", "-c", FOREVER]})
    tool.ok("app", "add", pod, str(own))
    (tree,) = (tool.directory(pod) / "apps/own/trees").read_text().split()
    tool.ok("image", "rm", json.loads(tool.ok("app", "status", pod, "own", "--format=json"))["image_id"])
    tool.ok("image", "gc", "--grace-period=0")
    assert (tool.data / "trees" / tree).is_dir()
    tool.ok("app", "start", pod, "own")
    tool.ok("app", "stop", pod, "own")
    tool.ok("app", "rm", pod, "own")
    tool.ok("image", "gc", "--grace-period=0")
    assert not (tool.data / "trees" / tree).exists()
    own.unlink()


def test_each_start_is_measured_before_it(tool: Pyrkt, tmp_path: Path) -> None:
    record = tmp_path / "measured"
    settings = tool.base / "etc/measurements.d"
    settings.mkdir(parents=True)
    (settings / "a.json").write_text(
        json.dumps({"rktKind": "measurements", "rktVersion": "v1", "log": str(record), "required": True})
    )
    try:
        pod = sandbox(tool)
        shell(tool, pod, "a", "exit 0")
        before = record.read_text().count("\x1e")
        for _ in range(2):
            tool.ok("app", "start", pod, "a")
            assert eventually(lambda: state(tool, pod, "a")["state"] == "exited")
        events = [json.loads(line)["content"] for line in record.read_text().split("\x1e")[before + 1 :]]
        kinds = [event["eventType"] for event in events]
        assert len(kinds) == 10
        assert kinds[:5] == kinds[5:]
        assert {event.get("app") for event in events} == {"a", None}
        record.unlink()
        record.mkdir()  # cannot be written
        answer = tool.call("app", "start", pod, "a")
        assert answer.code != 0
        assert "cannot be measured" in answer.err
        assert state(tool, pod, "a")["state"] == "exited"
        tool.ok("rm", "--force", pod)
    finally:
        (settings / "a.json").unlink()


# --- refusals, and what goes wrong ---


def test_refusals(tool: Pyrkt, pod: str) -> None:
    tool.ok("app", "add", pod, box(tool), "--name=a")
    tool.ok("app", "start", pod, "a")
    for words, code, said in (
        (("add", pod, box(tool), "--name=a"), 73, "has an app 'a'"),
        (("add", pod, box(tool), "--name=A"), 2, "no name of an app"),
        (("add", pod, box(tool), f"--name={'a' * 64}"), 2, "more than 63"),
        (("add", pod, "/no/such.aci"), 66, "No such file"),
        (("add", pod), 2, "which app"),
        (("add", pod, box(tool), "--name=b", "--mnt-volume=name=v,kind=host"), 2, "needs a name and a target"),
        (("start", pod, "a"), 75, "runs already"),
        (("start", pod, "b"), 66, "no app 'b'"),
        (("stop", pod, "b"), 66, "no app 'b'"),
        (("rm", pod, "b"), 66, "no app 'b'"),
        (("rm", pod, "a"), 75, "is running"),
        (("status", pod, "b"), 66, "no app 'b'"),
        (("status", pod, "a", "--format=xml"), 2, "neither json"),
        (("list",), 2, "which pod"),
        (("sandbox", box(tool)), 2, "no apps yet"),
        (("sandbox", "--port=www:tcp:80"), 2, "cannot be read"),
        (("start", "0123"), 66, "no matches"),
    ):
        answer = tool.call("app", *words)
        assert (answer.code, said in answer.err, answer.err.count("\n")) == (code, True, 2), (words, answer.err)
    assert states(tool, pod) == {"a": "running"}


def test_ordinary_pods_take_no_apps(tool: Pyrkt) -> None:
    uuid = tool.detached(f"oci:{tool.base}/layout:bb", "--", "/bin/sh", "-c", FOREVER)
    try:
        answer = tool.call("app", "add", uuid, box(tool))
        assert answer.code == 2
        assert "what they were when it was made" in answer.err
        assert states(tool, uuid) == {"layout": "running"}
        assert state(tool, uuid, "layout")["state"] == "running"
    finally:
        tool.ok("rm", "--force", uuid)
    answer = tool.call("app", "add", uuid, box(tool))
    assert answer.code == 66


def test_one_that_cannot_start_says_why(tool: Pyrkt, pod: str) -> None:
    for name, program, code in (("a", "/no/such", 127), ("b", "/etc/plain", 126)):
        tool.ok("app", "add", pod, f"oci:{tool.base}/layout:bb", f"--name={name}", f"--exec={program}")
        answer = tool.call("app", "start", pod, name)
        assert (answer.code, program in answer.err) == (code, True), answer.err
        assert state(tool, pod, name)["exit_code"] == code
    assert tool.pod(pod)["state"] == "running"


def everything(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.name != "pod.lck"}


def test_a_failed_add_leaves_nothing(tool: Pyrkt, pod: str) -> None:
    tool.ok("app", "add", pod, box(tool), "--name=a")
    before = everything(tool.directory(pod))
    for flags in (
        ("--user=nobody-there",),
        ("--mnt-volume=name=v,kind=host,source=/no/such,target=/v",),
        ("--mnt-volume=name=v,kind=empty,target=/v", "--working-dir=/none"),
        ("--mount=volume=none,target=/v",),
    ):
        answer = tool.call("app", "add", pod, box(tool), "--name=b", *flags)
        assert answer.code not in (0, 1), answer.err
        assert everything(tool.directory(pod)) == before
    assert set(states(tool, pod)) == {"a"}


def test_adds_at_once(tool: Pyrkt, pod: str) -> None:
    names = [f"app{number}" for number in range(8)]
    running = [tool.popen("app", "add", pod, box(tool), f"--name={name}") for name in (*names, *names[:2])]
    codes = [process.wait(120) for process in running]
    for process in running:
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
    assert sorted(codes) == [0] * 8 + [73] * 2
    assert set(states(tool, pod)) == set(names)
    starting = [threading.Thread(target=tool.ok, args=("app", "start", pod, name)) for name in names]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join(60)
    assert states(tool, pod) == dict.fromkeys(names, "running")


def test_an_add_may_be_killed_at_any_moment(tool: Pyrkt, pod: str) -> None:
    for step in range(12):
        process = subprocess.Popen(
            tool.argv("app", "add", pod, box(tool), "--name=a"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1 + step * 0.05)
        process.kill()
        process.wait()
        found = states(tool, pod)
        if found:
            assert found == {"a": "created"}
            tool.ok("app", "rm", pod, "a")
    tool.ok("app", "add", pod, box(tool), "--name=a")
    tool.ok("app", "start", pod, "a")
    assert states(tool, pod) == {"a": "running"}


def test_the_pods_end_takes_all_apps_with_it(tool: Pyrkt) -> None:
    pod = sandbox(tool)
    shell(tool, pod, "a", FOREVER)
    tool.ok("app", "start", pod, "a")
    shell(tool, pod, "b", FOREVER)
    supervisor = int((tool.directory(pod) / "supervisor").read_text().split()[0])
    os.kill(supervisor, signal.SIGKILL)
    assert eventually(lambda: tool.pod(pod)["state"] == "exited")
    answer = tool.call("app", "start", pod, "b")
    assert (answer.code, "not running but exited" in answer.err) == (2, True)
    tool.ok("rm", pod)
    assert eventually(lambda: not cgroups(pod))
