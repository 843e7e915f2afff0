"""From the interpreter's first line to the verb: signals as a program expects them, and imports from the archive.

Finding and opening fifty small files takes as long as making the container; so their code lies in one archive, from
which each is taken as long as its source is the one that was compiled. What every ``run`` needs is made at once, in the
order in which one module needs the other, without the import system's 30 us a module.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal; its enums cost 3 ms
import _stat
import _struct
import gc
import posix
import sys
from _frozen_importlib import ModuleSpec
from marshal import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType, ModuleType
    from typing import Any

    # path below the package's place, mtime in ns, size, whether every run needs it, offset and length of the code
    Entry = tuple[str, int, int, bool, int, int]

Module: type[ModuleType] = type(sys)
_MAKERS = frozenset(("run", "create", "exec"))
_IN_IMAGE = tuple(
    f"pyrkt.runtime.{name}"
    for name in ("main", "run", "create", "exec", "start", "state", "kill", "delete", "list", "rehearsal")
) + tuple(f"pyrkt.{name}" for name in ("runtime.filters", "cgroup.freeze", "cgroup.kill", "cgroup.remove"))
TOGETHER = "+"
"""The entry of the archive that holds the code of what every run needs in one piece: half the time of one by one."""


class Archive:
    """Finds and loads the modules in the archive; ``missed`` tells whether one of them has changed since."""

    def __init__(self, index: dict[str, Entry], descriptor: int, place: str) -> None:
        """Take the archive's index, its open file, and the directory in which the package lies."""
        self.index, self.descriptor, self.place, self.missed = index, descriptor, place, not index

    def is_fresh(self, entry: Entry) -> bool:
        """Tell whether the module's source is still the one that was compiled."""
        try:
            found = posix.stat(self.place + entry[0])
        except OSError:
            return False
        return found.st_mtime_ns == entry[1] and found.st_size == entry[2]

    def _code(self, name: str) -> Any:
        _, _, _, _, at, size = self.index[name]
        return loads(posix.pread(self.descriptor, size, at))  # noqa: S302 - as trusted as the .pyc files beside it

    def preload(self) -> None:
        """Make the modules of the hot path, unless one of them has changed."""
        wanted = [(name, entry) for name, entry in self.index.items() if entry[3]]
        if not all(self.is_fresh(entry) for _, entry in wanted):
            self.missed = True
            return
        codes: list[CodeType] = self._code(TOGETHER) if wanted else []
        for (name, entry), code in zip(wanted, codes, strict=True):
            module = Module(name)
            path = self.place + entry[0]
            parent, _, child = name.rpartition(".")
            module.__file__, module.__package__ = path, parent
            if path.endswith("/__init__.py"):
                module.__package__, module.__path__ = name, [path[: -len("/__init__.py")]]
            sys.modules[name] = module
            if parent:
                setattr(sys.modules[parent], child, module)
            exec(code, module.__dict__)  # noqa: S102 - this is an import

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """Return how to load ``name``; None leaves it to the ordinary import."""
        entry = self.index.get(name)
        if entry is None:
            return None
        if not self.is_fresh(entry):
            self.missed = True
            return None
        path = self.place + entry[0]
        is_package = path.endswith("/__init__.py")
        spec = ModuleSpec(name, self, origin=path, is_package=is_package)  # type: ignore[arg-type]
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(path.rpartition("/")[0])
        return spec

    def create_module(self, _spec: ModuleSpec) -> None:
        """Let the import system make an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code."""
        exec(self._code(module.__name__), module.__dict__)  # noqa: S102 - this is an import


class LeanOs(type(sys)):  # type: ignore[misc]
    """Stands for ``os`` with what its C half has, until somebody asks for more; then it is the real one.

    Of what ``os`` brings along, our verbs need the system calls, ``path`` and ``environ``; the rest, abstract classes
    for the most part, takes 0.6 ms to import.
    """

    def __getattr__(self, name: str) -> Any:
        """Become the real module."""
        if name.startswith("__"):  # "from os import x" asks whether it is a package
            raise AttributeError(name)
        del sys.modules["os"]
        real = __import__("os")
        self.__dict__.update(real.__dict__)
        return getattr(real, name)


def lean_os() -> None:
    """Put a LeanOs in the place of ``os``, if nobody has imported that yet."""
    if "os" in sys.modules:
        return
    lean = LeanOs("os")
    lean.__dict__.update({name: value for name, value in posix.__dict__.items() if not name.startswith("__")})
    sys.modules["os"] = lean
    path = __import__("posixpath")
    lean.path, lean.sep, lean.name = path, "/", "posix"
    lean.SEEK_SET, lean.SEEK_CUR, lean.SEEK_END = 0, 1, 2
    lean.environ = _decoded(posix.environ)
    sys.modules["os.path"] = path


def _decoded(variables: Mapping[bytes, bytes]) -> dict[str, str]:
    decode = sys.getfilesystemencoding()
    return {
        name.decode(decode, "surrogateescape"): value.decode(decode, "surrogateescape")
        for name, value in variables.items()
    }


def signals() -> None:
    """Take back what the interpreter has done to signals.

    It ignores two, and what is ignored stays so in the container; and a Control-C must end us as it ends any program,
    not as an exception in the middle of a statement.
    """
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def prepare(place: str) -> list[tuple[str, int, int]]:
    """Load what the verbs need, for an image of this interpreter's memory (stage1/interpreter).

    Returns: path below ``place``, mtime in ns and size of each source: the image is good as long as they are these.
    Raises: RuntimeError if something was loaded that an image cannot hold.
    """
    gc.disable()
    sys.modules.setdefault("struct", _struct)
    sys.modules.setdefault("stat", _stat)
    lean_os()
    sources = {"pyrkt.runtime.boot": _stamp(place, "/pyrkt/runtime/boot.py")}
    recorder = _Stamps(place, sources)
    sys.meta_path.insert(0, recorder)
    for name in _IN_IMAGE:
        __import__(name)
    sys.modules["pyrkt.runtime.rehearsal"].rehearse()
    sys.meta_path.remove(recorder)
    sources["pyrkt"] = _stamp(place, "/pyrkt/__init__.py")
    sources["pyrkt.runtime"] = _stamp(place, "/pyrkt/runtime/__init__.py")
    foreign = [name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).endswith(".so")]
    if foreign or not isinstance(sys.modules["os"], LeanOs):
        raise RuntimeError(f"not for an image: {foreign or 'os'}")
    return list(sources.values())


def _stamp(place: str, path: str) -> tuple[str, int, int]:
    found = posix.stat(place + path)
    return path[1:], found.st_mtime_ns, found.st_size


class _Stamps:
    """Notes the source of each of our modules before it is loaded: one that is edited meanwhile is not fresh."""

    def __init__(self, place: str, sources: dict[str, tuple[str, int, int]]) -> None:
        self.place, self.sources = place, sources

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if name.startswith("pyrkt."):
            path = "/" + name.replace(".", "/")
            package = f"{path}/__init__.py"
            try:
                self.sources[name] = _stamp(self.place, package)
            except OSError:
                self.sources[name] = _stamp(self.place, f"{path}.py")


def resume(words: list[str], variables: dict[bytes, bytes]) -> int:
    """Run the command line in a process that began as an image; return the exit code."""
    signals()
    posix.environ.clear()
    posix.environ.update(variables)
    sys.modules["os"].__dict__["environ"] = _decoded(variables)
    sys.argv[1:] = words
    return int(sys.modules["pyrkt.runtime.main"].main(words))


def run(index: dict[str, Entry], descriptor: int, path: str, place: str) -> int:
    """Run the command line; return the exit code.

    Takes: the archive's ``index`` (empty if there is none), its open file and its ``path``, and the package's place.
    """
    gc.disable()  # a few milliseconds make no garbage worth a search
    signals()
    # Two small files of the standard library less: all that our modules use of them is in their C halves.
    sys.modules.setdefault("struct", _struct)
    sys.modules.setdefault("stat", _stat)
    lean_os()
    archive = Archive(index, descriptor, place)
    sys.meta_path.insert(0, archive)
    words = sys.argv[1:]
    if not _MAKERS.isdisjoint(words):
        archive.preload()
    if archive.missed:  # now: a verb that becomes stage1 never comes back
        _renew(path, place)
    from pyrkt.runtime.main import main  # noqa: PLC0415 - the archive must be there first

    before = archive.missed
    code = main(words)
    if archive.missed and not before:
        _renew(path, place)
    return code


def _renew(path: str, place: str) -> None:
    if not sys.dont_write_bytecode:
        from pyrkt.runtime.archive import renew  # noqa: PLC0415 - once after each installation

        before = _signal.signal(_signal.SIGXFSZ, _signal.SIG_IGN)  # a file too large for the caller is only a pity
        renew(path, place, TOGETHER)
        _signal.signal(_signal.SIGXFSZ, before)
