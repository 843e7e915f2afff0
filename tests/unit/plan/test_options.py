"""Mount options: every word, and what of two that contradict each other counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.plan import options
from pyrkt.plan.options import Options, parse

# The numbers of include/uapi/linux/mount.h, written out here a second time on purpose.
SETS = {
    "ro": 1,
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "sync": 16,
    "mand": 64,
    "dirsync": 128,
    "nosymfollow": 256,
    "noatime": 1024,
    "nodiratime": 2048,
    "silent": 32768,
    "relatime": 1 << 21,
    "iversion": 1 << 23,
    "strictatime": 1 << 24,
    "lazytime": 1 << 25,
}
OPPOSITES = {
    "ro": "rw",
    "nosuid": "suid",
    "nodev": "dev",
    "noexec": "exec",
    "sync": "async",
    "mand": "nomand",
    "nosymfollow": "symfollow",
    "noatime": "atime",
    "nodiratime": "diratime",
    "silent": "loud",
    "relatime": "norelatime",
    "iversion": "noiversion",
    "strictatime": "nostrictatime",
    "lazytime": "nolazytime",
}
# word: (MOUNT_ATTR set, MOUNT_ATTR cleared)
RECURSIVE = {
    "rro": (1, 0),
    "rrw": (0, 1),
    "rnosuid": (2, 0),
    "rsuid": (0, 2),
    "rnodev": (4, 0),
    "rdev": (0, 4),
    "rnoexec": (8, 0),
    "rexec": (0, 8),
    "rnodiratime": (0x80, 0),
    "rdiratime": (0, 0x80),
    "rnosymfollow": (0x200000, 0),
    "rsymfollow": (0, 0x200000),
    "rrelatime": (0, 0x70),
    "rnorelatime": (0, 0x70),
    "rnoatime": (0x10, 0x70),
    "ratime": (0, 0x70),
    "rstrictatime": (0x20, 0x70),
    "rnostrictatime": (0, 0x70),
}
PROPAGATION = {"unbindable": 1 << 17, "private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20}


@pytest.mark.parametrize(("word", "flag"), SETS.items())
def test_sets_a_flag(word: str, flag: int) -> None:
    assert parse((word,)) == Options(flags=flag)


@pytest.mark.parametrize(("word", "opposite"), OPPOSITES.items())
def test_the_later_of_two_opposites_counts(word: str, opposite: str) -> None:
    assert parse((word, opposite)) == Options(cleared=SETS[word])
    assert parse((opposite, word)) == Options(flags=SETS[word])


@pytest.mark.parametrize(("word", "attributes"), RECURSIVE.items())
def test_sets_an_attribute_of_the_whole_tree(word: str, attributes: tuple[int, int]) -> None:
    assert parse((word,)) == Options(tree_set=attributes[0], tree_clear=attributes[1])


@pytest.mark.parametrize(("word", "flag"), PROPAGATION.items())
def test_propagation(word: str, flag: int) -> None:
    assert parse((word,)) == Options(propagation=(flag,))
    assert parse(("r" + word,)) == Options(propagation=(flag | 16384,))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param((), Options(), id="none"),
        pytest.param(("defaults",), Options(), id="defaults"),
        pytest.param(("bind",), Options(bind=1), id="bind"),
        pytest.param(("rbind",), Options(bind=2), id="rbind"),
        pytest.param(("remount", "ro"), Options(remount=True, flags=1), id="remount"),
        pytest.param(("idmap",), Options(idmap=1), id="idmap"),
        pytest.param(("ridmap",), Options(idmap=2), id="ridmap"),
        pytest.param(("tmpcopyup",), Options(copy_up=True), id="tmpcopyup"),
        pytest.param(("mode=755", "nosuid", "size=1k"), Options(flags=2, data="mode=755,size=1k"), id="data-in-order"),
        pytest.param(("_netdev", "x-systemd.automount", "nofail", ""), Options(), id="words-of-fstab"),
        pytest.param(("noatime", "strictatime"), Options(flags=1 << 24), id="one-access-time"),
        pytest.param(("relatime", "noatime"), Options(flags=1024), id="the-other-access-time"),
        pytest.param(("rro", "rrw"), Options(tree_clear=1), id="tree-later-counts"),
        pytest.param(("rrw", "rro"), Options(tree_set=1), id="tree-later-counts-too"),
        pytest.param(("rnoatime", "rrelatime"), Options(tree_clear=0x70), id="tree-one-access-time"),
        pytest.param(("private", "rshared"), Options(propagation=(1 << 18, 1 << 20 | 16384)), id="propagation-twice"),
    ],
)
def test_combinations(words: tuple[str, ...], expected: Options) -> None:
    assert parse(words) == expected


@pytest.mark.parametrize(
    ("words", "attributes"),
    [
        pytest.param(("ro",), (1, 0), id="ro"),
        pytest.param(("rw",), (0, 1), id="rw"),
        pytest.param(("suid", "dev", "exec", "symfollow"), (0, 0x20000E), id="taken-away"),
        pytest.param(("atime",), (0, 0x70), id="atime"),
        pytest.param(("diratime",), (0, 0x80), id="diratime"),
        pytest.param(("nosuid", "nodev", "noexec"), (14, 0), id="the-three"),
        pytest.param(("noatime",), (0x10, 0x70), id="noatime"),
        pytest.param(("relatime",), (0, 0x70), id="relatime"),
        pytest.param(("strictatime",), (0x20, 0x70), id="strictatime"),
        pytest.param(("nodiratime",), (0x80, 0), id="nodiratime"),
        pytest.param(("nosymfollow",), (0x200000, 0), id="nosymfollow"),
        pytest.param(("sync", "lazytime"), (0, 0), id="not-of-the-mount"),
    ],
)
def test_attributes_of_a_mount_that_stands(words: tuple[str, ...], attributes: tuple[int, int]) -> None:
    assert parse(words).attributes() == attributes


# set, cleared, cleared unless a user namespace may not
@pytest.mark.parametrize(
    ("words", "attributes"),
    [
        pytest.param(("rbind", "rprivate"), (0, 0, 0), id="no-word-about-flags"),
        pytest.param(("ro",), (1, 0, 0x20000E), id="ro"),
        pytest.param(("rw",), (0, 1, 0x20000E), id="rw"),
        pytest.param(("dev", "noexec"), (8, 4, 0x200003), id="dev-noexec"),
        pytest.param(("noatime",), (0x10, 0xF0, 0x20000F), id="noatime"),
        pytest.param(("nodiratime",), (0x80, 0x70, 0x20000F), id="nodiratime-is-relatime-too"),
        pytest.param(("strictatime", "nodiratime"), (0xA0, 0x70, 0x20000F), id="both-fields"),
        pytest.param(("atime",), (0, 0, 0x20000F), id="an-access-time-taken-away-says-nothing"),
        pytest.param(("symfollow",), (0, 0x200000, 15), id="symfollow"),
        pytest.param(("lazytime",), (0, 0, 0x20000F), id="a-flag-of-the-file-system"),
    ],
)
def test_attributes_of_a_bind(words: tuple[str, ...], attributes: tuple[int, int, int]) -> None:
    assert parse(words).of_bind() == attributes


def test_every_option_of_the_specification_is_a_word_here() -> None:
    known = set(options.FLAGS) | set(options.RECURSIVE) | set(options.PROPAGATION)
    known |= {"bind", "rbind", "remount", "idmap", "ridmap", "tmpcopyup"}
    # runtime-spec 1.3, config, Linux mount options
    # fmt: off
    specified = {
        "async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "iversion",
        "lazytime", "loud", "mand", "noatime", "nodev", "nodiratime", "noexec", "noiversion", "nolazytime",
        "nomand", "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev",
        "rdiratime", "relatime", "remount", "rexec", "rnoatime", "rnodev", "rnodiratime", "rnoexec", "rnorelatime",
        "rnostrictatime", "rnosuid", "rnosymfollow", "ro", "rprivate", "rrelatime", "rro", "rrw", "rshared",
        "rslave", "rstrictatime", "rsuid", "rsymfollow", "runbindable", "rw", "shared", "silent", "slave",
        "strictatime", "suid", "symfollow", "sync", "tmpcopyup", "unbindable", "idmap", "ridmap",
    }
    # fmt: on
    assert specified <= known


@given(st.lists(st.sampled_from([*options.FLAGS, *options.RECURSIVE])))
def test_the_kernel_could_take_any_mix(words: list[str]) -> None:
    found = parse(tuple(words))
    # mount_setattr(2): a new access time must clear the field, and never two at once.
    assert found.tree_set & 0x70 in {0, 0x10, 0x20}
    assert not found.tree_set & 0x70 or found.tree_clear & 0x70 == 0x70
    assert (found.flags & (1024 | 1 << 21 | 1 << 24)).bit_count() <= 1
