"""Where the measurement log is, and whether a launch depends on it: what measurements.d says, else the host's own."""

from __future__ import annotations

import os

from pyrkt.base.dirs import is_root
from pyrkt.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.base.dirs import ConfigDirs

HOST = "/run/log/pyrkt/measurements.log"
"""Root's, whatever its data directory: there is one register, and one log that explains it."""
DIRECTORY, KIND, VERSION = "measurements.d", "measurements", "v1"


class Log(Record):
    """The log's absolute ``path``; unless it is ``required``, a launch that cannot be measured goes on."""

    path: str
    required: bool = True


def find(dirs: ConfigDirs) -> Log:
    """Return the log by the heaviest files of measurements.d, each member on its own. Raises: InvalidSpec."""
    found: dict[str, object] = {}
    for directory in dirs.lightest_first():
        try:
            names = sorted(os.listdir(f"{directory}/{DIRECTORY}"))
        except OSError:
            continue
        for name in names:
            if name.endswith(".json"):
                found |= _read(f"{directory}/{DIRECTORY}/{name}")
    return Log(path=str(found.get("log") or default()), required=found.get("required") is not False)


def _read(path: str) -> dict[str, object]:
    from pyrkt.base.fastjson import loads  # noqa: PLC0415 - where nothing is configured, nothing is read
    from pyrkt.base.reader import Reader  # noqa: PLC0415

    with open(path, "rb") as file:
        document = Reader(loads(file.read(), path), path)
    document["rktKind"].choice((KIND,))
    document["rktVersion"].choice((VERSION,))
    log = document["log"].text("")
    if log and not log.startswith("/"):
        raise document["log"].fail("must be an absolute path")
    found: dict[str, object] = {"log": log} if log else {}
    if document["required"].present:
        found["required"] = document["required"].boolean()
    return found


def default() -> str:
    """Return the host's log for root; for others one of their own, in a directory that does not outlive the boot."""
    if is_root():
        return HOST
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    if runtime.startswith("/") and _is_ours(runtime):
        return f"{runtime}/pyrkt/measurements.log"
    # It is there after a reboot, too; then the next launch puts it aside.
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return f"{state}/pyrkt/measurements.log"


def _is_ours(directory: str) -> bool:
    # su(1) leaves the variable as it was: another's directory
    try:
        return os.stat(directory).st_uid == os.geteuid()
    except OSError:
        return False
