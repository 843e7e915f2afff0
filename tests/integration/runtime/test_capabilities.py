"""process.capabilities: the five sets as the kernel has them, in the program and in exec."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.oci import status_fields
from tests.support.running import executed, executed_process, started

if TYPE_CHECKING:
    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root

CHOWN, KILL, SYSLOG, AUDIT_WRITE, SYS_ADMIN = 1, 1 << 5, 1 << 34, 1 << 29, 1 << 21
STATUS = ("/bin/cat", "/proc/self/status")


def sets(text: str) -> dict[str, int]:
    """Return the five sets in /proc/PID/status, as masks."""
    fields = status_fields(text)
    return {kind: int(fields["Cap" + kind], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")}


def test_none(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["capabilities"] = {}
    answer = runtime.run(box.runs(*STATUS).path)
    assert set(sets(answer.out).values()) == {0}
    assert status_fields(answer.out)["NoNewPrivs"] == "1"


def test_new_privileges_may_be_had_if_it_says_so(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["noNewPrivileges"] = False
    assert status_fields(runtime.run(box.runs(*STATUS).path).out)["NoNewPrivs"] == "0"


def test_an_unknown_one_is_warned_of_and_left_out(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["capabilities"]["bounding"] = ["CAP_KILL", "CAP_UNKNOWN", "UNKNOWN_CAP"]
    answer = runtime.run(box.runs(*STATUS).path)
    assert answer.code == 0
    assert "ignoring unknown or unavailable capabilities: [CAP_UNKNOWN UNKNOWN_CAP]" in answer.err
    assert sets(answer.out)["Bnd"] == KILL


def test_root_has_what_the_bounding_set_leaves_it(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["capabilities"]["bounding"] = ["CAP_SYS_ADMIN"]
    box.config["process"]["capabilities"]["permitted"] = ["CAP_SYS_ADMIN", "CAP_KILL"]
    found = sets(runtime.run(box.runs(*STATUS).path).out)
    assert found == {"Inh": 0, "Prm": SYS_ADMIN, "Eff": SYS_ADMIN, "Bnd": SYS_ADMIN, "Amb": 0}


def test_ambient_ones_are_kept_by_an_ordinary_user(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    box.config["process"]["capabilities"] = {
        kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")
    }
    found = sets(runtime.run(box.runs(*STATUS).path).out)
    assert set(found.values()) == {KILL}


def test_an_ambient_one_that_is_not_inheritable_is_warned_of(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["capabilities"] |= {"inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN"]}
    answer = runtime.run(box.runs(*STATUS).path)
    assert "can't raise ambient capability CAP_CHOWN: " in answer.err
    assert sets(answer.out)["Amb"] == KILL


def test_exec_has_the_containers_and_those_it_is_given(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["capabilities"] = {
        "inheritable": ["CAP_CHOWN", "CAP_SYSLOG"],
        "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL"],
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_SYSLOG"],
        "ambient": ["CAP_CHOWN"],
    }
    name = started(runtime, box)
    both, all_three = CHOWN | KILL, CHOWN | KILL | SYSLOG
    inherited = CHOWN | SYSLOG
    found = sets(executed(runtime, name, *STATUS))
    assert found == {"Inh": inherited, "Prm": both, "Eff": both, "Bnd": all_three, "Amb": CHOWN}
    # with an inheritable set, those that are given become ambient, too
    found = sets(runtime.call("exec", "--cap", "CAP_SYSLOG", name, *STATUS).out)
    assert found == {"Inh": inherited, "Prm": all_three, "Eff": all_three, "Bnd": all_three, "Amb": inherited}


def test_exec_of_a_container_without_any(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["capabilities"] = {}
    name = started(runtime, box)
    assert set(sets(executed(runtime, name, *STATUS)).values()) == {0}
    found = sets(runtime.call("exec", "--cap", "CAP_KILL", "--cap", "CAP_AUDIT_WRITE", name, *STATUS).out)
    given = KILL | AUDIT_WRITE
    assert found == {"Inh": 0, "Prm": given, "Eff": given, "Bnd": given, "Amb": 0}


def test_a_process_file_without_any_has_the_containers(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["capabilities"] = {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted")}
    name = started(runtime, box)
    assert sets(executed_process(runtime, box.path, name, args=STATUS).out)["Bnd"] == KILL
    assert sets(executed_process(runtime, box.path, name, args=STATUS, capabilities={}).out)["Bnd"] == 0
