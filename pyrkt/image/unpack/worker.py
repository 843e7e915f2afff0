"""A forked child that sees nothing but one directory: there hostile archives become files.

The child chroots into the directory before it looks at the first byte. From then on it imports nothing: an import
would run the image's files. What it found comes back as one JSON value through a pipe.
"""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Never

from pyrkt.base import atomic, errors, fastjson
from pyrkt.base.errors import CannotCreate, ImageRefused, PyrktError, printable
from pyrkt.kernel import pidfd
from pyrkt.kernel.libc import call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_CHUNK = 256 << 10
printable("\0")  # loads the codec that escapes, which the child could not


def in_worker(
    chunks: Iterable[bytes] | BinaryIO, into: Path, job: Callable[[Iterator[bytes], int], dict[str, Any]]
) -> dict[str, Any]:
    """Run ``job(pieces, root)`` in a child whose working directory, and root if it may, is ``into``.

    ``pieces`` are the ``chunks``: taken here and handed over by a pipe, so that the caller's generator may fetch,
    hash and decrypt; or, of an unbuffered file, read by the child itself. ``root`` is -1 in a chroot; else it is a
    descriptor of ``into``, below which the job must resolve names with care.
    Returns: what the job returned.  Raises: its error, whatever ``chunks`` raises, CannotCreate, PyrktError.
    """
    direct = isinstance(chunks, io.FileIO)
    taken, given = (os.dup(chunks.fileno()), -1) if isinstance(chunks, io.FileIO) else os.pipe()
    answer, told = os.pipe()
    parent = os.getpid()
    fastjson.load()  # the child sees the image, and may not open anything of it
    child = os.fork()
    if child == 0:
        _child(taken, told, into, job, parent)
    os.close(taken)
    os.close(told)
    handle = pidfd.open(child)
    try:
        if not direct:
            given = _feed(given, chunks)
        data = _read_all(answer)
    except BaseException:
        pidfd.send_signal(handle, signal.SIGKILL)
        raise
    finally:
        if given >= 0:
            os.close(given)
        os.close(answer)
        code = pidfd.exit_code(handle)
        os.close(handle)
    if code or not data:
        raise PyrktError(f"the unpacking process ended by itself ({code})", hint="is there enough memory?")
    if len(data) > fastjson.MAX_SIZE:
        raise ImageRefused("the archive has too many directories without an entry, or links to other layers")
    return _outcome(fastjson.loads(data, "answer of the unpacking process"))


def _feed(given: int, chunks: Iterable[bytes]) -> int:
    """Hand all ``chunks`` over and close; -1 then. Where the child has ended early, its answer tells why."""
    try:
        for chunk in chunks:
            atomic.write_all(given, chunk)
    except BrokenPipeError:
        pass
    os.close(given)
    return -1


def _read_all(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, _CHUNK):
        parts.append(part)
    return b"".join(parts)


def _outcome(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise load_error(answer)
    return answer


def _child(
    taken: int, told: int, into: Path, job: Callable[[Iterator[bytes], int], dict[str, Any]], parent: int
) -> Never:
    code = 1
    try:
        root = _enter(taken, told, into, parent)
        answer = _answer(lambda: job(_pieces(taken), root))
        atomic.write_all(told, fastjson.dumps(answer).encode())
        code = 0
    finally:
        os._exit(code)


def _enter(taken: int, told: int, into: Path, parent: int) -> int:
    # Other descriptors are other workers' pipes (whose end would never be seen), locks and sockets.
    last = 2
    for keep in sorted((taken, told)):
        os.closerange(last + 1, keep)
        last = keep
    os.closerange(last + 1, os.sysconf("SC_OPEN_MAX"))
    call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0, about="PR_SET_PDEATHSIG")
    if os.getppid() != parent:
        os._exit(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    gc.disable()
    os.umask(0)
    os.chdir(into)
    root = -1
    try:
        os.chroot(".")
    except PermissionError:
        root = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sys.path.clear()
    sys.meta_path.clear()
    return root


def _pieces(descriptor: int) -> Iterator[bytes]:
    while piece := os.read(descriptor, _CHUNK):
        yield piece


def _answer(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return work()
    except PyrktError as error:
        return dump_error(error)
    except OSError as error:
        return dump_error(CannotCreate(f"unpacking: {error}"))
    except MemoryError:
        return dump_error(ImageRefused("unpacking needs more memory than there is", hint="a decompression bomb?"))
    except Exception as error:  # noqa: BLE001 - a bug of ours must end as one line too
        hint = "this is a fault of pyrkt; please report it"
        return dump_error(PyrktError(f"unpacking failed: {error!r}", hint=hint))


def dump_error(error: PyrktError) -> dict[str, Any]:
    """Return ``error`` as JSON values, for the process that is to raise it."""
    known = next(kind for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    message = error.message.encode("utf-8", "backslashreplace").decode()
    return {"error": known.__name__, "message": message, "hint": error.hint}


def load_error(value: dict[str, Any]) -> PyrktError:
    """Return what ``dump_error`` has made ``value`` of, in its class or the nearest one that ``base.errors`` has."""
    kind: type[PyrktError] = getattr(errors, value["error"], PyrktError)
    error = kind.__new__(kind)  # the initialisers of some want other arguments than a message
    PyrktError.__init__(error, value["message"], hint=value["hint"])
    return error
