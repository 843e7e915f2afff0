"""Which device nodes a container may use: an ordered list of rules, made into v1 lines or into a v2 eBPF program.

The list decides bit by bit: of the rules that name a device and one of r, w, m, the last one wins; what none names is
refused. So the list starts from "nothing" whatever it says (a list read as a black-list let containers open the
host's disks: GHSA-g54h-m393-cpwq), and a few harmless devices are always added at its end.

Source: runtime-spec 1.3, config-linux, "Allowed Device list" and "Default Devices"; Linux
admin-guide/cgroup-v1/devices.rst; include/uapi/linux/bpf.h.
"""

from __future__ import annotations

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrkt.spec.runtime_resources import DeviceRule

MKNOD, READ, WRITE = 1, 2, 4
ALL = MKNOD | READ | WRITE
BLOCK, CHAR = 1, 2
ANY = -1
"""A major or minor number that stands for all."""
_LETTERS = {"m": MKNOD, "r": READ, "w": WRITE, "a": ALL}
_TYPES = {"b": (BLOCK,), "c": (CHAR,), "u": (CHAR,), "a": (BLOCK, CHAR), "": (BLOCK, CHAR), "p": ()}


class Rule(Record):
    """Nodes of one kind (BLOCK or CHAR) and what is allowed or refused with them."""

    allow: bool
    kind: int
    major: int = ANY
    minor: int = ANY
    access: int = ALL

    def covers(self, other: Rule) -> bool:
        """Tell whether every node of ``other`` is one of this rule's."""
        return self.kind == other.kind and self.major in (ANY, other.major) and self.minor in (ANY, other.minor)

    def meets(self, other: Rule) -> bool:
        """Tell whether a node belongs to both rules."""
        return (
            self.kind == other.kind
            and (ANY in (self.major, other.major) or self.major == other.major)
            and (ANY in (self.minor, other.minor) or self.minor == other.minor)
        )


# null zero full random urandom, tty console ptmx, and the container's own terminals
DEFAULT = tuple(
    Rule(allow=True, kind=CHAR, major=major, minor=minor)
    for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, ANY))
)


def rules(spec: Iterable[DeviceRule]) -> tuple[Rule, ...]:
    """Return linux.resources.devices as rules of one kind each, oldest first, the default devices last."""
    found = []
    for entry in spec:
        access = 0
        for letter in entry.access or "rwm":
            access |= _LETTERS[letter]
        for kind in _TYPES[entry.type]:
            major, minor = (ANY if n is None or n < 0 else n for n in (entry.major, entry.minor))
            found.append(Rule(allow=entry.allow, kind=kind, major=major, minor=minor, access=access))
    return (*found, *DEFAULT)


def allowed(ordered: Iterable[Rule], kind: int, major: int, minor: int, access: int) -> bool:
    """Tell whether every bit of ``access`` to one node is allowed: the meaning that the two compilers must have."""
    granted = 0
    node = Rule(allow=True, kind=kind, major=major, minor=minor)
    for rule in ordered:
        if rule.covers(node):
            granted = granted | rule.access if rule.allow else granted & ~rule.access
    return access & ~granted == 0


# --- v1: devices.deny and devices.allow ---


def v1_lines(ordered: Iterable[Rule], where: str = "linux.resources.devices") -> tuple[tuple[str, str], ...]:
    """Return what to write, in order: (file, line), the first of them "a" to devices.deny or devices.allow.

    Raises: InvalidSpec where v1 cannot say what the list says: it knows exceptions from "nothing" or from
    "everything", but no exceptions from an exception.
    """
    default, entries = _exceptions(ordered, where)
    first, rest = ("devices.allow", "devices.deny") if default else ("devices.deny", "devices.allow")
    return ((first, "a"), *((rest, _line(entry)) for entry in entries))


def _exceptions(ordered: Iterable[Rule], where: str) -> tuple[bool, list[Rule]]:
    """Return whether everything is allowed at first, and the rules that say otherwise."""
    remaining = _from_last_reset(list(ordered))
    default, exceptions = False, list[Rule]()
    if remaining and remaining[0].allow and _is_everything(remaining[:2]):
        default, remaining = True, remaining[2:]
    for rule in remaining:
        says_otherwise = rule.allow != default
        exceptions = _added(exceptions, rule) if says_otherwise else _taken_back(exceptions, rule, where)
    return default, exceptions


def _is_everything(pair: list[Rule]) -> bool:
    return len(pair) == 2 and (
        {rule.kind for rule in pair} == {BLOCK, CHAR}
        and pair[0].allow == pair[1].allow
        and all(rule.major == ANY and rule.minor == ANY and rule.access == ALL for rule in pair)
    )


def _from_last_reset(ordered: list[Rule]) -> list[Rule]:
    """Leave out what a later rule for everything makes void."""
    for index in range(len(ordered) - 2, -1, -1):
        if _is_everything(ordered[index : index + 2]):
            return ordered[index:]
    return ordered


def _added(exceptions: list[Rule], rule: Rule) -> list[Rule]:
    """Add an exception, so that for every node one entry alone has all of its bits.

    The kernel asks whether *one* entry allows the whole request, never a union of entries.
    """
    closed = list(exceptions)
    todo = [rule]
    while todo:
        new = todo.pop()
        same = next((old for old in closed if old.covers(new) and new.covers(old)), None)
        if same is not None:
            if new.access & ~same.access == 0:
                continue
            closed.remove(same)
            new = new.replace(access=new.access | same.access)
        # Where two entries meet, the nodes in common get an entry of their own with the bits of both.
        todo.extend(_both(old, new) for old in closed if old.meets(new) and not _needless(old, new))
        closed.append(new)
    return closed


def _both(one: Rule, other: Rule) -> Rule:
    major = other.major if one.major == ANY else one.major
    minor = other.minor if one.minor == ANY else one.minor
    return one.replace(major=major, minor=minor, access=one.access | other.access)


def _needless(one: Rule, other: Rule) -> bool:
    """Tell whether one of two entries already has, for the nodes in common, the bits of both."""
    union = one.access | other.access
    return union in (one.access, other.access)


def _taken_back(exceptions: list[Rule], rule: Rule, where: str) -> list[Rule]:
    kept = []
    for entry in exceptions:
        if not entry.meets(rule) or not entry.access & rule.access:
            kept.append(entry)
        elif rule.covers(entry):
            if left := entry.access & ~rule.access:
                kept.append(entry.replace(access=left))
        else:
            raise InvalidSpec(
                f"cgroup v1 cannot {'allow' if rule.allow else 'refuse'} {_line(rule)!r} "
                f"within {'refused' if rule.allow else 'allowed'} {_line(entry)!r}",
                document="config.json",
                where=where,
                hint="name the devices one by one, or use a host with cgroup v2",
            )
    return kept


def _line(rule: Rule) -> str:
    major, minor = ("*" if number == ANY else str(number) for number in (rule.major, rule.minor))
    access = "".join(letter for letter in "rwm" if rule.access & _LETTERS[letter])
    return f"{'b' if rule.kind == BLOCK else 'c'} {major}:{minor} {access}"


# --- v2: BPF_PROG_TYPE_CGROUP_DEVICE ---

# include/uapi/linux/bpf_common.h and bpf.h: class | operation | source
_LDX_W, _MOV32_REG, _MOV32_IMM, _AND32_IMM, _RSH32_IMM = 0x61, 0xBC, 0xB4, 0x54, 0x74
_JNE32_IMM, _JEQ32_IMM, _EXIT = 0x56, 0x16, 0x95
_RESULT, _CONTEXT, _KIND, _WANTED, _MAJOR, _MINOR, _HIT = 0, 1, 2, 3, 4, 5, 6


def _instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    """Return one struct bpf_insn: u8 code, 4+4 bits of registers, s16 offset, s32 immediate."""
    return (
        bytes((code, dst | src << 4))
        + (offset & 0xFFFF).to_bytes(2, "little")
        + (immediate & 0xFFFFFFFF).to_bytes(4, "little")
    )


def program(ordered: Iterable[Rule]) -> bytes:
    """Return the eBPF program that decides as ``allowed`` does: 1 allows, 0 refuses.

    It reads the rules from the last to the first; a rule settles those of the wanted bits that it names, and the
    next one judges what is left.
    """
    # struct bpf_cgroup_dev_ctx { u32 access_type (access << 16 | kind); u32 major; u32 minor; }
    code = [
        _instruction(_LDX_W, _WANTED, _CONTEXT, 0),
        _instruction(_MOV32_REG, _KIND, _WANTED),
        _instruction(_AND32_IMM, _KIND, immediate=0xFFFF),
        _instruction(_RSH32_IMM, _WANTED, immediate=16),
        _instruction(_LDX_W, _MAJOR, _CONTEXT, 4),
        _instruction(_LDX_W, _MINOR, _CONTEXT, 8),
    ]
    for rule in reversed(list(ordered)):
        code.extend(_judgement(rule))
    # Nothing wanted is left only where every bit was allowed; what no rule named is refused.
    code += [
        _instruction(_MOV32_IMM, _RESULT, immediate=0),
        _instruction(_EXIT),
    ]
    return b"".join(code)


def _judgement(rule: Rule) -> list[bytes]:
    tests = [(_KIND, rule.kind)]
    if rule.major != ANY:
        tests.append((_MAJOR, rule.major))
    if rule.minor != ANY:
        tests.append((_MINOR, rule.minor))
    if rule.allow:
        body = [
            _instruction(_AND32_IMM, _WANTED, immediate=~rule.access & ALL),
            _instruction(_JNE32_IMM, _WANTED, offset=2, immediate=0),
            _instruction(_MOV32_IMM, _RESULT, immediate=1),
            _instruction(_EXIT),
        ]
    else:
        body = [
            _instruction(_MOV32_REG, _HIT, _WANTED),
            _instruction(_AND32_IMM, _HIT, immediate=rule.access),
            _instruction(_JEQ32_IMM, _HIT, offset=2, immediate=0),
            _instruction(_MOV32_IMM, _RESULT, immediate=0),
            _instruction(_EXIT),
        ]
    after = len(body)
    return [
        _instruction(_JNE32_IMM, register, offset=after + len(tests) - index - 1, immediate=number)
        for index, (register, number) in enumerate(tests)
    ] + body
