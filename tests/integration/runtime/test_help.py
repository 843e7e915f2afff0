"""Help: of the program, of each verb, under the name that it is called by."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from pyrkt.runtime.main import VERBS
from tests.support import oci

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.oci import Runtime


def call(*words: str) -> oci.Answer:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    return oci.Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def runc(tmp_path: Path) -> str:
    """The launcher as scripts know it: by a link."""
    (tmp_path / "runc").symlink_to(oci.LAUNCHER[0])
    return str(tmp_path / "runc")


@pytest.mark.parametrize(
    "words", [[], ["-h"], ["--help"], ["help"], ["h"]], ids=lambda words: " ".join(words) or "none"
)
def test_of_the_program(words: list[str]) -> None:
    answer = call(*oci.LAUNCHER, *words)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("NAME:\n   pyrkt-oci - Open Container Initiative runtime\n")
    for name, summary in VERBS:
        assert f"   {name}" in answer.out
        assert summary in answer.out


@pytest.mark.parametrize("verb", [name for name, _ in VERBS])
def test_of_each_verb(verb: str) -> None:
    asked = [call(*oci.LAUNCHER, *words) for words in ([verb, "-h"], [verb, "--help"], ["help", verb])]
    assert {(answer.code, answer.err) for answer in asked} == {(0, "")}
    assert len({answer.out for answer in asked}) == 1
    assert asked[0].out.startswith(f"NAME:\n   pyrkt-oci {verb} - ")


def test_every_verb_and_flag_of_runc_is_there(runtime: Runtime) -> None:
    """The names alone: as the installed runc lists them."""
    known = call(*runtime.command, "--help").out
    theirs = call("runc", "--help").out
    verbs = [line.split()[0] for line in theirs.partition("COMMANDS:\n")[2].splitlines() if line.startswith("   ")]
    verbs = [verb for verb in verbs if not verb.startswith("-") and verb != "help,"]
    assert len(verbs) == 17
    assert not [flag for flag in flags(theirs) if flag not in flags(known)]
    for verb in verbs:
        ours = flags(call(*runtime.command, verb, "--help").out)
        missing = flags(call("runc", verb, "--help").out) - ours
        assert not missing, verb


def flags(text: str) -> set[str]:
    """Return the flags, short ones too, in the left column of a help text."""
    left = [line.strip().split("  ")[0] for line in text.splitlines() if line.startswith("   -")]
    return {part.split()[0] for each in left for part in each.split(", ")} - {"--help", "-h"}


def test_by_another_name(runc: str) -> None:
    assert call(runc, "--help").out.startswith("NAME:\n   runc - ")
    assert call(runc, "run", "--help").out.startswith("NAME:\n   runc run - ")
    assert call(runc, "run").err.rstrip().endswith('msg="runc: \\"run\\" requires exactly 1 argument(s)"')
    assert 'msg="runc run failed: container id cannot be empty"' in call(runc, "run", "").err
    assert call(runc, "--version").out.startswith("runc version ")
