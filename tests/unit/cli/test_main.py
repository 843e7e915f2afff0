"""The root: finding commands, help without imports, and errors as one line, a hint and an exit code."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

import pyrkt
from pyrkt.base.errors import Busy, NotTrusted, PyrktError, UsageError
from pyrkt.cli import main as root
from pyrkt.cli.completion import script

ENTRY = Path(pyrkt.__file__).parent / "cli" / "entry.py"


def pyrkt_(*words: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(ENTRY), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **more)  # type: ignore[call-overload,no-any-return]


def modules(*words: str) -> set[str]:
    """The modules that a command line loads."""
    code = (
        f"import sys; sys.argv = ['pyrkt', *{list(words)!r}]; sys.path.insert(0, {str(ENTRY.parents[2])!r})\n"
        "from pyrkt.cli.main import main\nmain(sys.argv[1:])\n"
        "import os; os.write(2, ' '.join(sorted(sys.modules)).encode())"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["completion", "bash"], ["run", "--help"], ["image"]])
def test_help_version_and_completion_import_almost_nothing(words: list[str]) -> None:
    loaded = modules(*words)
    heavy = {
        "click",
        "rich",
        "re",
        "json",
        "typing",
        "enum",
        "dataclasses",
        "pathlib",
        "ctypes",
        "subprocess",
        "socket",
        "_ssl",
    }
    assert not loaded & heavy
    assert not [
        name for name in loaded if name.startswith(("pyrkt.store", "pyrkt.image", "pyrkt.trust", "pyrkt.bundle"))
    ]


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["completion"], ["image"], ["help", "run"]])
def test_they_need_nothing_around_them(words: list[str]) -> None:
    done = pyrkt_(*words, cwd="/", env={}, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize(
    ("words", "name", "rest"),
    [
        pytest.param(["run", "x"], "run", ["x"], id="exact-beats-prefix"),
        pytest.param(["vers"], "version", [], id="prefix"),
        pytest.param(["stat"], "status", [], id="prefix-in-rkt-though-not-here"),
        pytest.param(["ex", "x"], "export", ["x"], id="another"),
        pytest.param(["exe", "x"], "exec", ["x"], id="ours"),
        pytest.param(["image", "li"], "image list", [], id="prefix-below"),
        pytest.param(["im", "l", "x"], "image list", ["x"], id="prefix-of-both"),
        pytest.param(["image"], "image", ["--help"], id="group-alone"),
        pytest.param(["run-p"], "run-prepared", [], id="longer"),
    ],
)
def test_commands_are_found(words: list[str], name: str, rest: list[str]) -> None:
    assert root.find(words) == (name, rest)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["st"], "ambiguous: status, .*stats, .*stop"),
        (["nope"], "unknown command"),
        (["image", "e"], "ambiguous"),
        (["fail"], "unknown"),
    ],
)
def test_commands_are_not_found(words: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        root.find(words)


def test_every_command_of_the_table_is_there() -> None:
    for name, command in root.COMMANDS.items():
        if command.module:
            module = __import__(command.module, fromlist=[command.attribute])
            assert callable(getattr(module, command.attribute)), name


def test_no_command_is_a_usage_error_with_help() -> None:
    done = pyrkt_()
    assert done.returncode == 2
    assert "missing command" in done.stderr
    assert "run-prepared" in done.stderr


def test_an_unknown_command_is_one_line_and_a_hint() -> None:
    done = pyrkt_("frobnicate")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "pyrkt: unknown command 'frobnicate'\n  hint: pyrkt --help lists the commands\n"


def test_an_unknown_flag_of_a_click_command_is_one_too() -> None:
    done = pyrkt_("list", "--nope")
    assert done.returncode == 2
    assert done.stderr.startswith("pyrkt: No such option")
    assert "hint: pyrkt list --help" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        pytest.param(OSError(errno.ENOSPC, "No space left on device", "/x"), 73, "/x: No space", id="disk-full"),
        pytest.param(PermissionError(errno.EACCES, "Permission denied", "/x"), 77, "/x: Permission", id="permission"),
        pytest.param(
            FileNotFoundError(errno.ENOENT, "No such file or directory", b"/x"), 66, "/x: No such", id="missing"
        ),
        pytest.param(FileExistsError(errno.EEXIST, "File exists", "/x"), 73, "/x: File exists", id="exists"),
        pytest.param(OSError(errno.EIO, "Input/output error"), 1, "Input/output error", id="io"),
        pytest.param(MemoryError(), 1, "out of memory", id="memory"),
        pytest.param(RecursionError(), 1, "nested too deep", id="recursion"),
        pytest.param(KeyError("x"), 1, "internal error: KeyError", id="bug"),
        pytest.param(NotTrusted("no", hint="h"), 78, "no", id="ours"),
        pytest.param(NotTrusted("no"), 78, "no", id="ours-without-a-hint"),
        pytest.param(PyrktError("no"), 1, "no", id="any-without-a-hint"),
        pytest.param(Busy("held", hint="h"), 75, "held", id="busy"),
    ],
)
def test_every_error_has_a_sentence_a_hint_and_a_code(error: Exception, code: int, text: str) -> None:
    known = root.explain(error)
    assert isinstance(known, PyrktError)
    assert known.exit_code == code
    assert text in known.message
    assert known.hint


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -I -S {ENTRY} --help | true; exec 2>&1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-I", "-S", str(ENTRY), "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 73
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_closed_descriptors_are_no_traceback() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -I -S {ENTRY} --version <&- >&- 2>&-"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_completion_script_is_bash() -> None:
    subprocess.run(["/bin/bash", "-n"], input=script(), text=True, check=True)
    complete = script() + '\nCOMP_WORDS=(pyrkt run-p) COMP_CWORD=1; _pyrkt; echo "${COMPREPLY[*]}"'
    done = subprocess.run(["/bin/bash"], input=complete, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["run-prepared"]


def test_completion_knows_the_flags_of_logs_and_attach() -> None:
    from pyrkt.cli import completion
    from pyrkt.cli.logs import attach, logs

    for command in (logs, attach):
        flags = [name for option in command.params for name in option.opts if name.startswith("--")]
        assert completion._CLICKS[str(command.name)].split() == flags
