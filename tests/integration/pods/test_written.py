"""What pyrkt writes in appc's forms, judged by actool and by ourselves: manifests of pods of many shapes, images."""

# ruff: noqa: E501 - one shape a line

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pods import Pyrkt, make_aci, make_layout, sha512

pytestmark = [pytest.mark.root, pytest.mark.peers]

OCI, BOX, RICHLY = "oci:{}/layout:bb", "{}/box.aci", "{}/rich.aci"
RICH = {
    "exec": ["/bin/sh", "-c", "exit 0"],
    "user": "user",
    "group": "1000",
    "supplementaryGIDs": [7, 8],
    "workingDirectory": "/tmp",
    "environment": [{"name": "A", "value": "b=c"}],
    "mountPoints": [{"name": "data", "path": "/data"}, {"name": "conf", "path": "/etc/conf", "readOnly": True}],
    "ports": [{"name": "www", "protocol": "tcp", "port": 80, "count": 2}],
    "isolators": [
        {"name": "resource/memory", "value": {"limit": "64M"}},
        {"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_KILL"]}},
        {"name": "os/linux/no-new-privileges", "value": True},
    ],
    "eventHandlers": [{"name": "pre-start", "exec": ["/bin/true"]}, {"name": "post-stop", "exec": ["/bin/true"]}],
    "userAnnotations": {"x": "y"},
    "userLabels": {"l": "m"},
}


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with a plain image of each family and a rich ACI; checks at the end that nothing stayed."""
    made = Pyrkt(tmp_path_factory.mktemp("written"))
    make_layout(made.base / "layout", "--config.exposedports", "80", "--config.volume", "/data")
    make_aci(made.base / "box.aci")
    make_aci(made.base / "rich.aci", "example.com/rich", RICH, annotations=[{"name": "authors", "value": "me"}])
    for image in (OCI, BOX, RICHLY):
        made.ok("fetch", image.format(made.base))
    yield made
    assert made.clean() == []


def judge(tool: Pyrkt, path: Path) -> None:
    """Check that actool and we accept a file."""
    done = subprocess.run(["actool", "validate", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{path.read_bytes()[:4000]!r}"
    assert tool.call("validate", str(path)).code == 0


@pytest.mark.parametrize("words", [
    pytest.param([BOX], id="aci"),
    pytest.param([OCI], id="oci"),
    pytest.param(["--volume=data,kind=empty", "--volume=conf,kind=host,source=/etc", RICHLY], id="rich"),
    pytest.param([BOX, "--name=one", BOX, "--name=two", OCI], id="three-apps"),
    pytest.param(["--volume=a,kind=host,source=/usr,readOnly=true,recursive=false", "--volume=b,kind=empty,mode=1777,uid=5,gid=6", "--mount=volume=a,target=/a", BOX, "--mount=volume=b,target=/b"], id="volumes"),
    pytest.param([BOX, "--memory=64M", "--cpu=250m", "--cpu-shares=100", "--oom-score-adj=10", "--pids=20"], id="limits"),
    pytest.param([BOX, "--caps-retain=CAP_KILL,CAP_CHOWN"], id="caps-retain"),
    pytest.param([BOX, "--caps-remove=CAP_MKNOD"], id="caps-remove"),
    pytest.param([BOX, "--seccomp=mode=remove,errno=EPERM,mount"], id="seccomp"),
    pytest.param([BOX, "--user=1000", "--group=1000", "--supplementary-gids=7,8", "--working-dir=/tmp", "--readonly-rootfs"], id="user"),
    pytest.param(["--set-env=A=b", "--set-env=EMPTY=", BOX, "--environment=C=d=e\nf", "--exec=/bin/echo", "--", "é", "\"'\\"], id="environment"),
    pytest.param([BOX, "--annotation=example.com/a=b", "--user-annotation=c=d", "--user-label=e=f"], id="annotations"),
    pytest.param(["--name=web", "--hostname=web", "--private-users", BOX], id="named-private-users"),
])  # fmt: skip
def test_the_manifest_of_a_pod(tool: Pyrkt, tmp_path: Path, words: list[str]) -> None:
    uuid = tool.ok("prepare", "--quiet", *(word.format(tool.base) for word in words)).split()[-1]
    for flag in ("--pretty-print=true", "--pretty-print=false"):
        path = tmp_path / flag
        path.write_text(tool.ok("cat-manifest", flag, uuid))
        judge(tool, path)
    manifest = json.loads((tmp_path / "--pretty-print=true").read_text())
    images = [word for word in words if "{}" in word]
    assert len(manifest["apps"]) == len(images)
    tool.ok("rm", uuid)


@pytest.mark.parametrize("name", ["box", "rich"])
def test_an_image_and_its_manifest(tool: Pyrkt, tmp_path: Path, name: str) -> None:
    source, target = tool.base / f"{name}.aci", tmp_path / "out.aci"
    found = json.loads(tool.ok("image", "list", "--format=json"))
    (identity,) = [record["id"] for record in found if record["reference"] == str(source)]
    tool.ok("image", "export", identity, str(target))
    judge(tool, target)
    assert identity == f"sha512-{sha512(target)}"
    (tmp_path / "manifest").write_text(tool.ok("image", "cat-manifest", identity))
    judge(tool, tmp_path / "manifest")


def test_an_image_directory(tool: Pyrkt, tmp_path: Path) -> None:
    found = json.loads(tool.ok("image", "list", "--format=json"))
    (identity,) = [record["id"] for record in found if record["reference"] == str(tool.base / "box.aci")]
    target = tmp_path / "rendered"
    tool.ok("image", "render", identity, str(target))
    done = subprocess.run(["actool", "validate", str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert tool.call("validate", str(target)).code == 0
    built = tmp_path / "again.aci"
    subprocess.run(["actool", "build", str(target), str(built)], check=True)
    judge(tool, built)
    assert tool.call("run", str(built), "--exec=/bin/true").code == 0
