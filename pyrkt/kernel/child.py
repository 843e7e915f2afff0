"""fork(2): what changes the process that does it is done by a child, so that it never leaves its own place."""

from __future__ import annotations

import os
from errno import EIO

from pyrkt.base import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Never


def answer(deed: Callable[[], Any], path: str) -> Any:
    """Do ``deed`` in a child process; return its JSON value. Raises: OSError of the deed, about ``path``."""
    inward, outward = os.pipe()
    try:
        if (pid := os.fork()) == 0:
            _tell(deed, outward)
        os.close(outward)
        outward = -1
        data = b""
        while more := os.read(inward, 1 << 16):
            data += more
        _, status = os.waitpid(pid, 0)
    finally:
        for opened in (inward, outward):
            if opened >= 0:
                os.close(opened)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise OSError(code, os.strerror(code) if code > 0 else "it was killed", path)
    return fastjson.loads(data or b"null", path)


def _tell(deed: Callable[[], Any], outward: int) -> Never:
    code = EIO
    try:
        os.write(outward, fastjson.dumps(deed()).encode())
        code = 0
    except OSError as error:
        code = error.errno or EIO
    finally:
        os._exit(code)
