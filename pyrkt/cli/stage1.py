"""``--stage1``, rkt's flags for it, and the configuration's default: which flavour makes a pod's apps."""

from __future__ import annotations

import os

from pyrkt.base.errors import UsageError
from pyrkt.pod.flavour import FOREIGN, Flavour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.base.dirs import ConfigDirs
    from pyrkt.cli.grammar import Line

DIRECTORY = "stage1.d"
NAMES = ("native", "fly", *FOREIGN)
_FLAGS = ("stage1-name", "stage1-path", "stage1-url", "stage1-hash", "stage1-from-dir")
_RKT = {  # the last part of rkt's names of its stage1 images, and of their files
    "fly": "fly",
    "coreos": "native",
    "src": "native",
    "host": "native",
    **{name: name for name in NAMES},
}
_HINT = f"--stage1={'|'.join(NAMES)}"


def flavour(line: Line, dirs: ConfigDirs) -> Flavour:
    """Return the flavour that ``line`` asks for, else the configuration's, else native.

    Raises: UsageError for one that there is not; NotFound if its runtime is not on the PATH; InvalidSpec.
    """
    given = [(name, line.text(name)) for name in ("stage1", *_FLAGS) if line.text(name)]
    if len(given) > 1:
        flags = ", ".join(f"--{name}" for name, _ in given)
        raise UsageError(f"{flags} exclude each other", hint=_HINT)
    if not given:
        name = _configured(dirs)
    elif given[0][0] == "stage1":
        name = _named(given[0][1])
    else:
        name = _translated(*given[0])
    if name not in FOREIGN:
        return Flavour(name=name)
    from pyrkt.pod.flavours import find  # only these need it

    return Flavour(name=name, program=find(name))


def _named(text: str) -> str:
    if text not in NAMES:
        raise UsageError(f"--stage1={text}: there is no such flavour", hint=_HINT)
    return text


def _translated(flag: str, text: str) -> str:
    """Return the flavour that one of rkt's images stands for: it is told by its name alone, and never loaded."""
    last = text.partition(":")[0] if flag == "stage1-name" else text
    word = os.path.basename(last).removesuffix(".aci").removeprefix("stage1-")
    if word == "kvm":
        raise UsageError(f"--{flag} {text}: there is no kvm flavour", hint="--stage1=runsc has a kernel of its own")
    if flag == "stage1-hash" or word not in _RKT:
        raise UsageError(f"--{flag} {text}: stage1 is no image here, but a part of pyrkt", hint=_HINT)
    return _RKT[word]


def _configured(dirs: ConfigDirs) -> str:
    """Return the flavour by the heaviest stage1.d/*.json; "native" where no file says it."""
    found = ""
    for directory in dirs.lightest_first():
        try:
            names = sorted(os.listdir(f"{directory}/{DIRECTORY}"))
        except OSError:
            continue
        for name in names:
            if name.endswith(".json"):
                found = _read(f"{directory}/{DIRECTORY}/{name}") or found
    return found or "native"


def _read(path: str) -> str:
    from pyrkt.base.fastjson import loads
    from pyrkt.base.reader import Reader

    with open(path, "rb") as file:
        document = Reader(loads(file.read(), path), path)
    document["rktKind"].choice(("stage1",))
    document["rktVersion"].choice(("v1",))
    name = document["name"].text("")
    word = name.rpartition("/")[2].removeprefix("stage1-")
    if name and word not in _RKT:
        raise document["name"].fail(f"{name!r} is no flavour", hint=f'"name" is one of {", ".join(NAMES)}')
    return _RKT[word] if name else ""
