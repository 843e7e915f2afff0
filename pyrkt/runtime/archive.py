"""The archive of compiled modules that ``boot`` loads from: as .pyc files are, made at the first use.

Measured, 48 modules: 6.3 ms from their .pyc files, 3.1 ms from one archive.
"""

from __future__ import annotations

import marshal
import os
import sys
from _frozen_importlib import ModuleSpec

from pyrkt.base.atomic import write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType

    from pyrkt.runtime.boot import Entry

    Row = tuple[str, tuple[str, int, int, bool], bytes]

_PACKAGES = ("base", "kernel", "spec", "plan", "cgroup", "stage1", "runtime")
_FIRST = ("pyrkt.runtime.main", "pyrkt.runtime.run")
_NOT_HERE = ("pyrkt.runtime.entry", "pyrkt.runtime.archive")
_NO_DOCSTRINGS = 2
_LENGTH = 8
"""Bytes that say how long the index is."""


def renew(path: str, place: str, together: str) -> None:
    """Write the archive at ``path`` of what the verbs load from the packages in ``place``, as far as the caller may.

    ``together`` is the name under which the code of every run lies in one piece.
    Never raises: without an archive all works, but slower.
    """
    try:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        if os.access(os.path.dirname(path), os.W_OK):
            write_file(path, _content(place, together), mode=0o644, durable=False)
        # As a module, so that its own .pyc file is made, which the launcher prefers to the source.
        __import__("pyrkt.runtime.entry")
    except (OSError, SyntaxError, ValueError, ImportError):
        return


def _content(place: str, together: str) -> bytes:
    """Return the archive: length of the index, the index, then the code of each module."""
    recorder = _Recorder(place, _sources(place))
    with_run = recorder.loaded(list(_FIRST))
    # Some are loaded in the middle of a verb, when it turns out that they are needed; so all are here, apart from the
    # documents that only the image half reads.
    hot = [name for name in recorder.sources if not name.startswith("pyrkt.spec.") and name not in _NOT_HERE]
    everything = recorder.loaded([*_FIRST, *hot])
    rows = []
    for name in everything:
        info = os.stat(place + recorder.sources[name])
        stamp = (recorder.sources[name], info.st_mtime_ns, info.st_size, name in with_run)
        rows.append((name, stamp, marshal.dumps(recorder.codes[name])))
    codes = [recorder.codes[name] for name in everything if name in with_run]
    rows.append((together, ("", 0, 0, False), marshal.dumps(codes)))
    # All numbers of the index have their final length once they are big; so the room for it is known beforehand.
    room = _LENGTH + len(marshal.dumps(_index(rows, 1 << 40)))
    index = marshal.dumps(_index(rows, room))
    return b"".join((len(index).to_bytes(_LENGTH, "little"), index, bytes(room - _LENGTH - len(index)), *_codes(rows)))


def _codes(rows: list[Row]) -> list[bytes]:
    return [code for _, _, code in rows]


def _index(rows: list[Row], start: int) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for name, stamp, code in rows:
        found[name] = (*stamp, start, len(code))
        start += len(code)
    return found


def _sources(place: str) -> dict[str, str]:
    """Return module -> path of its source below ``place`` of everything that the verbs may load."""
    found = {"pyrkt": "/pyrkt/__init__.py"}
    for package in _PACKAGES:
        found[f"pyrkt.{package}"] = f"/pyrkt/{package}/__init__.py"
        for file in sorted(os.listdir(f"{place}/pyrkt/{package}")):
            stem, dot, suffix = file.partition(".")
            if dot and suffix == "py" and stem != "__init__":
                found[f"pyrkt.{package}.{stem}"] = f"/pyrkt/{package}/{file}"
    return found


def _compiled(source: bytes, path: str) -> CodeType:
    """Compile without what costs at every start and serves nobody there: docstrings, annotations of functions.

    "from __future__ import annotations" becomes a flag of the compiler; as a statement it would load a file.
    """
    import __future__  # noqa: PLC0415 - the real one

    import ast  # noqa: PLC0415 - takes 10 ms, once after each installation

    tree = ast.parse(source, path)
    tree.body = [node for node in tree.body if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    flags = __future__.annotations.compiler_flag
    code: CodeType = compile(tree, path, "exec", flags=flags, dont_inherit=True, optimize=_NO_DOCSTRINGS)
    return code


class _Recorder:
    """Imports modules beside those in use, compiles them on the way, and notes in which order they were complete.

    A package comes before its modules, whatever it needs of them: ours hold nothing but a docstring.
    """

    def __init__(self, place: str, sources: dict[str, str]) -> None:
        self.place, self.sources = place, sources
        self.codes: dict[str, CodeType] = {}
        self._complete: list[str] = []

    def loaded(self, names: list[str]) -> list[str]:
        """Return what has been loaded, in order, once ``names`` are."""
        ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "pyrkt"}
        for name in ours:
            del sys.modules[name]
        self._complete.clear()
        sys.meta_path.insert(0, self)
        try:
            for name in names:
                __import__(name)
        finally:
            sys.meta_path.remove(self)
            for name in [name for name in sys.modules if name.partition(".")[0] == "pyrkt"]:
                del sys.modules[name]
            sys.modules.update(ours)
        return list(self._complete)

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        if name not in self.sources:
            return None
        path = self.place + self.sources[name]
        is_package = path.endswith("/__init__.py")
        spec = ModuleSpec(name, self, origin=path, is_package=is_package)  # type: ignore[arg-type]
        spec.has_location = True
        return spec

    def create_module(self, _spec: ModuleSpec) -> None:
        return

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if name not in self.codes:
            path = self.place + self.sources[name]
            with open(path, "rb") as file:
                self.codes[name] = _compiled(file.read(), path)
        exec(self.codes[name], module.__dict__)  # noqa: S102 - this is an import
        self._complete.append(name)
