"""rkt's argument grammar: images, flags that bind to the image before them, and ``-- args ---``. Pure.

    pyrkt run [pod flags] IMAGE [app flags] [-- args... [---]] [IMAGE [app flags] [-- args...]]

Source: rkt 1.30, rkt/cli_apps.go. click cannot say this, and costs 23 ms to import.
"""

from __future__ import annotations

from pyrkt.base.errors import UsageError
from pyrkt.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Value = str | bool | list[str]

_TRUE, _FALSE = ("true", "1", "t", "yes"), ("false", "0", "f", "no")


class Flag(Record):
    """One flag: how it is written, and what it binds to.

    ``kind``: "bool" (``--x``, ``--x=false``), "text" (last one wins; for an app, once an image), "list" (each counts),
    or "optional" (a list whose value is only ever written with ``=``; ``bare`` stands for none).
    ``binds``: "pod", "app" (only after an image), or "both" (before all images: to each of them).
    """

    name: str
    kind: str
    help: str
    binds: str = "pod"
    metavar: str = ""
    bare: str = ""
    aliases: tuple[str, ...] = ()

    def spelled(self) -> str:
        """Return the flag as help shows it: ``--memory SIZE``, ``-d, --detach``."""
        names = sorted(
            (_dashed(name) for name in (self.name, *self.aliases) if len(name) == 1 or name == self.name), key=len
        )
        text = ", ".join(names)
        if self.kind == "optional":
            return f"{text}[={self.metavar}]"
        return text if self.kind == "bool" else f"{text} {self.metavar}"


_ROOT = (Flag(name="help", kind="bool", help="", aliases=("h",)), Flag(name="version", kind="bool", help=""))


class Image(Record):
    """One image of the command line, the flags that bind to it, and the arguments for its app."""

    text: str
    flags: dict[str, Value]
    args: tuple[str, ...] = ()


class Line(Record):
    """A command line, understood: flags of the pod, and the images in order."""

    flags: dict[str, Value]
    images: tuple[Image, ...]

    def text(self, name: str, default: str = "") -> str:
        """Return the value of the text flag ``name``."""
        value = self.flags.get(name, default)
        return value if isinstance(value, str) else default

    def is_set(self, name: str) -> bool:
        """Return the value of the bool flag ``name``; False if it was not given."""
        return self.flags.get(name) is True

    def list(self, name: str) -> tuple[str, ...]:
        """Return the values of the list flag ``name``."""
        value = self.flags.get(name)
        return tuple(value) if isinstance(value, list) else ()


def _dashed(name: str) -> str:
    return f"-{name}" if len(name) == 1 else f"--{name}"


class _Parser:
    def __init__(self, flags: Iterable[Flag]) -> None:
        self.table: dict[str, Flag] = {}
        for flag in flags:
            for name in (flag.name, *flag.aliases):
                self.table[_dashed(name)] = flag
        self.pod: dict[str, Value] = {}
        self.images: list[tuple[str, dict[str, Value], list[str]]] = []
        self.with_args = 0  # how many images there were at the last "--"

    def flag(self, word: str, rest: list[str]) -> None:
        """Take the flag ``word``, and its value from ``rest`` (in reverse order) where it needs one."""
        name, equals, value = word.partition("=")
        flag = self.table.get(name)
        if flag is None and self.switches(word):
            for letter in word[1:]:
                self.flag(f"-{letter}", rest)
            return
        if flag is None:
            raise UsageError(
                f"unknown flag {name}", hint="--help lists the flags; arguments for the app stand after --"
            )
        target = self.target(flag, name)
        if flag.kind == "bool":
            target[flag.name] = boolean(name, value) if equals else True
        elif flag.kind == "optional":
            self.optional(flag, target, value if equals else None, rest)
        else:
            if not equals:
                if not rest:
                    raise UsageError(f"{name} needs a value", hint=f"{name}={flag.metavar or 'VALUE'}")
                value = rest.pop()
            if flag.kind == "list":
                _append(target, flag.name, value)
            elif flag.name in target and target is not self.pod:
                raise UsageError(f"{name} specified multiple times for the same image", hint="give it once an image")
            else:
                target[flag.name] = value

    def switches(self, word: str) -> bool:
        """Tell whether ``word`` is several switches in one, as -it."""
        known = [self.table.get(f"-{letter}") for letter in word[1:]]
        return word[1:2] != "-" and all(flag is not None and flag.kind == "bool" for flag in known)

    def target(self, flag: Flag, name: str) -> dict[str, Value]:
        if flag.binds == "pod" or (flag.binds == "both" and not self.images):
            return self.pod
        if not self.images:
            raise UsageError(f"{name} must follow an image", hint=f"IMAGE {name} ...: it binds to the image before it")
        return self.images[-1][1]

    def optional(self, flag: Flag, target: dict[str, Value], value: str | None, rest: list[str]) -> None:
        if value is None and rest and rest[-1] in {"host", "none", "default", "default-restricted"}:
            # rkt would look for an image named "host" on the network; nobody ever meant that.
            raise UsageError(f"--{flag.name} takes its value with '='", hint=f"--{flag.name}={rest[-1]}")
        _append(target, flag.name, flag.bare if value is None else value)

    def arguments(self, rest: list[str]) -> None:
        if not self.images:
            raise UsageError("an image is required before any app arguments", hint="IMAGE -- ARGUMENT...")
        if self.with_args == len(self.images):
            raise UsageError(
                "only one set of app arguments is allowed per image",
                hint="end the first set with ---, then name an image",
            )
        self.with_args = len(self.images)
        while rest and (word := rest.pop()) != "---":
            self.images[-1][2].append(word)


def leading(words: list[str], flags: Iterable[Flag]) -> tuple[dict[str, Value], list[str]]:
    """Split the flags before the command's name from the name and the rest. ``--help`` and ``--version`` count too."""
    parser = _Parser((*flags, *_ROOT))
    rest = list(words)[::-1]
    while rest and rest[-1].startswith("-") and len(rest[-1]) > 1:
        parser.flag(rest.pop(), rest)
    return parser.pod, rest[::-1]


def extract(words: list[str], flags: Iterable[Flag]) -> tuple[dict[str, Value], list[str]]:
    """Take the global ``flags`` out of the words after a command's name, up to a ``--``."""
    parser = _Parser(flags)
    rest = list(words)[::-1]
    kept: list[str] = []
    while rest:
        word = rest.pop()
        if word == "--":
            return parser.pod, [*kept, word, *rest[::-1]]
        if word.partition("=")[0] in parser.table:
            parser.flag(word, rest)
        else:
            kept.append(word)
    return parser.pod, kept


def _append(target: dict[str, Value], name: str, value: str) -> None:
    values = target.setdefault(name, [])
    if isinstance(values, list):
        values.append(value)


def boolean(name: str, value: str) -> bool:
    """Read the value of the switch ``name``. Raises: UsageError."""
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise UsageError(f"{name}={value}: neither true nor false", hint=f"{name} or {name}=false")


def parse(words: Iterable[str], flags: Iterable[Flag], *, app_args: bool = True) -> Line:
    """Understand the ``words`` after a command's name by the table ``flags``.

    Without ``app_args`` the command has no apps to hand arguments to (fetch), and ``--`` is refused.
    Raises: UsageError that says what to write instead.
    """
    parser = _Parser(flags)
    rest = list(words)[::-1]
    while rest:
        word = rest.pop()
        if word == "---":
            continue  # it only ever ends a set of arguments; a stray one ends none
        if word == "--":
            if not app_args:
                raise UsageError("this command takes no app arguments", hint="leave out -- and what follows")
            parser.arguments(rest)
        elif word.startswith("-") and word != "-":
            parser.flag(word, rest)
        else:
            parser.images.append((word, {}, []))
    images = tuple(Image(text=text, flags=own, args=tuple(args)) for text, own, args in parser.images)
    return Line(flags=parser.pod, images=images)
