"""``pyrkt run`` and ``pyrkt prepare``: from words to a pod. What a stored image needs is loaded, and nothing else."""

from __future__ import annotations

import os
import sys

from pyrkt.cli import asking
from pyrkt.cli import flags as tables
from pyrkt.cli.grammar import parse
from pyrkt.cli.settings import settle, strict
from pyrkt.cli.stage1 import flavour
from pyrkt.pod import directory
from pyrkt.pod.directory import Pods
from pyrkt.pod.make import Maker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrkt.cli.grammar import Line, Value
    from pyrkt.cli.settings import Settings
    from pyrkt.pod.directory import Held
    from pyrkt.pod.images import Source

_USAGE = "[flags] IMAGE [app flags] [-- ARGUMENT... [---]] [IMAGE ...]"
_POLICY = "never, new (only what is not stored; the default), update (ask for news)"


def run(words: list[str], flags: Mapping[str, Value]) -> int:
    """Run images in a pod; the exit code is that of the first app that failed."""
    if words and words[0] in ("-h", "--help"):
        sys.stdout.write(tables.describe("run", _USAGE, "Run images in a pod.", tables.RUN, _POLICY))
        return 0
    line = parse(words, (*tables.RUN, *tables.GLOBAL))
    asking.check_ports(line)
    settings = settle({**flags, **line.flags})
    background = line.is_set("detach")
    if line.is_set("interactive"):
        from pyrkt.cli.start import check_terminal

        check_terminal()
    pods = Pods(settings.data)
    pod = _prepared(line, settings, pods, line.text("uuid-file-save"), detach=background)

    from pyrkt.cli.start import start

    return start(pods, pod, settings, background=background)


def prepare(words: list[str], flags: Mapping[str, Value]) -> int:
    """Make a pod ready to run, and print its UUID."""
    if words and words[0] in ("-h", "--help"):
        sys.stdout.write(tables.describe("prepare", _USAGE, "Make a pod ready to run.", tables.PREPARE, _POLICY))
        return 0
    line = parse(words, (*tables.PREPARE, *tables.GLOBAL))
    if "net" in line.flags:  # otherwise run-prepared will say it
        asking.check_ports(line)
    settings = settle({**flags, **line.flags})
    pods = Pods(settings.data)
    pod = _prepared(line, settings, pods, "", detach=False)
    # It may be run after a reboot: now everything of it has to be on the disk.
    from pyrkt.pod.durable import sync_tree

    sync_tree(pod.path)
    ready = pods.move(pod, directory.PREPARED)
    os.close(ready.descriptor)
    sys.stdout.write(f"{pod.uuid}\n")
    return 0


def _prepared(line: Line, settings: Settings, pods: Pods, uuid_file: str, *, detach: bool) -> Held:
    ask = asking.pod(line, settings.insecure, os.environ, flavour(line, settings.dirs), strict=strict(settings.dirs))
    pull = asking.pull(line, settings.insecure, "new")

    def source() -> Source:
        from pyrkt.cli.progress import progress
        from pyrkt.pod.images import Source as Opened

        return Opened(settings.data, settings.dirs, pull, progress(quiet=pull.quiet))

    return Maker(pods, settings.data, settings.dirs, pull, source).make(ask, uuid_file=uuid_file, detach=detach)
