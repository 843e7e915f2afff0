"""User namespaces: root's containers with mapped ids, and what an ordinary user may run; device rules by eBPF."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import bundle, oci

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.bundle import Bundle
    from tests.support.oci import Runtime

pytestmark = pytest.mark.root
NOBODY = 65534


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    found = oci.ours(tmp_path)
    with oci.nothing_left(tmp_path):
        yield found
        found.clean()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Make a directory that a mapped user can reach: pytest's own are 0700."""
    path = Path(tempfile.mkdtemp(prefix="pyrkt-test-userns-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def box(open_directory: Path) -> Bundle:
    made = bundle.make(open_directory / "bundle")
    linux = made.config["linux"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    return made


def test_ids_are_mapped(runtime: Runtime, box: Bundle) -> None:
    box.config["process"]["user"] = {"uid": 7, "gid": 8, "additionalGids": [9]}
    box.script("id -u; id -g; id -G; cat /proc/self/uid_map /proc/self/setgroups; cat /proc/self/cgroup")
    answer = runtime.run(box.path)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[:2] == ["7", "8"]
    assert set(lines[2].split()) == {"8", "9"}
    assert lines[3].split() == ["0", "100000", "65536"]
    assert lines[4] == "allow"
    assert all(line.endswith(":/") for line in lines[5:])


def test_on_the_host_it_is_nobody(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["resources"]["pids"] = {"limit": 9}
    box.runs("sleep", "60")
    name = runtime.new_id()
    assert runtime.detached("create", "-b", str(box.path), name).code == 0
    assert runtime.call("start", name).code == 0
    pid = runtime.state(name)["pid"]
    assert Path(f"/proc/{pid}").stat().st_uid in (100000, 0)
    assert oci.status_fields(Path(f"/proc/{pid}/status").read_text())["Uid"].split() == ["100000"] * 4
    assert any(str(pid) in Path(where, "cgroup.procs").read_text().split() for where in oci.cgroups(name))
    answer = runtime.call("exec", name, "sh", "-c", "id -u; cat /proc/self/uid_map")
    assert answer.code == 0, answer.err
    assert answer.out.split() == ["0", "0", "100000", "65536"]


def test_limits_bind_it_all_the_same(runtime: Runtime, box: Bundle) -> None:
    box.config["linux"]["resources"]["pids"] = {"limit": 3}
    box.script("sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait")
    assert "can't fork" in runtime.run(box.path).err


def test_an_ordinary_user_runs_what_spec_writes_for_it(open_directory: Path) -> None:
    home = open_directory / "home"
    made = bundle.make(home / "bundle")
    (home / "bundle/config.json").unlink()
    for path in (home, *home.rglob("*")):
        os.lchown(path, NOBODY, NOBODY)
    root = ["--root", str(home / "state")]

    def as_nobody(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*oci.INTERPRETED, *root, *words],
            capture_output=True,
            text=True,
            check=False,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd=made.path,
            env={"PATH": "/bin", "XDG_RUNTIME_DIR": ""},
            stdin=subprocess.DEVNULL,
            timeout=30,
        )

    assert as_nobody("spec", "--rootless").returncode == 0
    config = made.path / "config.json"
    text = config.read_text().replace('"terminal": true', '"terminal": false')
    config.write_text(text.replace('"sh"', '"sh", "-c", "id -u; echo $$; hostname; exit 4"'))
    answer = as_nobody("run", "pyrkt-test-rootless")
    assert answer.stdout.splitlines() == ["0", "1", "pyrkt"], answer.stderr
    assert answer.returncode == 4
    assert answer.stderr == ""
    assert not list((home / "state").glob("pyrkt-test*"))


@pytest.mark.skipif(not Path("/sys/fs/cgroup/devices/tasks").exists(), reason="no v1 device controller to hide")
def test_device_rules_as_a_program_where_v1_has_no_controller(runtime: Runtime, tmp_path: Path) -> None:
    made = bundle.make(tmp_path / "bundle")
    for kind in ("bounding", "effective", "permitted"):
        made.config["process"]["capabilities"][kind].append("CAP_MKNOD")
    made.config["linux"]["resources"]["devices"].append(
        {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "m"}
    )
    made.script(
        "mknod /dev/kmsg c 1 11 && echo made; head -c 1 /dev/kmsg; mknod /dev/sda b 8 0; head -c 2 /dev/zero | wc -c"
    )
    runtime.command = ("unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/devices && exec "$0" "$@"', *runtime.command)
    answer = runtime.run(made.path)
    assert answer.out == "made\n2\n"
    assert answer.err.count("Operation not permitted") == 2
