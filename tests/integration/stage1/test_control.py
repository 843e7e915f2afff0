"""The control socket of a pod: apps that come and go while it runs."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyrkt.base.errors import Busy, CannotCreate, NotFound, PyrktError, StartFailed, Unavailable, UsageError
from pyrkt.kernel import memfd
from pyrkt.plan.place import Policy
from pyrkt.pod import control
from tests.support import handmade as hand
from tests.support import oci
from tests.support.stage1 import SECONDS, started

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
FOREVER = "echo ready; while :; do sleep 0.05; done"


@contextlib.contextmanager
def empty_pod(tmp_path: Path, *apps: hand.App) -> Iterator[subprocess.Popen[bytes]]:
    plan = hand.pod(*apps, control=tmp_path / "control", mutable=True)
    with started(plan) as child:
        assert oci.eventually((tmp_path / "control").exists)
        yield child


def add(tmp_path: Path, name: str, plan: list[hand.Step], policy: Policy | None = None) -> None:
    sealed = memfd.sealed("plan", hand.encode(plan))
    try:
        request = control.Request(verb=control.ADD, name=name, plans=(-1, sealed, -1), policy=policy or Policy(ends=0))
        control.ask(str(tmp_path), request, SECONDS)
    finally:
        os.close(sealed)


def ask(tmp_path: Path, verb: int, name: str = "", grace: float = -1.0, number: int = 0) -> control.AppState:
    return control.ask(str(tmp_path), control.Request(verb=verb, name=name, grace=grace, number=number), SECONDS)


def test_an_app_comes_and_goes(rootfs: Path, tmp_path: Path) -> None:
    with empty_pod(tmp_path) as child:
        add(tmp_path, "a", hand.member(rootfs, "/bin/sh", "-c", FOREVER))
        assert ask(tmp_path, control.STATUS, "a").state == "created"
        for _ in range(3):
            assert ask(tmp_path, control.START, "a").state == "running"
            with pytest.raises(Busy):
                ask(tmp_path, control.START, "a")
            with pytest.raises(Busy):
                ask(tmp_path, control.REMOVE, "a")
            assert ask(tmp_path, control.STOP, "a").code == 143
            assert ask(tmp_path, control.STATUS, "a").state == "exited"
        ask(tmp_path, control.REMOVE, "a")
        with pytest.raises(NotFound, match="no app 'a'"):
            ask(tmp_path, control.STATUS, "a")
        assert child.poll() is None
        ask(tmp_path, control.END)
        assert child.wait(SECONDS) == 0


def test_apps_share_the_pods_processes(rootfs: Path, tmp_path: Path) -> None:
    with empty_pod(tmp_path) as child:
        for name in ("a", "b"):
            add(tmp_path, name, hand.member(rootfs, "/bin/sh", "-c", "echo $$; exec sleep 60"))
            ask(tmp_path, control.START, name)
        assert child.stdout is not None
        numbers = [int(child.stdout.readline()) for _ in range(2)]
        assert len(set(numbers)) == 2
        assert min(numbers) > 1
        ask(tmp_path, control.END)
        assert child.wait(SECONDS) == 143


def test_who_does_not_stop_is_killed(rootfs: Path, tmp_path: Path) -> None:
    with empty_pod(tmp_path) as child:
        add(tmp_path, "a", hand.member(rootfs, "/bin/sh", "-c", f"trap '' TERM; {FOREVER}"))
        ask(tmp_path, control.START, "a")
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert ask(tmp_path, control.STOP, "a", grace=0.05).code == 137


def test_a_signal_reaches_the_app(rootfs: Path, tmp_path: Path) -> None:
    with empty_pod(tmp_path) as child:
        add(tmp_path, "a", hand.member(rootfs, "/bin/sh", "-c", f"trap 'echo heard' USR1; {FOREVER}"))
        ask(tmp_path, control.START, "a")
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        ask(tmp_path, control.SIGNAL, "a", number=10)
        assert child.stdout.readline() == b"heard\n"
        ask(tmp_path, control.SIGNAL, "a", number=9)
        assert oci.eventually(lambda: ask(tmp_path, control.STATUS, "a").code == 137)
        with pytest.raises(Busy, match="does not run"):
            ask(tmp_path, control.SIGNAL, "a", number=10)


def test_one_that_cannot_start_harms_nobody(rootfs: Path, tmp_path: Path) -> None:
    with empty_pod(tmp_path) as child:
        add(tmp_path, "a", hand.member(rootfs, "/no/such"))
        with pytest.raises(PyrktError):
            ask(tmp_path, control.START, "a")
        assert ask(tmp_path, control.STATUS, "a").code == 127
        add(tmp_path, "b", hand.member(rootfs, "/bin/true"))
        ask(tmp_path, control.START, "b")
        assert child.poll() is None


def test_it_is_started_again_until_it_is_stopped(rootfs: Path, tmp_path: Path) -> None:
    with empty_pod(tmp_path) as child:
        add(tmp_path, "a", hand.member(rootfs, "/bin/sh", "-c", "exit 3"), Policy(ends=0, restart=2, delay_ms=5))
        ask(tmp_path, control.START, "a")
        assert oci.eventually(lambda: ask(tmp_path, control.STATUS, "a").restarts > 3)
        ask(tmp_path, control.STOP, "a")
        assert ask(tmp_path, control.STATUS, "a").state == "exited"
        assert child.poll() is None


def test_what_fails_at_once_is_tried_ever_more_seldom(rootfs: Path, tmp_path: Path) -> None:
    with empty_pod(tmp_path):
        add(tmp_path, "a", hand.member(rootfs, "/bin/sh", "-c", "exit 3"), Policy(ends=0, restart=1, delay_ms=2))
        ask(tmp_path, control.START, "a")
        seen: dict[int, int] = {}
        while len(seen) < 6 and (found := ask(tmp_path, control.STATUS, "a")).restarts < 12:
            if found.state == "restarting":
                seen[found.restarts] = found.delay_ms
        assert len(seen) == 6
        assert all(delay == 2**restarts for restarts, delay in seen.items())
        ask(tmp_path, control.STOP, "a")


@pytest.mark.parametrize("delay", [45_000, 90_000])
def test_the_longest_wait_is_a_minute_or_what_was_asked_for(rootfs: Path, tmp_path: Path, delay: int) -> None:
    with empty_pod(tmp_path):
        add(tmp_path, "a", hand.member(rootfs, "/bin/false"), Policy(ends=0, restart=1, delay_ms=delay))
        ask(tmp_path, control.START, "a")
        assert oci.eventually(lambda: ask(tmp_path, control.STATUS, "a").delay_ms == delay)
        ask(tmp_path, control.STOP, "a")


def test_what_is_stopped_before_it_runs_has_not_failed_to_start(rootfs: Path, tmp_path: Path) -> None:
    with empty_pod(tmp_path) as child:
        plan = hand.member(rootfs, "/bin/sleep", "60")
        add(tmp_path, "a", plan)
        for _ in range(20):
            with control.connected(str(tmp_path)) as client:
                client.send(control._REQUEST.pack(control.START, 0, -1) + Policy().pack() + b"a".ljust(64, b"\0"))
                ask(tmp_path, control.STATUS, "a")
            assert ask(tmp_path, control.STOP, "a").code == 143
        assert child.poll() is None


def test_refusals(rootfs: Path, tmp_path: Path) -> None:
    plan = hand.member(rootfs, "/bin/true")
    with empty_pod(tmp_path):
        add(tmp_path, "a", plan)
        with pytest.raises(CannotCreate, match="has an app 'a'"):
            add(tmp_path, "a", plan)
        for name in ("", "A", "-a", "a/b", "a" * 64):
            with pytest.raises(UsageError):
                add(tmp_path, name, plan)
        with pytest.raises(StartFailed, match="no plan"):
            ask(tmp_path, control.ADD, "b")
        with pytest.raises(UsageError):
            ask(tmp_path, 99, "a")
        for number in range(63):
            add(tmp_path, f"n{number}", plan)
        with pytest.raises(CannotCreate, match="as many apps"):
            add(tmp_path, "last", plan)


def test_nonsense_and_many_callers(rootfs: Path, tmp_path: Path) -> None:
    with empty_pod(tmp_path) as child, contextlib.ExitStack() as kept:
        for words in (b"", b"x", b"\0" * 1000, b"\xff" * 120):
            with control.connected(str(tmp_path)) as client:
                client.settimeout(SECONDS)
                with contextlib.suppress(OSError):
                    client.send(words)
                    client.recv(100)
        for _ in range(20):
            kept.enter_context(control.connected(str(tmp_path)))
        assert child.poll() is None
        kept.close()
        add(tmp_path, "a", hand.member(rootfs, "/bin/true"))
        assert ask(tmp_path, control.STATUS, "a").state == "created"


def test_strangers_are_not_heard(rootfs: Path, tmp_path: Path) -> None:
    with empty_pod(tmp_path) as child:
        assert (tmp_path / "control").stat().st_mode & 0o777 == 0o700 & ~0o077
        with control.connected(str(tmp_path)) as client:
            assert isinstance(client, socket.socket)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            directory = os.open(tmp_path, os.O_PATH)
            os.chmod(tmp_path / "control", 0o777)
            os.setresuid(65534, 65534, 65534)
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                    client.connect(f"/proc/self/fd/{directory}/control")
                    client.settimeout(SECONDS)
                    os.write(writer, b"heard" if client.recv(10) else b"deaf")
            except OSError as error:
                os.write(writer, f"{error}".encode())
            os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(reader, 100) in (
            b"deaf",
            b"[Errno 13] Permission denied",
            b"[Errno 104] Connection reset by peer",
        )
        os.close(reader)
        os.close(writer)
        assert child.poll() is None


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        ask(tmp_path, control.STATUS, "a")
