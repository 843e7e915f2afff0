"""The archive of compiled modules that ``entry.py`` loads from: as .pyc files are, made at the first use.

Source: measured, 41 modules: 6.3 ms from their .pyc files, 2.6 ms from one archive without docstrings.
"""

from __future__ import annotations

import marshal
import os

from pyrkt.base.atomic import write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    Entry = tuple[str, int, int, bytes]

_PACKAGES = ("base", "kernel", "spec", "plan", "cgroup", "stage1", "runtime")
_NO_DOCSTRINGS = 2


def renew(path: str, place: str) -> None:
    """Write the archive at ``path`` of the packages below ``place``, as far as the caller may.

    What has not changed since the last time is taken over. Never raises: without an archive all works, but slower.
    """
    try:
        old = _read(path)
        new = {name: _entry(place, below, old.get(name)) for name, below in _modules(place)}
        if new != old:
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
            write_file(path, marshal.dumps(new), mode=0o644, durable=False)
    except (OSError, SyntaxError, ValueError):
        return


def _read(path: str) -> dict[str, Entry]:
    try:
        with open(path, "rb") as file:
            return dict(marshal.loads(file.read()))  # noqa: S302 - as trusted as the .pyc files beside it
    except (OSError, ValueError, EOFError, TypeError):
        return {}


def _modules(place: str) -> list[tuple[str, str]]:
    """Return (module, path of its source below ``place``) of everything that the verbs may load."""
    found = [("pyrkt", "pyrkt/__init__.py")]
    for package in _PACKAGES:
        directory = f"pyrkt/{package}"
        for file in sorted(os.listdir(f"{place}/{directory}")):
            stem, dot, suffix = file.partition(".")
            if dot and suffix == "py":
                name = f"pyrkt.{package}" if stem == "__init__" else f"pyrkt.{package}.{stem}"
                found.append((name, f"{directory}/{file}"))
    return found


def _entry(place: str, below: str, old: Entry | None) -> Entry:
    path = f"{place}/{below}"
    info = os.stat(path)
    if old is not None and old[:3] == (below, info.st_mtime_ns, info.st_size):
        return old
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True, optimize=_NO_DOCSTRINGS)
    return below, info.st_mtime_ns, info.st_size, marshal.dumps(code)
