"""Settings: what the global flags and the configuration say, for every command."""

from __future__ import annotations

import os

from pyrkt.base import log
from pyrkt.base.dirs import ConfigDirs, default_data, default_dirs
from pyrkt.base.errors import UsageError
from pyrkt.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pyrkt.base.reader import Reader
    from pyrkt.cli.grammar import Value

FETCH_CHECKS = frozenset({"image", "tls", "http", "pubkey"})
RUN_CHECKS = frozenset({"capabilities", "paths", "seccomp"})
_WORDS = {word: frozenset({word}) for word in FETCH_CHECKS | RUN_CHECKS} | {
    "none": frozenset[str](),
    "ondisk": frozenset[str](),  # rkt ignores it too
    "all-fetch": FETCH_CHECKS,
    "all-run": RUN_CHECKS,
    "all": FETCH_CHECKS | RUN_CHECKS,
}


class Settings(Record):
    """``data``: where images and pods lie. ``dirs``: the configuration. ``insecure``: the checks that are off."""

    data: str
    dirs: ConfigDirs
    insecure: frozenset[str] = frozenset()
    debug: bool = False


def insecure_options(lists: Iterable[str]) -> frozenset[str]:
    """Return the checks that comma lists switch off. Raises UsageError for an unknown word."""
    chosen: frozenset[str] = frozenset()
    for word in (word.strip() for text in lists for word in text.split(",")):
        if word not in _WORDS:
            raise UsageError(
                f"--insecure-options: unknown option {word!r}", hint=f"the options are {', '.join(sorted(_WORDS))}"
            )
        chosen |= _WORDS[word]
    return chosen


def settle(flags: Mapping[str, Value]) -> Settings:
    """Turn the global ``flags`` into settings; configuration files are read only where there are any."""
    base = default_dirs()
    dirs = ConfigDirs(
        system=_text(flags, "system-config") or base.system,
        local=_text(flags, "local-config") or base.local,
        user=_text(flags, "user-config") or base.user,
    )
    lists = flags.get("insecure-options")
    debug = flags.get("debug") is True
    log.set_debug(on=debug)
    data = _text(flags, "dir") or _configured_data(dirs) or default_data()
    return Settings(
        data=os.path.abspath(data),
        dirs=dirs,
        insecure=insecure_options(lists if isinstance(lists, list) else ()),
        debug=debug,
    )


def _text(flags: Mapping[str, Value], name: str) -> str:
    value = flags.get(name, "")
    return value if isinstance(value, str) else ""


def _configured_data(dirs: ConfigDirs) -> str:
    """Return ``data`` of the heaviest paths.d/*.json; "" where no file says it."""
    found = ""
    for document in _documents(dirs, "paths"):
        data = document["data"].text("")
        if data and not data.startswith("/"):
            raise document["data"].fail("must be an absolute path")
        found = data or found
    return found


def strict(dirs: ConfigDirs) -> bool:
    """Return ``strict`` of the heaviest run.d/*.json that says it: whether every isolator has to be enforced."""
    found = False
    for document in _documents(dirs, "run"):
        found = document["strict"].boolean(default=found)
    return found


def _documents(dirs: ConfigDirs, kind: str) -> Iterator[Reader]:
    """Yield the files KIND.d/*.json of the configuration, the lightest first."""
    for directory in dirs.lightest_first():
        try:
            names = sorted(os.listdir(f"{directory}/{kind}.d"))
        except OSError:
            continue
        for name in names:
            if name.endswith(".json"):
                yield _document(f"{directory}/{kind}.d/{name}", kind)


def _document(path: str, kind: str) -> Reader:
    from pyrkt.base.fastjson import loads
    from pyrkt.base.reader import Reader

    with open(path, "rb") as file:
        document = Reader(loads(file.read(), path), path)
    document["rktKind"].choice((kind,))
    document["rktVersion"].choice(("v1",))
    return document
