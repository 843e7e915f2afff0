"""The process that ``exec`` describes: after the container's first one, with what the flags change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyrkt.base.errors import InvalidSpec, UsageError
from pyrkt.kernel.host import Host
from pyrkt.plan.place import Place
from pyrkt.runtime import exec as exec_verb
from pyrkt.runtime import joining, options
from pyrkt.spec import steps
from pyrkt.spec.example import example_config
from pyrkt.spec.layout import CgroupLayout
from pyrkt.spec.runtime import Capabilities, Process

CONFIG = example_config(terminal=False)
HOST = Host(kernel=(6, 1), euid=0, egid=0, last_cap=40, bounding=(1 << 41) - 1, cgroup="hybrid")


def wanted(*words: str) -> Process:
    values, arguments = options.parse(exec_verb.VERB.flags, words, ordered=True)
    return exec_verb.wanted_process(CONFIG, values, arguments)


def test_without_flags_only_the_program_is_new() -> None:
    assert CONFIG.process is not None
    assert wanted("ls", "-l") == CONFIG.process.replace(args=("ls", "-l"))


def test_flags_change_what_they_say() -> None:
    words = [
        "-t",
        "--cwd",
        "/tmp",
        "-e",
        "A=1",
        "-e",
        "B=2",
        "-u",
        "5:6",
        "-g",
        "7",
        "--no-new-privs",
        "--cap",
        "CAP_NET_RAW",
    ]
    process = wanted(*words, "--apparmor", "p", "--process-label", "l", "id")
    assert process.terminal
    assert process.cwd == "/tmp"
    assert process.env[-2:] == ("A=1", "B=2")
    assert (process.user.uid, process.user.gid, process.user.additional_gids) == (5, 6, (7,))
    assert process.no_new_privileges
    assert (process.apparmor_profile, process.selinux_label) == ("p", "l")
    assert process.capabilities is not None
    for kind in ("bounding", "effective", "permitted"):
        assert getattr(process.capabilities, kind)[-1] == "CAP_NET_RAW"
    assert "CAP_NET_RAW" not in process.capabilities.inheritable


def test_a_user_without_group_keeps_the_group() -> None:
    assert CONFIG.process is not None
    assert wanted("--user", "9", "id").user.gid == CONFIG.process.user.gid


@pytest.mark.parametrize(
    "words",
    [
        ["--user=0:0:0", "id"],
        ["--user= 0", "id"],
        ["--user=-1", "id"],
        ["--user=4294967295", "id"],
        ["--user=root", "id"],
        ["--user=1_0", "id"],
        ["--user=٣", "id"],
        ["--user=:5", "id"],
        ["--additional-gids=x", "id"],
        ["--env=A", "id"],
        ["--env==x", "id"],
        [],
    ],
    ids=lambda words: " ".join(words) or "no-program",
)
def test_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        wanted(*words)


def test_a_file_describes_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "process.json"
    path.write_text(json.dumps({"args": ["id"], "cwd": "/", "user": {"uid": 3}}))
    assert wanted("-p", str(path)).user.uid == 3
    path.write_text(json.dumps({"args": ["id"], "cwd": "here"}))
    with pytest.raises(InvalidSpec) as caught:
        wanted("-p", str(path))
    assert caught.value.where == "cwd"


def plan_of(config: Any, **place: Any) -> list[tuple[str, int, tuple[Any, ...]]]:
    layout = CgroupLayout(enter=("/cg/pids/x",), clone_into="/cg2/x", make=("/cg/pids/x",), remove=("/cg/pids/x",))
    plan = joining.plan_of(joining.joined(config, 77), "/b", HOST, layout, Place(**place), b"", (77, 4711))
    return [(step.name, step.phase, step.args) for step in plan.steps]


def test_every_namespace_is_joined_none_is_made() -> None:
    rows = plan_of(CONFIG)
    opened = [args[1] for name, _, args in rows if name == "OPEN"]
    assert {f"/proc/77/ns/{kind}" for kind in ("pid", "net", "ipc", "uts", "mnt", "cgroup")} <= set(opened)
    ((flags, slot),) = [args for name, _, args in rows if name == "CLONE"]
    assert flags == 0
    assert opened[slot] == "/cg2/x"
    assert len([row for row in rows if row[0] == "SETNS"]) == 6


def test_the_process_is_seen_to_live_after_its_namespaces_were_opened() -> None:
    rows = plan_of(CONFIG)
    names = [name for name, _, _ in rows]
    last = max(place for place, row in enumerate(rows) if row[0] == "OPEN" and str(row[2][1]).startswith("/proc/"))
    assert last < names.index("STILL") < names.index("CLONE")
    assert rows[names.index("STILL")][2] == (77, 4711)


def test_cgroups_are_entered_neither_made_nor_removed() -> None:
    names = [name for name, _, _ in plan_of(CONFIG)]
    assert "ENTER_CGROUP_SLOT" in names
    assert not {"MKDIR", "WRITE", "RMDIR", "MOUNT", "PIVOT", "UNSHARE", "HOSTNAME"} & set(names)


def test_it_gives_up_what_the_first_process_gave_up_in_the_same_order() -> None:
    names = [name for name, _, _ in plan_of(CONFIG)]
    order = ["DUMPABLE", "CHDIR", "CAPS_BOUND", "USER", "CAPS", "NO_NEW_PRIVS", "CLOSE_FDS", "EXEC"]
    assert [name for name in names if name in order] == order


def test_detached_nobody_stays() -> None:
    assert "LEAVE" in [name for name, _, _ in plan_of(CONFIG, foreground=False)]
    assert "LEAVE" not in [name for name, _, _ in plan_of(CONFIG)]


def test_capabilities_may_be_added_to_none() -> None:
    config = CONFIG.replace(process=CONFIG.process.replace(capabilities=None) if CONFIG.process else None)
    values, arguments = options.parse(exec_verb.VERB.flags, ["--cap", "CAP_KILL", "id"], ordered=True)
    found = exec_verb.wanted_process(config, values, arguments).capabilities
    assert found == Capabilities(bounding=("CAP_KILL",), effective=("CAP_KILL",), permitted=("CAP_KILL",))


def test_a_capability_is_ambient_beside_inheritable_ones() -> None:
    process = CONFIG.process
    assert process is not None
    sets = Capabilities(inheritable=("CAP_KILL",))
    values, arguments = options.parse(exec_verb.VERB.flags, ["--cap", "CAP_KILL", "id"], ordered=True)
    config = CONFIG.replace(process=process.replace(capabilities=sets))
    found = exec_verb.wanted_process(config, values, arguments).capabilities
    assert found is not None
    assert found.ambient == ("CAP_KILL",)
    assert found.inheritable == ("CAP_KILL",)


def test_a_pidfd_is_sent_to_who_asks_for_it() -> None:
    rows = plan_of(CONFIG, pidfd_socket="/s", pid_file="/p")
    names = [name for name, _, _ in rows]
    assert rows[names.index("SEND_PIDFD")][2] == ("/s",)
    assert names.index("SEND_PIDFD") < names.index("PID_FILE")  # who sees the file has the descriptor


def test_the_steps_are_those_of_the_table() -> None:
    for name, phase, args in plan_of(CONFIG):
        _, kinds, phases = steps.TABLE[getattr(steps, name)]
        assert len(kinds) == len(args)
        assert phases >> phase & 1
