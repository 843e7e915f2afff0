"""Attributes of whole trees: rro and its like reach every mount below, ro and its like only the first."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root


@pytest.fixture
def volume() -> Iterator[Path]:
    """A tmpfs with a tmpfs on it, each with a file, where a user namespace can reach it."""
    with mounts.open_bundle() as made, mounts.mounted(made.path / "volume") as top:
        subprocess.run(["mount", "--make-private", top], check=True)
        (top / "foo").touch()
        (top / "sub").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "strictatime", "pyrkt-test", top / "sub"], check=True)
        (top / "sub/bar").touch()
        yield top


def tree(runtime: Runtime, box: Bundle, volume: Path, *options: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the options of the volume's two mounts, as the container sees them."""
    mounts.add(box, "/tmp", volume, *options)
    answer = runtime.run(box.runs("cat", "/proc/self/mountinfo").path)
    assert answer.code == 0, answer.err
    found = mounts.seen(answer.out)
    box.config["mounts"].pop()
    return found["/tmp"].options, found["/tmp/sub"].options


def test_ro_is_of_one_mount_and_rro_of_all(runtime: Runtime, box: Bundle, volume: Path) -> None:
    script = "touch /tmp/foo 2>&1; touch /tmp/sub/bar 2>&1; echo end"
    refused = "touch: /tmp/{}: Read-only file system\n"
    for options, first, second in (
        (("rbind", "ro"), True, False),
        (("rbind", "rro"), True, True),
        (("rbind", "ro", "rro"), True, True),
        (("rbind", "rro", "rrw"), False, False),
        (("rbind", "ro", "rrw"), False, False),
    ):
        mounts.add(box, "/tmp", volume, *options)
        out = runtime.run(box.script(script).path).out
        assert out == refused.format("foo") * first + refused.format("sub/bar") * second + "end\n", options
        box.config["mounts"].pop()


@pytest.mark.parametrize(
    ("word", "there", "gone"),
    [
        ("rnosuid", "nosuid", ""),
        ("rnodev", "nodev", ""),
        ("rnoexec", "noexec", ""),
        ("rnodiratime", "nodiratime", ""),
        ("rnosymfollow", "nosymfollow", ""),
        ("rnoatime", "noatime", "relatime"),
        ("rstrictatime", "", "relatime noatime"),
        ("rrelatime", "relatime", "noatime"),
        ("ratime", "relatime", "noatime"),
        ("rnorelatime", "relatime", "noatime"),
        ("rnostrictatime", "relatime", "noatime"),
    ],
)
def test_each_word_reaches_the_whole_tree(
    runtime: Runtime, box: Bundle, volume: Path, word: str, there: str, gone: str
) -> None:
    for options in tree(runtime, box, volume, "rbind", word):
        assert set(there.split()) <= options
        assert not set(gone.split()) & options


def test_the_inverse_words_take_away(runtime: Runtime, box: Bundle, volume: Path) -> None:
    for place in (volume, volume / "sub"):
        flags = "remount,bind,ro,nosuid,nodev,noexec,nodiratime,nosymfollow"
        subprocess.run(["mount", "-o", flags, place], check=True)
    words = ("rrw", "rsuid", "rdev", "rexec", "rdiratime", "rsymfollow")
    for options in tree(runtime, box, volume, "rbind", *words):
        assert options <= {"rw", "relatime"}
    first, second = tree(runtime, box, volume, "rbind", "rw")
    assert "rw" in first
    assert {"ro", "nosuid", "nodev", "noexec"} <= second


def test_a_user_namespace_may_add_but_not_take_away(runtime: Runtime, volume: Path) -> None:
    with mounts.open_bundle() as box:
        mounts.map_users(box)
        subprocess.run(["mount", "-o", "remount,bind,ro", volume / "sub"], check=True)
        for options in tree(runtime, box, volume, "rbind", "rro", "rnosuid"):
            assert {"ro", "nosuid"} <= options
        mounts.add(box, "/tmp", volume, "rbind", "rrw")
        answer = runtime.run(box.runs("true").path)
        assert answer.code == 1
        assert "operation not permitted" in answer.err.lower()


def test_a_bind_of_one_mount_leaves_what_is_below_behind(runtime: Runtime, box: Bundle, volume: Path) -> None:
    mounts.add(box, "/tmp", volume, "bind")
    assert runtime.run(box.script("ls /tmp /tmp/sub").path).out == "/tmp:\nfoo\nsub\n\n/tmp/sub:\n"
