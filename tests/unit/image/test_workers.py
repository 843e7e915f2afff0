"""Jobs in processes: results in order, the first error ends all, and nobody stays behind."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from pyrkt.base.errors import CannotCreate, ImageRefused, InvalidSpec, KernelError, PyrktError
from pyrkt.image.http import NobodyThere
from pyrkt.image.workers import Job, Report, run_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Log:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, int]] = []

    def start(self, name: str, total: int) -> None:
        self.lines.append(("start", name, total))

    def advance(self, name: str, n: int) -> None:
        self.lines.append(("advance", name, n))

    def done(self, name: str) -> None:
        self.lines.append(("done", name, 0))

    def say(self, text: str) -> None:
        self.lines.append(("say", text, 0))


def job(work: Callable[[Report], dict[str, Any]], name: str = "job", total: int = 1) -> Job:
    return Job(name=name, total=total, work=work)


def test_values_come_in_the_order_of_the_jobs_and_the_largest_begins() -> None:
    log = Log()
    jobs = [job(lambda _, n=n: {"n": n, "pid": os.getpid()}, f"j{n}", total=n) for n in range(5)]  # type: ignore[misc]
    values = run_all(jobs, 2, log)
    assert [value["n"] for value in values] == [0, 1, 2, 3, 4]
    assert os.getpid() not in {value["pid"] for value in values}
    assert next(name for what, name, _ in log.lines if what == "start") == "j4"
    assert sum(what == "done" for what, _, _ in log.lines) == 5


def test_progress_and_words_come_through() -> None:
    def work(report: Report) -> dict[str, Any]:
        for _ in range(30):
            report.advance(1 << 19)
        report.say("half \udcff done")
        return {}

    log = Log()
    run_all([job(work)], 1, log)
    assert sum(n for what, _, n in log.lines if what == "advance") == 30 << 19
    assert any(what == "say" and text.startswith("half") for what, text, _ in log.lines)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        pytest.param(ImageRefused("bad", hint="do"), ImageRefused, "bad", id="plain"),
        pytest.param(NobodyThere("gone"), NobodyThere.__mro__[1], "gone", id="subclass"),
        pytest.param(InvalidSpec("odd", document="d"), InvalidSpec, "d: odd", id="spec"),
        pytest.param(KernelError("mount", 1, "x"), KernelError, "mount(x): Operation not permitted", id="kernel"),
        pytest.param(OSError(28, "No space left on device"), CannotCreate, "job: [Errno 28]", id="disk"),
        pytest.param(ZeroDivisionError("oops"), PyrktError, "oops", id="fault-of-ours"),
    ],
)
def test_errors_keep_their_kind(error: Exception, kind: type[PyrktError], message: str) -> None:
    def work(_: Report) -> dict[str, Any]:
        raise error

    with pytest.raises(kind) as caught:
        run_all([job(work)], 1, Log())
    assert type(caught.value) is kind
    assert message in caught.value.message


def test_the_first_error_ends_the_others_which_undo_their_work(tmp_path: Path) -> None:
    def long(_: Report) -> dict[str, Any]:
        (tmp_path / "begun").touch()
        try:
            time.sleep(60)
        finally:
            (tmp_path / "undone").touch()
        return {}

    def fails(_: Report) -> dict[str, Any]:
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        raise ImageRefused("no")

    began = time.monotonic()
    with pytest.raises(ImageRefused):
        run_all([job(long), job(fails)], 2, Log())
    assert time.monotonic() - began < 5
    assert (tmp_path / "undone").exists()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_process_that_dies_is_told_of() -> None:
    with pytest.raises(PyrktError, match="ended by itself"):
        run_all([job(lambda _: os._exit(3))], 1, Log())
