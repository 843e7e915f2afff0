"""The first line of Python of ``pyrkt-oci``: its C launcher executes this file as ``python -I -S entry.py ARGUMENTS``.

Python compiles this file at every start, so it only opens the archive of compiled modules (``archive.py``) and starts
``boot`` from it, or, where there is none yet, from its source.
"""

import posix
import sys
from marshal import loads

PLACE = __file__.rpartition("/pyrkt/")[0]
ARCHIVE = f"{PLACE}/pyrkt/__pycache__/hot.{sys.implementation.cache_tag}.bin"


def start() -> int:
    """Run the command line; return its exit code."""
    sys.path.append(PLACE)
    descriptor = -1
    try:
        descriptor = posix.open(ARCHIVE, posix.O_RDONLY | posix.O_CLOEXEC)
        head = posix.pread(descriptor, 1 << 16, 0)
        index = loads(head[8 : 8 + int.from_bytes(head[:8], "little")])  # noqa: S302 - trusted as .pyc files are
        below, *stamp, _, at, size = index["pyrkt.runtime.boot"]
        found = posix.stat(PLACE + below)
        if stamp != [found.st_mtime_ns, found.st_size]:
            raise ValueError
        names: dict[str, object] = {"__name__": "pyrkt.runtime.boot"}
        exec(loads(posix.pread(descriptor, size, at)), names)  # noqa: S102, S302 - this is an import
        run = names["run"]
    except (OSError, ValueError, EOFError, TypeError, KeyError):
        from pyrkt.runtime.boot import run  # noqa: PLC0415 - the path above must be there first

        index = {}
    return int(run(index, descriptor, ARCHIVE, PLACE))  # type: ignore[operator]


if __name__ == "__main__":
    # Nothing of ours is buffered or waits for a destructor: tearing the interpreter down would cost 1 ms.
    posix._exit(start())
