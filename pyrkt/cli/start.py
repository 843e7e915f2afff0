"""``pyrkt run-prepared``, and the last step of ``pyrkt run``: becoming the pod's supervisor, or leaving one behind."""

from __future__ import annotations

import os
import sys

from pyrkt.base.errors import UsageError
from pyrkt.cli import flags as tables
from pyrkt.cli.grammar import parse
from pyrkt.cli.settings import settle
from pyrkt.pod import start as pod_start
from pyrkt.pod.directory import Pods, save_uuid
from pyrkt.tpm.where import find as measurements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrkt.cli.grammar import Line, Value
    from pyrkt.cli.settings import Settings
    from pyrkt.pod.directory import Held


def run_prepared(words: list[str], flags: Mapping[str, Value]) -> int:
    """Run a pod that was prepared; the exit code is that of the first app that failed."""
    if words and words[0] in ("-h", "--help"):
        text = tables.describe("run-prepared", "[flags] UUID", "Run a pod that was prepared.", tables.RUN_PREPARED)
        sys.stdout.write(text)
        return 0
    line = parse(words, (*tables.RUN_PREPARED, *tables.GLOBAL), app_args=False)
    if len(line.images) != 1:
        raise UsageError("which pod?", hint="pyrkt run-prepared UUID; pyrkt list shows the prepared ones")
    settings = settle({**flags, **line.flags})
    background, interactive = line.is_set("detach"), line.is_set("interactive")
    if interactive:
        check_terminal()
    pods = Pods(settings.data)
    pod = pod_start.take(pods, line.images[0].text)
    if line.text("uuid-file-save"):
        save_uuid(line.text("uuid-file-save"), pod)
    if background or _is_changed(line) or not pod_start.fits(pod):
        from pyrkt.cli import asking
        from pyrkt.pod.remake import Changes, remake

        changes = Changes(
            net=asking.network(line.list("net")) if line.list("net") else "",
            names=asking.names(line),
            hostname=asking.hostname(line.text("hostname")),
            ipc=asking.ipc(line.text("ipc")) if line.text("ipc") else "",
            interactive=interactive,
        )
        remake(pods, pod, changes, detach=background)
    return start(pods, pod, settings, background=background)


def _is_changed(line: Line) -> bool:
    return any(flag.name in line.flags for flag in tables.NETWORK)


def start(pods: Pods, pod: Held, settings: Settings, *, background: bool) -> int:
    """Run a pod that this process has locked; in the foreground this never returns."""
    where = measurements(settings.dirs)
    if not background:
        sys.stdout.flush()
        pod_start.become(pods, pod, where, settings.dirs)
    pod_start.detach(pods, pod, where, settings.dirs)
    sys.stdout.write(f"{pod.uuid}\n")
    return 0


def check_terminal() -> None:
    """Refuse --interactive without a terminal to give. Raises: UsageError."""
    if not (os.isatty(0) and os.isatty(1)):
        raise UsageError("--interactive needs a terminal on standard input and output", hint="leave it out in scripts")
