"""Device rules: the meaning of a list, its v1 lines under a model of the kernel, its eBPF program in an emulator."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.reader import Reader
from pyrkt.cgroup import devices
from pyrkt.cgroup.devices import ALL, ANY, BLOCK, CHAR, MKNOD, READ, WRITE, Rule
from pyrkt.spec.runtime_resources import DeviceRule


def parse(*values: dict[str, Any]) -> tuple[Rule, ...]:
    return devices.rules(DeviceRule.parse(Reader(value, "config.json")) for value in values)


DENY_ALL = {"allow": False, "access": "rwm"}
ALLOW_ALL = {"allow": True, "type": "a", "access": "rwm"}


class KernelV1:
    """The v1 device controller, after Linux security/device_cgroup.c: a default and exceptions from it."""

    def __init__(self) -> None:
        self.allow_all = True
        self.exceptions: dict[tuple[str, str, str], set[str]] = {}

    def write(self, file: str, line: str) -> None:
        allow = file == "devices.allow"
        if line == "a":
            self.allow_all, self.exceptions = allow, {}
            return
        kind, numbers, access = line.split()
        key = (kind, *numbers.split(":"))
        assert len(key) == 3
        if allow != self.allow_all:
            self.exceptions.setdefault(key, set()).update(access)  # dev_exception_add
        elif key in self.exceptions:
            self.exceptions[key] -= set(access)  # dev_exception_rm: an exact match only

    def allowed(self, kind: int, major: int, minor: int, access: int) -> bool:
        wanted = {letter for letter, bit in (("m", MKNOD), ("r", READ), ("w", WRITE)) if access & bit}
        matching = [
            bits
            for (its_kind, its_major, its_minor), bits in self.exceptions.items()
            if its_kind == ("b" if kind == BLOCK else "c")
            and its_major in ("*", str(major))
            and its_minor in ("*", str(minor))
        ]
        if self.allow_all:
            return not any(bits & wanted for bits in matching)  # match_exception_partial
        return any(wanted <= bits for bits in matching)  # match_exception


def run_bpf(program: bytes, kind: int, major: int, minor: int, access: int) -> int:
    """Run the program on struct bpf_cgroup_dev_ctx; only what the compiler uses, and no jump backwards."""
    context = b"".join(word.to_bytes(4, "little") for word in (access << 16 | kind, major, minor))
    registers: list[int | None] = [None] * 11
    registers[1] = -1  # the context pointer: loads only
    place = 0
    while True:
        code, pair = program[place], program[place + 1]
        dst, src = pair & 15, pair >> 4
        offset = int.from_bytes(program[place + 2 : place + 4], "little", signed=True)
        immediate = int.from_bytes(program[place + 4 : place + 8], "little", signed=True)
        place += 8
        value = registers[dst]
        if code == 0x95:
            assert registers[0] is not None, "r0 is not set at exit"
            return registers[0]
        if code == 0x61:
            assert registers[src] == -1
            registers[dst] = int.from_bytes(context[offset : offset + 4], "little")
        elif code == 0xB4:
            registers[dst] = immediate & 0xFFFFFFFF
        elif code == 0xBC:
            assert registers[src] is not None
            registers[dst] = registers[src]
        else:
            assert value is not None, "a register is read before it is set"
            if code == 0x54:
                registers[dst] = value & immediate & 0xFFFFFFFF
            elif code == 0x74:
                registers[dst] = value >> immediate
            elif code in (0x56, 0x16):
                assert offset >= 0
                if (value == immediate) == (code == 0x16):
                    place += offset * 8
            else:
                raise AssertionError(f"unknown instruction {code:#x}")


NUMBERS = st.sampled_from([ANY, 1, 3, 5])
RULES = st.lists(
    st.builds(
        lambda allow, kinds, major, minor, access: [
            Rule(allow=allow, kind=kind, major=major, minor=minor, access=access) for kind in kinds
        ],
        st.booleans(),
        st.sampled_from([(BLOCK,), (CHAR,), (CHAR,), (BLOCK, CHAR)]),
        NUMBERS,
        NUMBERS,
        st.integers(1, ALL),
    ),
    max_size=6,
).map(lambda nested: tuple(rule for rules in nested for rule in rules))
NODES = [(kind, major, minor) for kind in (BLOCK, CHAR) for major in (1, 3, 5, 9) for minor in (1, 3, 5, 9)]


@given(RULES)
def test_the_program_decides_as_the_list(rules: tuple[Rule, ...]) -> None:
    program = devices.program(rules)
    for node in NODES:
        for access in range(1, ALL + 1):
            assert run_bpf(program, *node, access) == devices.allowed(rules, *node, access)


@given(RULES)
def test_the_v1_lines_decide_as_the_list_or_are_refused(rules: tuple[Rule, ...]) -> None:
    kernel = KernelV1()
    try:
        lines = devices.v1_lines(rules)
    except InvalidSpec:
        return
    for file, line in lines:
        kernel.write(file, line)
    for node in NODES:
        for access in range(1, ALL + 1):
            assert kernel.allowed(*node, access) == devices.allowed(rules, *node, access), (lines, node, access)


def test_a_usual_list() -> None:
    rules = parse(DENY_ALL, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"})
    lines = devices.v1_lines(rules)
    assert lines[:2] == (("devices.deny", "a"), ("devices.allow", "c 10:229 rw"))
    assert {line for _, line in lines[2:]} == {
        *(f"c 1:{minor} rwm" for minor in (3, 5, 7, 8, 9)),
        *(f"c 5:{minor} rwm" for minor in (0, 1, 2)),
        "c 136:* rwm",
    }


@pytest.mark.parametrize("listed", [(), (DENY_ALL,), ({"allow": True, "type": "b", "major": 8, "access": "r"},)])
def test_nothing_is_allowed_that_is_not_listed(listed: tuple[dict[str, Any], ...]) -> None:
    rules = parse(*listed)
    assert devices.allowed(rules, CHAR, 1, 3, ALL)  # /dev/null
    assert not devices.allowed(rules, CHAR, 1, 11, READ)  # /dev/kmsg
    assert not devices.allowed(rules, BLOCK, 8, 0, MKNOD)
    assert devices.v1_lines(rules)[0] == ("devices.deny", "a")


def test_everything_may_be_allowed() -> None:
    assert devices.v1_lines(parse(DENY_ALL, ALLOW_ALL)) == (("devices.allow", "a"),)
    assert devices.allowed(parse(ALLOW_ALL), BLOCK, 8, 0, ALL)


def test_everything_but_one() -> None:
    rules = parse(ALLOW_ALL, {"allow": False, "type": "b", "major": 8, "minor": 0, "access": "w"})
    assert devices.v1_lines(rules) == (("devices.allow", "a"), ("devices.deny", "b 8:0 w"))


def test_v1_knows_no_exception_from_an_exception() -> None:
    hole = parse({"allow": True, "type": "c", "major": 9}, {"allow": False, "type": "c", "major": 9, "minor": 1})
    with pytest.raises(InvalidSpec, match=r"cannot refuse 'c 9:1 rwm' within allowed 'c 9:\* rwm'") as caught:
        devices.v1_lines(hole)
    assert caught.value.where == "linux.resources.devices"


@pytest.mark.parametrize(
    ("value", "kinds", "access"),
    [
        pytest.param({"allow": True}, [BLOCK, CHAR], ALL, id="all"),
        pytest.param({"allow": True, "type": "u", "access": "m"}, [CHAR], MKNOD, id="unbuffered"),
        pytest.param({"allow": True, "type": "p"}, [], 0, id="fifos-need-no-permission"),
        pytest.param(
            {"allow": True, "type": "b", "major": -1, "minor": -1, "access": "rw"}, [BLOCK], READ | WRITE, id="-1"
        ),
    ],
)
def test_reading_rules(value: dict[str, Any], kinds: list[int], access: int) -> None:
    found = parse(value)[: -len(devices.DEFAULT)]
    assert [rule.kind for rule in found] == kinds
    assert all(rule.access == access and rule.major == ANY and rule.minor == ANY for rule in found)
