"""The validator's pod: how it is run, what it must print, and what must hold that the validator does not look at."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.acceptance.images import MAIN, PROBE, SIDEKICK
from tests.support.oci import eventually
from tests.support.pods import end

if TYPE_CHECKING:
    from tests.support.oci import Answer
    from tests.support.pods import Pyrkt

LINES = ("prestart OK", "main OK", "sidekick OK", "poststop OK")
VOLUME = "--volume=database,kind=empty"
"""Both apps have it at /db."""
READY, GO = "/db/ready", "/db/go"
_URL = re.compile(r"http://(?P<host>[\d.]+|\[[\da-f:]+\]):(?P<port>\d+)/(?P<token>[^/]+)")
TOKEN_BITS = 128

# It asks the service by busybox' wget, whose -S shows the answer's first line, and says what it saw when told to go on.
SCRIPT = r"""
w() { busybox wget -q -S -O - "$@" 2>&1 | busybox sed -n 's,^ *HTTP/1\.[01] \([0-9]*\).*,\1,p'; }
b=$AC_METADATA_URL/acMetadata/v1
busybox touch /db/ready
while [ ! -e /db/go ]; do busybox sleep 0.02; done
echo "probe url $AC_METADATA_URL"
echo "probe container $container"
echo "probe uuid $(busybox wget -q -O - $b/pod/uuid)"
echo "probe good $(w $b/pod/uuid)"
echo "probe no-token $(w ${AC_METADATA_URL%/*}/acMetadata/v1/pod/uuid)"
echo "probe other-token $(w ${AC_METADATA_URL%/*}/0123456789abcdef0123456789abcdef/acMetadata/v1/pod/uuid)"
echo "probe no-app $(w $b/apps/nobody/image/id)"
s=$(busybox wget -q -O - --post-data=content=it $b/pod/hmac/sign)
u=$(busybox wget -q -O - $b/pod/uuid)
# base64 has signs that a form would read otherwise
s=$(echo "$s" | busybox sed 's,+,%2B,g;s,/,%2F,g;s,=,%3D,g')
v() { w --post-data="content=$1&uuid=$2&signature=$3" $b/pod/hmac/verify; }
echo "probe signed $(v it $u $s)"
echo "probe other-content $(v that $u $s)"
echo "probe other-pod $(v it 00000000-0000-4000-8000-000000000000 $s)"
echo "probe other-signature $(v it $u AAAA)"
"""
ANSWERS = {
    "good": {"200"},
    "no-token": {"401", "403", "404"},
    "other-token": {"401", "403", "404"},
    "no-app": {"404"},
    "signed": {"200"},
    "other-content": {"403"},
    "other-pod": {"403"},
    "other-signature": {"403"},
}
"""What our app asks for -> the codes that are right. Source: appc 0.8.11, "Metadata Service"."""


def manifest(ids: dict[str, str]) -> dict[str, Any]:
    """Return a pod manifest of both apps, their image ids given, that says more than flags do: annotations.

    Of those of the main image one is another here, and one is new: what the service answers must show both, in order.
    """
    annotations = [{"name": "authors", "value": "somebody else"}, {"name": "example.com/new", "value": "here"}]
    main = {"name": MAIN, "image": {"id": ids[MAIN]}, "mounts": [{"volume": "database", "path": "/db"}]}
    sidekick = {"name": SIDEKICK, "image": {"id": ids[SIDEKICK]}, "mounts": [{"volume": "database", "path": "/db"}]}
    return {
        "acKind": "PodManifest",
        "acVersion": "0.8.11",
        "apps": [main | {"annotations": annotations}, sidekick],
        "volumes": [{"name": "database", "kind": "empty"}],
        "annotations": [{"name": "example.com/pod", "value": "of the pod"}],
    }


def judge(answer: Answer) -> list[str]:
    """Return what the validator complained of, or did not say."""
    said = answer.out.splitlines()
    problems = [f"stdout lacks {line!r}" for line in LINES if said.count(line) != 1]
    problems += [f"stdout: {line}" for line in said if line not in LINES]
    problems += [f"stderr: {line}" for line in answer.err.splitlines()] if problems or answer.code else []
    return [*problems, f"exit {answer.code}"] if answer.code else problems


def judge_files(tool: Pyrkt, uuid: str) -> list[str]:
    """Return what is wrong with the pod's own record of itself: codes, names, the variable that appc asks for."""
    problems = []
    place = tool.directory(uuid)
    codes = {path.name: path.read_text().strip() for path in (place / "status").iterdir()}
    if codes != {MAIN: "0", SIDEKICK: "0"}:
        problems.append(f"exit codes of the apps: {codes}")
    for name in codes:
        found = environment(place / "apps" / name)
        problems += [f"{name}: container={found.get('container')}"] if found.get("container") != "pyrkt" else []
        problems += [f"{name}: AC_APP_NAME={found.get('AC_APP_NAME')}"] if found.get("AC_APP_NAME") != name else []
    return problems


def environment(app: Path) -> dict[str, str]:
    """Return the environment in the configuration of an app."""
    config = json.loads((app / "config.json").read_text())
    return dict(text.split("=", 1) for text in config["process"]["env"])


def watch(tool: Pyrkt, files: tuple[Path, ...], net: str) -> tuple[str, list[str]]:
    """Run the pod with our app, look at the host while it waits; return its UUID and what was wrong."""
    mark = tool.base / "uuid"
    mark.unlink(missing_ok=True)
    process = tool.popen("run", f"--uuid-file-save={mark}", f"--net={net}", VOLUME, *map(str, files))
    problems = []
    try:
        if not eventually(lambda: mark.exists() and _volume(tool, mark, READY).exists(), 20):
            problems.append("our app does not come up")
            return mark.read_text().strip(), problems
        uuid = mark.read_text().strip()
        url = environment(tool.directory(uuid) / "apps" / PROBE).get("AC_METADATA_URL", "")
        token = match["token"] if (match := _URL.fullmatch(url)) else ""
        problems += judge_token(url, uuid)
        problems += exposed(tool, uuid, token) if token else []
        _volume(tool, mark, GO).touch()
        assert process.stdout is not None
        said = process.stdout.read().decode()
        return uuid, problems + judge_probe(said, url, uuid)
    finally:
        if process.poll() is None and mark.exists():
            _volume(tool, mark, GO).touch()
        code = end(process)
        problems += [f"the pod with our app ended with {code}"] if code else []


def _volume(tool: Pyrkt, mark: Path, path: str) -> Path:
    return tool.directory(mark.read_text().strip()) / "volumes/database" / Path(path).name


def judge_token(url: str, uuid: str) -> list[str]:
    """Return what is wrong with the address of the service. Source: appc 0.8.11, "Metadata Service"."""
    match = _URL.fullmatch(url)
    if match is None:
        return [f"AC_METADATA_URL is {url!r}"]
    token = match["token"]
    problems = []
    if len(token) * 4 < TOKEN_BITS:
        problems.append(f"the token has {len(token)} signs: less than {TOKEN_BITS} bits")
    if uuid in token or token.replace("-", "") in uuid.replace("-", ""):
        problems.append("the token is the pod's UUID, which is no secret")
    return problems


def exposed(tool: Pyrkt, uuid: str, token: str) -> list[str]:
    """Return where the token can be read by others than root and the pod's own apps."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            found += [f"the command line of process {entry.name}"] if token.encode() in line else []
    for words in (["list", "--full", "--format=json"], ["status", "--format=json", uuid], ["cat-manifest", uuid]):
        found += [f"pyrkt {words[0]}"] if token in tool.ok(*words) else []
    # A directory of 0700 above all of it keeps others out; each file is asked for itself all the same.
    for path in tool.data.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o044:
            found += [str(path)] if _open_to_others(path, tool.data) and token.encode() in path.read_bytes() else []
    return [f"the metadata service's token is in {where}" for where in found]


def _open_to_others(path: Path, top: Path) -> bool:
    above = [parent for parent in path.parents if parent == top or top in parent.parents]
    return all(parent.stat().st_mode & 0o011 for parent in above)


def judge_probe(said: str, url: str, uuid: str) -> list[str]:
    """Return what is wrong with what our app saw."""
    rows = [line.split(" ", 2) for line in said.splitlines() if line.startswith("probe ")]
    seen: dict[str, str] = {row[1]: row[2].strip() if len(row) > 2 else "" for row in rows}
    wanted: dict[str, Any] = {"url": {url}, "container": {"pyrkt"}, "uuid": {uuid}} | ANSWERS
    lacking = [f"stdout lacks {line!r}" for line in LINES if line not in said.splitlines()]
    return lacking + [
        f"{name}: {seen.get(name)!r}, expected {' or '.join(sorted(right))}"
        for name, right in wanted.items()
        if seen.get(name) not in right
    ]
