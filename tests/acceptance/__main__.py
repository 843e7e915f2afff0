"""Run the validator's pod again and again, and look at what it does not check: `./scripts/ace`.

It is started in mount, pid and network namespaces of its own: whatever is new in them afterwards, a pod left there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance import images, pod, validator
from tests.acceptance.traces import cgroups, traces
from tests.support.pods import Pyrkt

ROOT = Path(__file__).parents[2]
FAILED = 1
SETTLE_S = 5.0
WATCHED = (Path("/run"), Path("/var/lib/cni"))
LIFE = ("embryo", "prepare", "prepared", "run", "exited-garbage", "garbage")
"""Where a pod lies in its time; beside them is what `run` remembers of a request, which is meant to stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """One form of the pod: who built the images, where they lie, and what `run` is told of it."""

    form: str
    files: tuple[Path, ...]
    words: tuple[str, ...]


def prepare(base: Path, program: Path) -> tuple[Set, ...]:
    """Make the images in both ways; SystemExit if they are not the same, or actool finds fault with ours."""
    made: dict[str, list[Path]] = {"actool": [], "ours": []}
    for name, manifest in images.manifests().items():
        source = images.layout(base / name, manifest, program)
        theirs = images.build_by_actool(source, base / f"{name}.actool.aci")
        ours = images.build(source, base / f"{name}.ours.aci")
        if images.entries(theirs) != images.entries(ours):
            raise SystemExit(f"ace: actool makes another image of {name} than we do")
        for file in (theirs, ours):
            subprocess.run(["actool", "validate", str(file)], check=True)
        made["actool"].append(theirs)
        made["ours"].append(ours)
    return tuple(
        Set(form=f"images by {builder}", files=tuple(files), words=(pod.VOLUME, *map(str, files)))
        for builder, files in made.items()
    )


def described(tool: Pyrkt, built: Set) -> Set:
    """Fetch the images of ``built``, and return the same pod as a manifest describes it."""
    ids = {}
    for name, file in zip(images.manifests(), built.files, strict=True):
        ids[name] = tool.ok("fetch", "--full", str(file)).strip()
    path = tool.base / "pod.json"
    path.write_text(json.dumps(pod.manifest(ids)))
    subprocess.run(["actool", "validate", str(path)], check=True)
    return Set(form="by a manifest", files=built.files, words=(f"--pod-manifest={path}",))


def here(data: Path) -> set[str]:
    """Return the traces of pods that there are."""
    return traces(*(data / "pods" / name for name in LIFE), *WATCHED)


def settled(before: set[str], uuid: str, data: Path) -> list[str]:
    """Return what is there and was not before; what is only on its way out has a moment for it."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        left = sorted((here(data) - before) | cgroups(uuid))
        if not left or time.monotonic() > deadline:
            return [f"left behind: {trace}" for trace in left]
        time.sleep(0.02)


def once(tool: Pyrkt, built: Set, net: str) -> list[str]:
    """Run the pod a first time in its life; return what was wrong."""
    before = here(tool.data)
    mark = tool.base / "uuid"
    mark.unlink(missing_ok=True)
    begin = time.monotonic()
    answer = tool.call("run", f"--uuid-file-save={mark}", f"--net={net}", *built.words)
    took = time.monotonic() - begin
    if not mark.exists():
        return [f"no pod was made: {answer.err.strip()}"]
    uuid = mark.read_text().strip()
    problems = pod.judge(answer)
    problems += pod.judge_files(tool, uuid)
    removed = tool.call("rm", uuid)
    problems += [f"pyrkt rm: {removed.err.strip()}"] if removed.code else []
    problems += settled(before, uuid, tool.data)
    return [*problems, f"(it took {took:.2f} s)"] if problems else []


def watched(tool: Pyrkt, built: Set, net: str, probe: Path) -> list[str]:
    """Run the pod with an app of ours in it, which looks at what the validator does not; return what was wrong."""
    before = here(tool.data)
    uuid, problems = pod.watch(tool, (*built.files, probe), net)
    tool.ok("rm", uuid)
    return problems + settled(before, uuid, tool.data)


def main() -> int:
    """Return the exit code: 0 if every pod passed."""
    parser = argparse.ArgumentParser(prog="scripts/ace", description=__doc__.split("\n")[0])
    parser.add_argument("--net", default="default", help="the pods' network (%(default)s)")
    parser.add_argument("--bin", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("times", type=int, nargs="?", default=1, help="how often (%(default)s)")
    args = parser.parse_args()
    try:
        program = validator.build(ROOT / "build/ace")
    except validator.Broken as error:
        print(f"ace: {error}", file=sys.stderr)
        return FAILED
    for place in (args.place, *(path for path in WATCHED if path.is_dir())):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "pyrkt-ace", str(place)], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    tool = Pyrkt(args.place, command=(str(args.bin / "pyrkt"),))
    sets = prepare(args.place, program)
    sets = (*sets, *(described(tool, built) for built in sets[1:]))
    passed, begin = 0, time.monotonic()
    for number in range(args.times):
        built = sets[number % len(sets)]
        problems = once(tool, built, args.net)
        passed += not problems
        for line in problems:
            print(f"{number + 1} ({built.form}): {line}")
    probe = images.probe(args.place, Path("/bin/busybox"), pod.SCRIPT)
    beyond = watched(tool, sets[0], args.net, probe)
    for line in beyond:
        print(f"beyond the validator: {line}")
    print(f"{time.monotonic() - begin:.1f} s; beyond the validator: {'FAILED' if beyond else 'passed'}")
    print(f"ace: {passed} of {args.times} passed")
    return FAILED if beyond or passed < args.times else 0


if __name__ == "__main__":
    sys.exit(main())
