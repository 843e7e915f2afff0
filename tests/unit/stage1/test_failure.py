"""What a failed step is called, and what to do about it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyrkt.base.errors import NotExecutable, ProgramMissing, StartFailed
from pyrkt.spec import steps as s
from pyrkt.stage1.failure import DETAILS, failure
from tests.support.handmade import C, P, Step, encode

ROOT = Path(__file__).resolve().parents[3]
SAMPLES: dict[str, object] = {"s": "word", "i": 7, "b": b"bytes", "l": ("one", "two")}


def sample(code: int) -> Step:
    _name, kinds, phases = s.TABLE[code]
    phase = next(phase for phase in range(5) if phases >> phase & 1)
    return (code, phase, *(SAMPLES[kind] for kind in kinds))


@pytest.mark.parametrize("code", s.TABLE, ids=lambda code: s.TABLE[code][0])
@pytest.mark.parametrize("number", [0, errno.EPERM, errno.ENOENT, errno.EINVAL])
def test_every_step_has_its_sentence_and_a_hint(code: int, number: int) -> None:
    plan = encode([sample(s.CLONE), sample(code)])
    error = failure(plan, ("/linux/namespaces", "/process"), 1, number, 1)
    assert "(config.json: /process): " in error.message
    assert error.hint or code == s.EXEC
    assert "{" not in error.message
    assert "\n" not in error.message


MOUNT: Step = (s.MOUNT, C, "tmpfs", "shm", "/dev/shm", 0, "size=1", 1)
HELPER: Step = (s.MAP_HELPER, P, ("newuidmap", "{pid}", "0", "1000", "1"))
HOOK: Step = (s.HOOK, C, "/usr/bin/hook", ("hook",), (), 3, "{", b"}")


@pytest.mark.parametrize(
    ("step", "cause", "number", "detail", "message"),
    [
        (
            MOUNT,
            "/mounts/3",
            errno.EPERM,
            0,
            'error mounting "shm" to rootfs at "/dev/shm" (config.json: /mounts/3): Operation not permitted',
        ),
        (
            MOUNT,
            "default",
            errno.EINVAL,
            4,
            'error mounting "shm" to rootfs at "/dev/shm": setting an option of the file system: Invalid argument',
        ),
        (MOUNT, "", errno.ENOENT, 99, 'error mounting "shm" to rootfs at "/dev/shm": No such file or directory'),
        (
            (s.MOUNT, C, "proc", "proc", "/proc", 0, "", 1),
            "/mounts/0",
            errno.ELOOP,
            2,
            'error mounting "proc" to rootfs at "/proc" (config.json: /mounts/0): filesystem "proc" must be mounted on '
            "ordinary directory: finding the target inside the root: Too many levels of symbolic links",
        ),
        (HOOK, "app web", 0, 3, "running the hook /usr/bin/hook (app web): it failed with code 3"),
        (HOOK, "", 0, 137, "running the hook /usr/bin/hook: it was killed by signal 9"),
        (
            HELPER,
            "/linux/uidMappings",
            0,
            127,
            "mapping ids by newuidmap (config.json: /linux/uidMappings): this host has no such program",
        ),
        (HELPER, "", 0, 1, "mapping ids by newuidmap: it failed with code 1"),
        (HOOK, "", 0, 124, "running the hook /usr/bin/hook: it took too long and was killed"),
    ],
)
def test_sentences(step: Step, cause: str, number: int, detail: int, message: str) -> None:
    assert failure(encode([step]), (cause,), 0, number, detail).message == message


@pytest.mark.parametrize(
    ("detail", "said", "message"),
    [
        pytest.param(1, b"", "exit status 1", id="code"),
        pytest.param(3, b"no\n\x1b[1mway\n", "exit status 3, it said: no | \\x1b[1mway", id="words"),
        pytest.param(159, b"", "signal: bad system call", id="signal"),
        pytest.param(124, b"", "hook ran past specified timeout of 3.0s", id="timeout"),
    ],
)
def test_a_hook_fails_in_runcs_words(detail: int, said: bytes, message: str) -> None:
    error = failure(encode([HOOK]), ("/hooks/createRuntime/1",), 0, 0, detail, said=said)
    where = "/usr/bin/hook (config.json: /hooks/createRuntime/1)"
    assert error.message == f"error running createRuntime hook #1: {where}: {message}"
    assert error.hint


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, ProgramMissing),
        (errno.ENOTDIR, ProgramMissing),
        (errno.EACCES, NotExecutable),
        (errno.ENOEXEC, NotExecutable),
    ],
)
def test_the_programs_own_failure_has_its_exit_code(number: int, kind: type[StartFailed]) -> None:
    error = failure(encode([(s.EXEC, C, "sh", ("sh",), ())]), (), 0, number, 0)
    assert type(error) is kind
    assert error.message == f"executing sh: {os.strerror(number)}"
    assert error.hint


def test_an_index_beyond_the_plan_is_a_defect_of_ours() -> None:
    error = failure(encode([MOUNT]), (), -1, errno.EBADMSG, 0)
    assert type(error) is StartFailed
    assert "refused the plan" in error.message


def test_details_have_words() -> None:
    assert all(words for number, words in DETAILS.items() if number)


def test_launching_loads_next_to_nothing() -> None:
    heavy = {"typing", "re", "json", "enum", "dataclasses", "pathlib", "subprocess", "socket", "signal", "contextlib",
             "functools", "tempfile", "shutil", "threading", "argparse", "ctypes", "pyrkt.stage1.failure"}  # fmt: skip
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pyrkt.stage1.launch; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert heavy & set(done.stdout.split()) == set()


def test_what_a_helper_says_is_the_reason() -> None:
    said = b"newuidmap: uid range [1-2) -> [7-8) not allowed\n"
    error = failure(encode([HELPER]), ("",), 0, 0, 1, said=said)
    assert error.message == "mapping ids by newuidmap: newuidmap: uid range [1-2) -> [7-8) not allowed"
    assert "/etc/subuid" in error.hint
