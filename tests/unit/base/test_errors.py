"""The error tree: codes that scripts rely on, messages of one safe line."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest

from pyrkt.base import errors
from pyrkt.base.errors import InvalidSpec, KernelError, PyrktError, brief, printable

CODES = {
    "PyrktError": 1,
    "UsageError": 2,
    "InvalidSpec": 64,
    "ImageRefused": 65,
    "NotFound": 66,
    "Unavailable": 69,
    "KernelError": 71,
    "CannotCreate": 73,
    "Busy": 75,
    "NoPermission": 77,
    "NotTrusted": 78,
    "StartFailed": 125,
    "NotExecutable": 126,
    "ProgramMissing": 127,
}
TREE = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, PyrktError)]
ROOT = Path(__file__).parents[3]


def test_codes_are_what_scripts_rely_on() -> None:
    assert {each.__name__: each.exit_code for each in TREE} == CODES


def test_the_documentation_lists_every_code() -> None:
    text = (ROOT / "docs" / "exit-codes.md").read_text()
    cells = [[cell.strip().strip("`") for cell in row.split("|")] for row in text.splitlines() if row.startswith("|")]
    assert {name: int(code) for _, code, name, *_ in cells if code.isdigit() and name} == CODES


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(InvalidSpec("is wrong"), "is wrong", id="bare"),
        pytest.param(InvalidSpec("is wrong", document="config.json"), "config.json: is wrong", id="document"),
        pytest.param(
            InvalidSpec("is wrong", document="config.json", where="a.b[0]", rule="spec 1"),
            "config.json: a.b[0]: is wrong (spec 1)",
            id="everything",
        ),
        pytest.param(
            KernelError("mount", errno.EPERM, "/dev/shm"), "mount(/dev/shm): Operation not permitted", id="kernel"
        ),
    ],
)
def test_message_says_what_where_and_why(error: PyrktError, message: str) -> None:
    assert error.message == message
    assert str(error) == message


def test_kernel_error_is_an_oserror_with_errno() -> None:
    with pytest.raises(OSError, match="openat2") as caught:
        raise KernelError("openat2", errno.ELOOP, "/x", hint="look there")
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(KernelError("mount", errno.EPERM, "/x", hint="be root"), id="kernel"),
        pytest.param(InvalidSpec("bad", document="d", where="w", rule="r", hint="h"), id="spec"),
        pytest.param(PyrktError("bad", hint="h"), id="plain"),
    ],
)
def test_errors_cross_process_borders_whole(error: PyrktError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain text", "plain text", id="plain"),
        pytest.param("größe 大", "größe 大", id="letters"),
        pytest.param("a\x1b[31mb", "a\\x1b[31mb", id="escape-sequence"),
        pytest.param("a\nb\r", "a\\nb\\r", id="line-break"),
        pytest.param("\x9b1m", "\\x9b1m", id="c1-control"),
        pytest.param("a\u2028b", "a\\u2028b", id="line-separator"),
        pytest.param("\u202eexe", "\\u202eexe", id="right-to-left-override"),
        pytest.param("\udc80", "\\udc80", id="surrogate"),
    ],
)
def test_printable_is_one_safe_line(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_brief_keeps_beginning_and_end_of_an_endless_line() -> None:
    assert brief("short\n") == "short\\n"
    line = brief("a" + "\x1b" * (1 << 20) + "z")
    assert len(line) < 2000
    assert line.startswith("a\\x1b")
    assert line.endswith("\\x1bz")
    assert "[...]" in line
