"""Jobs in forked processes, some at a time: each loads and unpacks one layer, so that every core has work.

Processes, since unpacking is Python that holds the interpreter's lock; forked, so that a job is a plain function. A
job tells how far it is, and ends with a value of JSON or a PyrktError, through a pipe. The first that fails ends all.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Never, Protocol

from pyrkt.base import atomic, fastjson
from pyrkt.base.errors import CannotCreate, PyrktError, printable
from pyrkt.image.unpack.worker import dump_error, load_error
from pyrkt.kernel import pidfd
from pyrkt.kernel.libc import call

if TYPE_CHECKING:
    from types import FrameType

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_GRACE = 5.0
_EVERY = 1 << 20


class Progress(Protocol):
    """Who is told how a fetch goes on. ``total`` is in bytes, 0 if unknown."""

    def start(self, name: str, total: int) -> None:
        """Something called ``name`` begins."""

    def advance(self, name: str, n: int) -> None:
        """``n`` more bytes of it are done."""

    def done(self, name: str) -> None:
        """It is finished."""

    def say(self, text: str) -> None:
        """Say one line."""


class Report:
    """The job's end of the pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._count, self._since = descriptor, 0, 0.0

    def advance(self, count: int) -> None:
        """``count`` more bytes are done. Sent on now and then."""
        self._count += count
        if self._count >= _EVERY and time.monotonic() - self._since > 0.05:
            self._send({"advance": self._count})
            self._count, self._since = 0, time.monotonic()

    def say(self, text: str) -> None:
        """Say one line to the user."""
        self._send({"say": printable(text)})

    def end(self, value: dict[str, Any]) -> None:
        """Send the last word, what was done so far before it."""
        if self._count:
            self._send({"advance": self._count})
        self._send(value)

    def _send(self, value: dict[str, Any]) -> None:
        atomic.write_all(self._descriptor, fastjson.dumps(value).encode() + b"\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """``work`` is done in a process of its own; ``name`` and ``total`` bytes are for the progress."""

    name: str
    total: int
    work: Callable[[Report], dict[str, Any]]


class _Running:
    def __init__(self, number: int, job: Job) -> None:
        self.number, self.job = number, job
        self.pipe, told = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _child(job, told, parent)
        os.close(told)
        self.handle = pidfd.open(pid)
        self.rest = b""
        self.outcome: dict[str, Any] | None = None

    def receive(self) -> list[dict[str, Any]] | None:
        """Return the messages that have come; None at the end."""
        data = os.read(self.pipe, 1 << 20)
        if not data:
            return None
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [fastjson.loads(line, "message of a worker") for line in lines]

    def end(self) -> int:
        """Wait for the process and forget it; return its exit code."""
        os.close(self.pipe)
        code = pidfd.exit_code(self.handle)
        os.close(self.handle)
        return code


def run_all(jobs: Sequence[Job], width: int, progress: Progress) -> list[dict[str, Any]]:
    """Do ``jobs``, the largest first and ``width`` at a time; return their values in the jobs' order.

    Raises: the first error; by then every other job has ended, what they had begun undone.
    """
    order = sorted(range(len(jobs)), key=lambda number: -jobs[number].total)
    results: list[dict[str, Any]] = [{} for _ in jobs]
    running: dict[int, _Running] = {}
    try:
        while order or running:
            while order and len(running) < width:
                number = order.pop(0)
                progress.start(jobs[number].name, jobs[number].total)
                worker = _Running(number, jobs[number])
                running[worker.pipe] = worker
            for descriptor in select.select(list(running), [], [])[0]:
                worker = running[descriptor]
                messages = worker.receive()
                if messages is None:
                    del running[descriptor]
                    results[worker.number] = _result(worker, worker.end())
                    progress.done(worker.job.name)
                else:
                    _pass_on(messages, worker, progress)
    finally:
        _stop(list(running.values()))
    return results


def _pass_on(messages: list[dict[str, Any]], worker: _Running, progress: Progress) -> None:
    for message in messages:
        if "advance" in message:
            progress.advance(worker.job.name, message["advance"])
        elif "say" in message:
            progress.say(message["say"])
        else:
            worker.outcome = message


def _result(worker: _Running, code: int) -> dict[str, Any]:
    outcome = worker.outcome
    if outcome is None:
        raise PyrktError(f"{worker.job.name}: its process ended by itself ({code})", hint="is there enough memory?")
    if "error" in outcome:
        raise load_error(outcome)
    value: dict[str, Any] = outcome["value"]
    return value


def _stop(workers: list[_Running]) -> None:
    """End the workers: they undo what they have begun, and who does not in time is killed."""
    for worker in workers:
        pidfd.send_signal(worker.handle, signal.SIGTERM)
    ends = time.monotonic() + _GRACE
    for worker in workers:
        # A pidfd is readable when its process has ended.
        if not select.select([worker.handle], [], [], max(0.0, ends - time.monotonic()))[0]:
            pidfd.send_signal(worker.handle, signal.SIGKILL)
        worker.end()


class _Stopped(BaseException):
    """SIGTERM came; not an Exception, so that no handler of errors takes it for one."""


def _on_term(_number: int, _frame: FrameType | None) -> Never:
    raise _Stopped


def _child(job: Job, told: int, parent: int) -> Never:
    code = 1
    try:
        call("prctl", _PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0, about="PR_SET_PDEATHSIG")
        signal.signal(signal.SIGTERM, _on_term)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent ends us in order
        if os.getppid() == parent:
            report = Report(told)
            report.end(_outcome(job, report))
            code = 0
    except (_Stopped, OSError):
        pass
    finally:
        os._exit(code)


def _outcome(job: Job, report: Report) -> dict[str, Any]:
    try:
        return {"value": job.work(report)}
    except PyrktError as error:
        return dump_error(error)
    except OSError as error:
        return dump_error(CannotCreate(f"{job.name}: {error}"))
    except Exception as error:  # noqa: BLE001 - a fault of ours must end as one line too
        return dump_error(PyrktError(f"{job.name}: {error!r}", hint="this is a fault of pyrkt; please report it"))
