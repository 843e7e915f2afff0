"""``pyrkt plan``: every step of running a bundle, an image or a pod, before anything runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyrkt.base import fastjson
from pyrkt.base.errors import NotFound, UsageError
from pyrkt.bundle.convert import read as read_bundle
from pyrkt.cgroup import host as cgroup_host
from pyrkt.cgroup import plan as cgroup_plan
from pyrkt.cli import asking, show
from pyrkt.cli import flags as tables
from pyrkt.cli.grammar import Flag, parse
from pyrkt.cli.settings import settle, strict
from pyrkt.cli.stage1 import flavour
from pyrkt.kernel import host as kernel_host
from pyrkt.kernel import seccomp
from pyrkt.metadata import token as tokens
from pyrkt.plan import compile as compiler
from pyrkt.plan import explain, steps
from pyrkt.plan.place import Place
from pyrkt.pod import service, verdicts
from pyrkt.pod.directory import Pods
from pyrkt.pod.flavour import read_flavour
from pyrkt.pod.start import pieces
from pyrkt.spec.layout import CgroupLayout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrkt.cli.grammar import Line, Value
    from pyrkt.cli.settings import Settings
    from pyrkt.plan.steps import Plan
    from pyrkt.pod.flavour import Flavour

    Plans = list[tuple[str, Plan]]
    """Plans in the order in which they are started, each with its name; of a bundle there is one, without a name."""

_OWN = (
    Flag(name="json", kind="bool", help="Print the steps as JSON."),
    Flag(
        name="hash", kind="bool", help="Print a digest of the plan, the same for the same container on the same host."
    ),
)
_RUN_ONLY = ("detach", "uuid-file-save", "name")


def plan(words: list[str], flags: Mapping[str, Value]) -> int:
    """Print the plan of a bundle, a pod, or of images as ``run`` would run them."""
    table = (*_OWN, *(flag for flag in tables.RUN if flag.name not in _RUN_ONLY or flag.binds == "both"))
    if words and words[0] in ("-h", "--help"):
        usage = "[flags] BUNDLE | UUID | IMAGE [app flags] [-- ARGUMENT...] ..."
        about = "Show every step of running a bundle, a pod or images, each with the line of config that caused it."
        sys.stdout.write(tables.describe("plan", usage, about, table, "as for run"))
        return 0
    line = parse(words, (*table, *tables.GLOBAL))
    if not line.images and not line.text("pod-manifest"):
        raise UsageError("plan of what?", hint="pyrkt plan BUNDLE, pyrkt plan UUID, pyrkt plan docker://host/name")
    found, judged = _find(line, settle({**flags, **line.flags}), secret=line.is_set("hash"))
    if line.is_set("hash"):
        show.out(f"{steps.digest(*(plan for _, plan in found))}\n")
    elif line.is_set("json"):
        rows = [{"plan": name} | row if name else row for name, plan in found for row in explain.as_json(plan)]
        show.out(fastjson.pretty(rows))
    else:
        for place, (name, plan) in enumerate(found):
            title = [*([""] if place else []), f"## {name}", ""] if name else []
            show.out("".join(f"{text}\n" for text in (*title, *explain.lines(plan))))
        if judged:
            show.out("".join(f"{text}\n" for text in ("", "## isolators", "", *judged)))
    return 0


def _find(line: Line, settings: Settings, *, secret: bool) -> tuple[Plans, tuple[str, ...]]:
    """Return the plans, and a line for each isolator."""
    text = line.images[0].text if len(line.images) == 1 else ""
    if text and Path(text, "config.json").is_file():
        return [("", of_bundle(Path(text)))], ()
    if text and (found := _of_pod(text, settings, secret=secret)) is not None:
        return found
    return _of_images(line, settings)


def of_bundle(path: Path) -> Plan:
    """Return the plan by which ``pyrkt-oci run`` would run the bundle ``path``."""
    bundle = os.path.abspath(path)
    config, _ = read_bundle(Path(bundle))
    linux, host = config.linux, kernel_host.probe()
    layout = CgroupLayout()
    if linux is not None:
        # Without a path pyrkt-oci names the cgroup after the container's id, which a plan of a bundle does not have.
        where = linux.cgroups_path or "/ID"
        rootless = not host.privileged
        mounts = cgroup_host.probe(where, host.cgroup_mounts, rootless=rootless)
        layout = cgroup_plan.layout(linux.resources, where, mounts, rootless=rootless)
    compiled = seccomp.compile_filter(linux.seccomp) if linux is not None and linux.seccomp is not None else b""
    return compiler.container(config, bundle, host, layout, Place(), seccomp=compiled)


def _of_pod(text: str, settings: Settings, *, secret: bool) -> tuple[Plans, tuple[str, ...]] | None:
    """Return the plans of a pod as they are, ``secret``, or as anybody may read them; and its isolators' verdicts."""
    try:
        pod = Pods(settings.data).find(text)
    except NotFound:
        return None
    own, members = pieces(pod.path)
    hidden = service.token(pod.path) if not secret else ""
    plans = [
        (name, steps.decode(data.replace(hidden.encode(), tokens.NOBODYS.encode()) if hidden else data, causes))
        for name, (data, causes) in ((_title(read_flavour(pod.path)), own), *members)
    ]
    return plans, verdicts.read(pod).lines()


def _of_images(line: Line, settings: Settings) -> tuple[Plans, tuple[str, ...]]:
    from pyrkt.cli.progress import progress
    from pyrkt.pod.images import Source
    from pyrkt.pod.rehearse import rehearse

    ask = asking.pod(line, settings.insecure, os.environ, flavour(line, settings.dirs), strict=strict(settings.dirs))
    pull = asking.pull(line, settings.insecure, "new")
    source = Source(settings.data, settings.dirs, pull, progress(quiet=pull.quiet))
    found, judged = rehearse(ask, Pods(settings.data), source)
    return [(_title(ask.flavour), found.plan), *((each.file, each.plan) for each in found.apps)], judged.lines()


def _title(flavour: Flavour) -> str:
    return "pod" if flavour.name == "native" else f"pod, stage1 {flavour.text().strip()}"
