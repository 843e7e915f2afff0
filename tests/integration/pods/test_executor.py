"""How apps are executed: programs, handlers, exit codes, what a pod shares; rkt's functional tests of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pods import Pyrkt, make_aci, make_layout

pytestmark = [pytest.mark.root, pytest.mark.peers]

JSON = dict[str, Any]
FILES = {
    "bin/no-interpreter": "#!/no/such/interpreter\n",
    "bin/script": "#!/bin/sh\necho script $0 $*\n",
    "opt/tool": "#!/bin/sh\necho tool\n",
    "job/here": "",
}


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with a plain image, one without an app section, and some with event handlers."""
    made = Pyrkt(tmp_path_factory.mktemp("executor"))
    images = [make_aci(made.base / "plain.aci", "example.com/plain", {}, FILES)]
    images.append(make_aci(made.base / "bare.aci", "example.com/bare", {"exec": None}, FILES))
    images += [make_aci(made.base / f"{name}.aci", f"example.com/{name}", app) for name, app in IMAGES.items()]
    made.ok("fetch", *map(str, images))
    yield made
    assert made.clean() == []


def handler(name: str, script: str) -> JSON:
    return {"name": name, "exec": ["/bin/sh", "-c", script]}


def sh(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


IMAGES: dict[str, JSON] = {
    "handlers": {
        "exec": sh("echo main >> /order; id -u; exit 3"),
        "user": "1000",
        "group": "1000",
        "eventHandlers": [
            handler("pre-start", "id -u > /who; echo pre-start >> /order; chmod 666 /order"),
            handler("post-stop", "echo post-stop >> /order; cat /order"),
        ],
    },
    "bad-pre-start": {"exec": sh("echo main"), "eventHandlers": [handler("pre-start", "exit 4")]},
    "by-path": {"exec": sh("cat /handled"), "eventHandlers": [{"name": "pre-start", "exec": ["touch", "/handled"]}]},
    "described": {
        "exec": sh("exit 0"),
        "userAnnotations": {"Any Key": "1", "memory": "1k"},
        "userLabels": {"user": "nobody", "restart": "always"},
    },
}


def plain(script: str, *flags: str) -> list[str]:
    return ["example.com/plain", *flags, "--exec=/bin/sh", "--", "-c", script, "---"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        pytest.param(["--exec=/bin/echo", "--", "a", "b c"], "a b c\n", id="absolute"),
        pytest.param(["--exec=echo", "--", "a"], "a\n", id="by-path"),
        pytest.param(["--exec=script", "--", "a"], "script /bin/script a\n", id="a-script-by-path"),
        pytest.param(["--exec=tool", "--environment=PATH=/none:/opt:/bin"], "tool\n", id="by-the-apps-own-path"),
        pytest.param(["--exec=tool", "--environment=PATH=", "--working-dir=/opt"], "tool\n", id="no-path-is-here"),
        pytest.param(["--exec=echo", "--", "$HOME `id` *"], "$HOME `id` *\n", id="no-shell"),
        pytest.param(["--exec=/bin/echo", "--", "--exec", "-n", "---"], "--exec -n\n", id="arguments-like-flags"),
    ],
)
@pytest.mark.parametrize(("image", "prepared"), [("plain", False), ("bare", True)], ids=["run", "prepared-bare"])
def test_another_program(tool: Pyrkt, image: str, prepared: bool, words: list[str], text: str) -> None:
    """rkt's RunOverrideExec and RunPreparedOverrideExec, of an image without an app section, too."""
    if prepared:
        uuid = tool.ok("prepare", "--quiet", f"example.com/{image}", *words).split()[-1]
        assert tool.ok("run-prepared", uuid) == text
    else:
        assert tool.ok("run", f"example.com/{image}", *words) == text


def test_an_image_without_an_app_section_says_no_program(tool: Pyrkt) -> None:
    answer = tool.call("run", "example.com/bare")
    assert answer.code == 2
    assert "the image names no program" in answer.err


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        pytest.param(["--exec=/no/such"], 127, "/no/such", id="missing"),
        pytest.param(["--exec=nosuch"], 127, "nosuch", id="not-in-path"),
        pytest.param(["--exec=/bin/no-interpreter"], 127, "/bin/no-interpreter", id="without-its-interpreter"),
        pytest.param(["--exec=/etc/passwd"], 126, "/etc/passwd", id="not-executable"),
        pytest.param(["--exec=/job"], 126, "/job", id="a-directory"),
        pytest.param(["--working-dir=/no/such"], 66, "no working directory '/no/such'", id="no-directory"),
        pytest.param(["--working-dir=/job/here"], 66, "no working directory '/job/here'", id="a-file"),
        pytest.param(["--working-dir=relative"], 2, "is not absolute", id="relative-directory"),
    ],
)
def test_what_cannot_be_executed_is_said(tool: Pyrkt, words: list[str], code: int, problem: str) -> None:
    """rkt's Diagnostic."""
    answer = tool.call("run", "example.com/plain", *words)
    assert answer.code == code
    assert problem in answer.err


@pytest.mark.parametrize("code", [0, 1, 2, 255])
def test_the_apps_exit_code_is_runs(tool: Pyrkt, code: int) -> None:
    assert tool.call("run", *plain(f"exit {code}")).code == code


def test_the_first_failure_is_runs_exit_code_and_ends_the_others(tool: Pyrkt) -> None:
    """rkt's ExitCodeWithSeveralApps."""
    waiting = "trap 'echo ended; exit 0' TERM; echo > /dev/shm/x; while :; do sleep 0.05; done"
    uuid = tool.ok(
        "prepare", "--quiet", *plain("exit 0", "--name=done"), *plain(waiting, "--name=waits"),
        *plain("sleep 0.3; exit 5", "--name=fails"),
    ).split()[-1]  # fmt: skip
    answer = tool.call("run-prepared", uuid)
    assert (answer.code, answer.out) == (5, "ended\n")
    assert {app["name"]: app["exit_code"] for app in tool.pod(uuid)["apps"]} == {"done": 0, "waits": 0, "fails": 5}


def test_a_pre_start_handler_runs_before_and_as_root_a_post_stop_handler_after(tool: Pyrkt) -> None:
    answer = tool.call("run", "example.com/handlers")
    assert answer.code == 3
    assert answer.out.splitlines() == ["1000", "pre-start", "main", "post-stop"]
    assert tool.ok("run", "example.com/by-path") == ""


def test_without_its_pre_start_handler_an_app_does_not_run(tool: Pyrkt) -> None:
    answer = tool.call("run", "example.com/bad-pre-start")
    assert answer.code != 0
    assert "main" not in answer.out


def test_each_execution_begins_with_a_clean_copy(tool: Pyrkt) -> None:
    for _ in range(2):
        assert tool.ok("run", *plain("cat /job/*; ls /job; echo x > /job/here; touch /job/new")) == "here\n"


def test_each_app_has_files_of_its_own_though_the_image_is_one(tool: Pyrkt) -> None:
    script = "touch /mine-$AC_APP_NAME; sleep 0.2; ls / | grep mine"
    out = tool.ok("run", *plain(script, "--name=a"), *plain(script, "--name=b"))
    assert sorted(out.split()) == ["mine-a", "mine-b"]


SPACES = "echo $(for n in pid net ipc uts mnt; do readlink /proc/self/ns/$n; done)"  # in one write


def test_the_apps_of_a_pod_share_all_namespaces_but_that_of_mounts(tool: Pyrkt) -> None:
    first, second = tool.ok("run", *plain(SPACES, "--name=a"), *plain(SPACES, "--name=b")).splitlines()
    assert first.split()[:4] == second.split()[:4]
    assert first.split()[4] != second.split()[4]
    own = [os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "net", "ipc", "uts", "mnt")]
    assert not set(own) & set(first.split())


def test_apps_see_and_signal_one_another_and_share_the_hostname(tool: Pyrkt) -> None:
    waits = "trap 'hostname; exit 0' TERM; while :; do sleep 0.05; done; : needle"
    signals = (
        "until pid=$(ps | grep '[n]eedle' | grep -v grep | while read p rest; do echo $p; break; done) && [ $pid ];"
    )
    signals += " do sleep 0.05; done; sleep 0.2; kill $pid; hostname"
    out = tool.ok("run", "--hostname=pod", *plain(waits, "--name=waits"), *plain(signals, "--name=signals"))
    assert out == "pod\npod\n"


@pytest.mark.parametrize(
    ("flag", "shared", "prepared"),
    [
        ("", False, False),
        ("auto", False, False),
        ("private", False, True),
        ("parent", True, False),
        ("parent", True, True),
    ],
)
def test_ipc(tool: Pyrkt, flag: str, shared: bool, prepared: bool) -> None:
    flags = [f"--ipc={flag}"] if flag else []
    command = plain("readlink /proc/self/ns/ipc; ls -d /dev/mqueue")
    if prepared:
        uuid = tool.ok("prepare", "--quiet", *command).split()[-1]
        out = tool.ok("run-prepared", *flags, uuid)
    else:
        out = tool.ok("run", *flags, *command)
    space, queues = out.split()
    assert (space == os.readlink("/proc/self/ns/ipc")) == shared
    assert queues == "/dev/mqueue"


def test_ipc_takes_no_other_word(tool: Pyrkt) -> None:
    answer = tool.call("run", "--ipc=shared", *plain("true"))
    assert answer.code == 2
    assert "--ipc 'shared' is none of auto, private, parent" in answer.err


def test_what_apps_write_goes_to_the_streams_it_was_written_to_and_is_kept(tool: Pyrkt) -> None:
    uuid = tool.ok("prepare", "--quiet", *plain("echo out; echo err >&2", "--name=a")).split()[-1]
    answer = tool.call("run-prepared", uuid)
    assert (answer.out, answer.err) == ("out\n", "err\n")
    log = (tool.directory(uuid) / "logs/a.log").read_text()
    assert [line.split(" ", 1)[1] for line in log.splitlines()] == ["stdout F out", "stderr F err"]


def test_annotations_and_labels_of_the_user_change_nothing(tool: Pyrkt) -> None:
    flags = ["--user-annotation=restart=always", "--user-label=memory=1"]
    uuid = tool.ok("prepare", "--quiet", "example.com/described", *flags).split()[-1]
    assert tool.call("run-prepared", uuid).code == 0
    (app,) = tool.pod(uuid)["apps"]
    assert app["user_annotations"] == {"Any Key": "1", "memory": "1k", "restart": "always"}
    assert app["user_labels"] == {"user": "nobody", "restart": "always", "memory": "1"}
    assert "isolators" not in app


def test_a_pod_has_a_uuid_that_is_no_others(tool: Pyrkt) -> None:
    uuids = [tool.ok("prepare", "--quiet", *plain("true")).split()[-1] for _ in range(2)]
    for uuid in uuids:
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", uuid)
        tool.ok("rm", uuid)
    assert len(set(uuids)) == 2


def test_a_loopback_is_up_whatever_the_network(tool: Pyrkt) -> None:
    out = tool.ok("run", *plain("ls /sys/class/net; grep -c 127.0.0.1 /proc/net/fib_trie; cat /sys/class/net/lo/flags"))
    interfaces, addresses, flags = out.split()
    assert interfaces == "lo"
    assert int(addresses) > 0
    assert int(flags, 16) & 1  # IFF_UP


def test_restart_and_exit_policies_by_flag_and_by_annotation(tool: Pyrkt, tmp_path: Path) -> None:
    counts = "echo x >> /n; [ $(wc -l < /n) = 3 ]"
    for words in (["--restart=on-failure:5"], ["--annotation=pyrkt/restart-policy=on-failure:5"]):
        uuid = tool.ok("prepare", "--quiet", *plain(counts, "--name=a", "--restart-delay=10ms", *words)).split()[-1]
        assert tool.call("run-prepared", uuid).code == 0
        assert (tool.directory(uuid) / "apps/a/upper/n").read_text() == "x\n" * 3
    given_up = plain("echo x; exit 7", "--restart=on-failure:2", "--restart-delay=10ms")
    answer = tool.call("run", *given_up)
    assert (answer.code, answer.out) == (7, "x\n" * 3)
    endless = plain("while :; do sleep 0.05; done", "--name=endless")
    assert tool.call("run", "--exit-policy=until-any-exits", *plain("exit 0", "--name=done"), *endless).code in (0, 143)
    late = plain("sleep 0.3; echo late", "--name=late")
    answer = tool.call("run", "--exit-policy=until-all-exit", *plain("exit 6", "--name=fails"), *late)
    assert (answer.code, answer.out) == (6, "late\n")
    answer = tool.call("run", *plain("exit 6", "--name=fails", "--fatal=false"), *late)
    assert (answer.code, answer.out) == (6, "late\n")


def test_an_oci_image_in_a_pod_is_an_app_as_any_other(tool: Pyrkt, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout", "--config.entrypoint", "/bin/echo", "--config.cmd", "by-default")
    image = f"oci:{layout}:bb"
    assert tool.ok("run", image) == "/bin/sh by-default\n"
    assert tool.ok("run", image, "--", "other") == "other\n"
    assert tool.ok("run", image, "--exec=/bin/cat", "--", "/data/seed") == "from the image\n"
    uuid = tool.ok("prepare", "--quiet", image, "--name=oci", "---", *plain("true", "--name=aci")).split()[-1]
    assert [app["name"] for app in json.loads(tool.ok("cat-manifest", uuid))["apps"]] == ["oci", "aci"]
    tool.ok("rm", uuid)
