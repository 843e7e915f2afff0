"""The first line of Python of ``pyrkt-oci``: its C launcher executes this file as ``python -I -S entry.py ARGUMENTS``.

Isolated and without site, the interpreter knows the standard library alone; the package's own place is added here.
"""

import _signal  # type: ignore[import-not-found]  # the C half of signal; its enums cost 3 ms
import os
import sys


def start() -> int:
    """Find the package, run the command line, return its exit code."""
    # The interpreter ignores these two, and what is ignored stays so in the container; and a Control-C must end us
    # as it ends any program, not as an exception in the middle of a statement.
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    sys.path.insert(0, __file__.rpartition("/pyrkt/")[0])
    from pyrkt.runtime.main import main  # noqa: PLC0415 - the path above must be there first

    return main(sys.argv[1:])


if __name__ == "__main__":
    # Nothing of ours is buffered or waits for a destructor: tearing the interpreter down would cost 1 ms.
    os._exit(start())
