"""The step METADATA, in pods made by hand: the socket, who serves it, for how long, and another table."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pyrkt.kernel import memfd
from pyrkt.kernel.namespaces import identity
from pyrkt.metadata.table import TEXT, Route, encode
from pyrkt.plan.place import Policy
from pyrkt.pod import control
from pyrkt.spec import steps as s
from tests.support import handmade as hand
from tests.support.metadata import KEY, TOKEN, UUID, Server, child_of
from tests.support.oci import eventually
from tests.support.stage1 import SECONDS, failure_of, said, started

pytestmark = pytest.mark.root
ADDRESS = ("127.101.102.103", 18112)


def table(*bodies: str) -> bytes:
    return encode(
        UUID, TOKEN, [Route(path=f"route/{n}", kind=TEXT, body=body.encode()) for n, body in enumerate(bodies)]
    )


def pod(tmp_path: Path, *arguments: Any, mutable: bool = True) -> hand.Pod:
    """A pod without apps; ``arguments`` take the place of the step's last ones."""
    (tmp_path / "table").write_bytes(table("first"))
    (tmp_path / "key").write_bytes(KEY)
    given = [str(tmp_path / "table"), str(tmp_path / "key"), *ADDRESS]
    given[len(given) - len(arguments) :] = arguments
    made = hand.pod(control=tmp_path / "control", mutable=mutable)
    place = next(place for place, step in enumerate(made) if step[0] == s.ROOT_EMPTY)
    made[place:place] = [(s.LOOPBACK, hand.C), (s.METADATA, hand.C, *given)]
    return made


def service(tmp_path: Path, supervisor: int) -> Server:
    assert eventually((tmp_path / "control").exists)
    assert eventually(lambda: child_of(supervisor, "pyrkt-metadata") != 0)
    first = child_of(supervisor, "pyrkt")
    assert first
    return Server(ADDRESS, child_of(supervisor, "pyrkt-metadata"), place=first)


def test_another_table_with_the_next_app(rootfs: Path, tmp_path: Path) -> None:
    with started(pod(tmp_path)) as child:
        first = service(tmp_path, child.pid)
        assert first.ask("route/0").body == b"first"
        (tmp_path / "table").write_bytes(table("second", "more"))
        sealed = memfd.sealed("plan", hand.encode(hand.member(rootfs, "/bin/true")))
        add = control.Request(verb=control.ADD, name="a", plans=(-1, sealed, -1), policy=Policy(ends=0))
        control.ask(str(tmp_path), add, SECONDS)
        os.close(sealed)
        second = service(tmp_path, child.pid)
        assert second.pid != first.pid
        assert [second.ask(f"route/{n}").body for n in (0, 1)] == [b"second", b"more"]
        (tmp_path / "table").write_bytes(table("third"))
        control.ask(str(tmp_path), control.Request(verb=control.REMOVE, name="a"), SECONDS)
        assert service(tmp_path, child.pid).ask("route/0").body == b"third"
        control.ask(str(tmp_path), control.Request(verb=control.END), SECONDS)
        assert child.wait(SECONDS) == 0


def test_a_table_that_is_none_ends_the_service_and_nothing_else(rootfs: Path, tmp_path: Path) -> None:
    with started(pod(tmp_path)) as child:
        first = service(tmp_path, child.pid)
        (tmp_path / "table").write_bytes(b"PKMD")
        os.kill(first.pid, signal.SIGKILL)
        assert eventually(lambda: child_of(child.pid, "pyrkt-metadata") == 0, 5)
        with pytest.raises(ConnectionRefusedError):
            first.ask("route/0")
        assert child.poll() is None


def test_nothing_of_it_is_left_when_the_steps_after_the_end_are_done(tmp_path: Path) -> None:
    """A hook of theirs looks for the service, which would hold the pod's network namespace."""
    look = (
        "for p in /proc/[0-9]*; do grep -qs pyrkt-metadata $p/comm && grep -s PPid $p/status; done >"
        + f"{tmp_path}/found"
    )
    plan = pod(tmp_path)
    plan.append((s.HOOK, hand.E, "/bin/sh", ("sh", "-c", look), ("PATH=/bin:/usr/bin",), 10, b"{}", b""))
    with started(plan) as child:
        served = service(tmp_path, child.pid)
        namespace = identity(served.place, "network")
        assert namespace != identity("self", "network")
        control.ask(str(tmp_path), control.Request(verb=control.END), SECONDS)
        assert child.wait(SECONDS) == 0
    assert f"PPid:\t{child.pid}" not in (tmp_path / "found").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("127.1.2.256", 1), "Invalid argument", id="address"),
        pytest.param(("127.1.2", 1), "Invalid argument", id="short-address"),
        pytest.param(("127.1.2.3.4", 1), "Invalid argument", id="long-address"),
        pytest.param(("127.1.2.0003", 1), "Invalid argument", id="long-number"),
        pytest.param(("", 1), "Invalid argument", id="no-address"),
        pytest.param(("10.1.2.3", 18112), "Cannot assign requested address", id="not-ours"),
        pytest.param(("/no/such/table", "/no/such/key", *ADDRESS), "No such file or directory", id="no-table"),
        pytest.param(("/no/such/key", *ADDRESS), "No such file or directory", id="no-key"),
    ],
)
def test_what_cannot_be_is_said_and_ends_the_pod(tmp_path: Path, arguments: Sequence[Any], words: str) -> None:
    told = said(failure_of(pod(tmp_path, *arguments)))
    assert told.startswith("serving the pod's metadata at ")
    assert words in told
