"""``export``: an app that has ended becomes an ACI that others accept, and that runs again."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.pods import Pyrkt, make_aci

pytestmark = [pytest.mark.root, pytest.mark.peers]

CHANGES = """
rm /data/seed; rm -r /etc/skel 2>/dev/null
mkdir /data/new; echo new >/data/new/file; ln /data/new/file /data/new/hard; ln -s file /data/new/soft
chown 12:34 /data/new/file; chmod 4750 /data/new/file; touch -hd '2020-02-02 02:02:02' /data/new/soft /data/new/file
mkfifo /data/new/fifo; mkdir -m 1777 /data/sticky
"""
LOOK = """
cd /data; stat -c '%n %a %u %g %h %F' sticky new/file new/hard new/fifo; stat -c %Y new/file new/soft
readlink new/soft; cat new/hard; ls
"""


def ran(tool: Pyrkt, tmp_path: Path, *words: str) -> str:
    """Run a pod to its end; return its UUID."""
    file = tmp_path / "uuid"
    tool.ok("run", f"--uuid-file-save={file}", *words)
    return file.read_text().strip()


def valid(path: Path) -> None:
    done = subprocess.run(["actool", "validate", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "kind", [[], ["--no-overlay"], ["--private-users"]], ids=["overlay", "copied", "private-users"]
)
def test_what_the_app_changed_is_there_again(stored: Pyrkt, image: str, tmp_path: Path, kind: list[str]) -> None:
    uuid = ran(stored, tmp_path, *kind, image, "--name=a", "--", "sh", "-c", CHANGES)
    target = tmp_path / "a.aci"
    stored.ok("export", uuid, str(target))
    valid(target)
    out = stored.ok("run", str(target), "--exec=/bin/sh", "--", "-c", LOOK)
    assert out.splitlines() == [
        *("sticky 1777 0 0 2 directory", "new/file 4750 12 34 2 regular file", "new/hard 4750 12 34 2 regular file"),
        *("new/fifo 644 0 0 1 fifo", "1580608922", "1580608922", "file", "new", "new", "sticky"),
    ]
    again = tmp_path / "b.aci"
    stored.ok("export", uuid, str(again))
    assert again.read_bytes() == target.read_bytes(), "the same pod gives the same image"


def test_capabilities_of_files_are_kept(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    for flags in ([], ["--private-users"]):
        uuid = ran(stored, tmp_path, *flags, image, "--name=a", "--", "sh", "-c", "cp /bin/busybox /data/tool")
        (tool,) = list(stored.directory(uuid).glob("apps/a/*/data/tool"))
        subprocess.run(["setcap", "cap_net_raw+ep", tool], check=True)
        stored.ok("export", "--overwrite", uuid, str(tmp_path / "a.aci"))
        with tarfile.open(tmp_path / "a.aci") as tar:
            assert "SCHILY.xattr.security.capability" in tar.getmember("rootfs/data/tool").pax_headers
        valid(tmp_path / "a.aci")
        stored.ok("image", "unpack", str(tmp_path / "a.aci"), str(tmp_path / f"bundle{len(flags)}"))
        found = subprocess.run(
            ["getcap", tmp_path / f"bundle{len(flags)}/rootfs/data/tool"], capture_output=True, text=True, check=True
        )
        assert "cap_net_raw" in found.stdout


def test_the_manifest_says_what_ran(stored: Pyrkt, tmp_path: Path) -> None:
    source = make_aci(
        tmp_path / "src.aci",
        name="example.com/thing",
        app={"ports": [{"name": "www", "protocol": "tcp", "port": 80}]},
        annotations=[{"name": "authors", "value": "me"}],
    )
    words = [str(source), "--user=1000", "--group=7", "--environment=K=v", "--exec=/bin/sh", "--", "-c", "exit 0"]
    uuid = ran(stored, tmp_path, *words)
    stored.ok("export", uuid, str(tmp_path / "a.aci"))
    done = subprocess.run(["actool", "cat-manifest", tmp_path / "a.aci"], capture_output=True, check=True)
    said = json.loads(done.stdout)
    assert said["name"] == "example.com/thing"
    assert {"name": "version", "value": "1.0"} in said["labels"]
    app = said["app"]
    assert (app["exec"], app["user"], app["group"]) == (["/bin/sh", "-c", "exit 0"], "1000", "7")
    assert {"name": "K", "value": "v"} in app["environment"]
    assert [port["name"] for port in app["ports"]] == ["www"]
    assert said["annotations"] == [{"name": "authors", "value": "me"}]
    assert not {one["name"] for one in app["environment"]} & {"container", "AC_APP_NAME", "AC_METADATA_URL"}


def test_of_several_apps_one_is_named(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    uuid = ran(
        stored, tmp_path,
        *(image, "--name=a", "--", "sh", "-c", "echo a >/data/who", "---"),
        *(image, "--name=b", "--", "sh", "-c", "echo b >/data/who"),
    )  # fmt: skip
    answer = stored.call("export", uuid, str(tmp_path / "x.aci"))
    assert (answer.code, "a, b" in answer.err) == (2, True)
    assert stored.call("export", "--app=c", uuid, str(tmp_path / "x.aci")).code == 66
    assert not list(tmp_path.glob("*.aci"))
    stored.ok("export", "--app=b", uuid, str(tmp_path / "x.aci"))
    with tarfile.open(tmp_path / "x.aci") as tar:
        file = tar.extractfile("rootfs/data/who")
        assert file is not None
        assert file.read() == b"b\n"


def test_what_is_refused(stored: Pyrkt, image: str, tmp_path: Path) -> None:
    prepared = stored.ok("prepare", image, "--", "true").strip()
    assert stored.call("export", prepared, str(tmp_path / "x.aci")).code == 2
    running = stored.detached(image, "--name=a", "--", "sleep", "600")
    try:
        answer = stored.call("export", running, str(tmp_path / "x.aci"))
        assert (answer.code, "is running" in answer.err) == (75, True)
    finally:
        stored.ok("stop", "--force", running)
    assert stored.call("export", running, str(tmp_path / "x.tar")).code == 2
    (tmp_path / "x.aci").write_text("mine")
    assert stored.call("export", running, str(tmp_path / "x.aci")).code == 73
    assert (tmp_path / "x.aci").read_text() == "mine"
    assert stored.call("export", running, str(tmp_path / "no/x.aci")).code == 73
    stored.ok("export", "--overwrite", running, str(tmp_path / "x.aci"))
    valid(tmp_path / "x.aci")
    assert sorted(os.listdir(tmp_path)) == ["x.aci"]
