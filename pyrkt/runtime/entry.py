"""The first line of Python of ``pyrkt-oci``: its C launcher executes this file as ``python -I -S entry.py ARGUMENTS``.

Isolated and without site, the interpreter knows the standard library alone; the package's own place is added here.
Finding and opening forty small files takes as long as making the container, so their code lies in one archive beside
them, written by ``archive.py``; each module is taken from it as long as its source is the one that was compiled.
"""

import _signal  # type: ignore[import-not-found]  # the C half of signal; its enums cost 3 ms
import posix
import sys
from _frozen_importlib import ModuleSpec  # what importlib itself is made of
from marshal import loads

PLACE = __file__.rpartition("/pyrkt/")[0]
ARCHIVE = f"{PLACE}/pyrkt/__pycache__/hot.{sys.implementation.cache_tag}.bin"


class Archive:
    """Finds and loads the modules in the archive: name -> (path below the package's place, mtime in ns, size, code)."""

    def __init__(self) -> None:
        """Read the archive; one that is missing or damaged is an empty one."""
        self.missed = False
        try:
            with open(ARCHIVE, "rb") as file:
                self.index = dict(loads(file.read()))  # noqa: S302 - as trusted as the .pyc files beside it
        except (OSError, ValueError, EOFError, TypeError):
            self.index = {}

    def find_spec(self, name, _path=None, _target=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Return how to load ``name``; None leaves it to the ordinary import."""
        entry = self.index.get(name)
        if entry is None:
            self.missed = self.missed or name.startswith("pyrkt")
            return None
        path = f"{PLACE}/{entry[0]}"
        info = posix.stat(path)
        if (info.st_mtime_ns, info.st_size) != entry[1:3]:
            self.missed = True
            return None
        is_package = path.endswith("/__init__.py")
        spec = ModuleSpec(name, self, origin=path, is_package=is_package)  # type: ignore[arg-type]
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(path.rpartition("/")[0])
        return spec

    def create_module(self, _spec):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Let the import system make an ordinary module."""
        return

    def exec_module(self, module):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Run the module's code."""
        exec(loads(self.index[module.__name__][3]), module.__dict__)  # noqa: S102, S302 - this is an import


def start() -> int:
    """Find the package, run the command line, return its exit code."""
    # The interpreter ignores these two, and what is ignored stays so in the container; and a Control-C must end us
    # as it ends any program, not as an exception in the middle of a statement.
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    sys.path.append(PLACE)
    archive = Archive()
    sys.meta_path.insert(0, archive)
    from pyrkt.runtime.main import main  # noqa: PLC0415 - the path above must be there first

    if not archive.index:
        _renew()
    code = main(sys.argv[1:])
    if archive.missed:
        _renew()
    return code


def _renew() -> None:
    if not sys.dont_write_bytecode:
        from pyrkt.runtime.archive import renew  # noqa: PLC0415 - once after each installation

        renew(ARCHIVE, PLACE)


if __name__ == "__main__":
    # Nothing of ours is buffered or waits for a destructor: tearing the interpreter down would cost 1 ms.
    posix._exit(start())
