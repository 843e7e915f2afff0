"""The measurement log of real pods: whole before the first instruction of an app, whichever way it is launched."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyrkt
from tests.support.keys import gpg_home
from tests.support.mounts import mounted
from tests.support.oci import Answer, eventually
from tests.support.pods import Pyrkt, end, make_aci, make_layout

pytestmark = [pytest.mark.root, pytest.mark.peers]
STAGE1 = Path(pyrkt.__file__).parent / "stage1/stage1"
PLACE = str(Path(pyrkt.__file__).parents[1])
ORDER = ("image", "pod-manifest", "app-config", "plan", "stage1")
COUNT = 'grep -c "$(hostname | cut -d- -f2-)" /log/measurements.log; grep -c stage1 /log/measurements.log'
"""What an app says of the log: how many records are its pod's, and how many launches are complete."""


class Measured(Pyrkt):
    """The command with a log of its own."""

    @property
    def log(self) -> Path:
        """The log."""
        return self.base / "log/measurements.log"

    def settle(self, **settings: Any) -> None:
        """Write the configuration."""
        values = {"rktKind": "measurements", "rktVersion": "v1", "log": str(self.log), **settings}
        directory = self.base / "etc/measurements.d"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "test.json").write_text(json.dumps(values))

    def records(self, pod: str = "") -> list[dict[str, Any]]:
        """Return the events, of one pod or of all."""
        words = [f"--pod={pod}"] if pod else []
        found = json.loads(self.ok("measurements", "--format=json", *words))
        assert found["problems"] == []
        return [record["content"] for record in found["records"]]

    def verified(self) -> Answer:
        """Check the whole log."""
        return self.call("measurements", "--verify")


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    """A store with an OCI image, unchecked, and an ACI with a signature."""
    base = tmp_path_factory.mktemp("measured")
    tool = Measured(base)
    tool.settle()
    tool.ok("fetch", f"oci:{make_layout(base / 'layout')}:bb")
    aci = make_aci(base / "box.aci")
    with gpg_home() as gpg:
        gpg.key("signer")
        aci.with_name(f"{aci.name}.asc").write_bytes(gpg.sign("signer", aci.read_bytes()))
        (base / "key.asc").write_bytes(gpg.public("signer"))
    checking = Measured(base, insecure="")
    checking.ok("trust", "--skip-fingerprint-review", "--prefix=example.com/box", str(base / "key.asc"))
    checking.ok("fetch", str(aci))
    yield tool
    assert tool.verified().code == 0
    assert tool.clean() == []


@pytest.fixture(scope="module")
def images(tool: Measured) -> dict[str, str]:
    """The ids of the images by kind."""
    return {record["kind"]: record["id"] for record in json.loads(tool.ok("image", "list", "--format=json"))}


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def watching(tool: Measured) -> list[str]:
    """Return the flags that show the log to the apps."""
    return [f"--volume=log,kind=host,source={tool.log.parent},readOnly=true", "--mount=volume=log,target=/log"]


def launches(tool: Measured) -> int:
    return sum(event["eventType"] == "stage1" for event in tool.records()) if tool.log.exists() else 0


def test_a_pod_of_two_apps(tool: Measured, images: dict[str, str]) -> None:
    uuid = tool.ok("prepare", images["oci"], "--name=one", "---", images["appc"], "--name=two").strip()
    planned = tool.ok("plan", "--hash", uuid).split()[0]
    assert tool.call("run-prepared", uuid).code == 0
    found = tool.records(uuid)
    kinds = [event["eventType"] for event in found]
    assert kinds == sorted(kinds, key=ORDER.index)
    by = {kind: [event for event in found if event["eventType"] == kind] for kind in ORDER}
    assert [(e["app"], e["id"], e["verdict"], e["insecure"]) for e in by["image"]] == [
        ("one", images["oci"], "insecure", ["image"]),
        ("two", images["appc"], "signed", []),
    ]
    (signer,) = by["image"][1]["signers"]
    assert signer["format"] == "openpgp"
    assert signer["name"] == "signer <signer@example.com>"
    assert len(signer["fingerprint"]) == 40
    directory = tool.directory(uuid)
    assert [e["digest"] for e in by["pod-manifest"]] == [sha256((directory / "pod").read_bytes())]
    assert [(e["app"], e["digest"]) for e in by["app-config"]] == [
        (app, sha256((directory / f"apps/{app}/config.json").read_bytes())) for app in ("one", "two")
    ]
    plans = [(directory / name).read_bytes() for name in ("plan", "apps/one/plan", "apps/two/plan")]
    parts = [("pod", None), ("sandbox", None), ("app", "one"), ("app", "two")]
    assert [(e["part"], e.get("app")) for e in by["plan"]] == parts
    assert [e["digest"] for e in by["plan"]] == [planned, *(sha256(plan) for plan in plans)]
    assert sha256(b"".join(plans)) == planned
    assert [(e["flavour"], e["digest"]) for e in by["stage1"]] == [("native", sha256(STAGE1.read_bytes()))]
    for event in by["image"]:
        manifest = tool.ok("image", "cat-manifest", event["id"])
        blob = tool.data / "blobs" / event["manifest"].replace(":", "/")
        assert json.loads(blob.read_bytes()) == json.loads(manifest)


def test_all_of_a_launch_is_there_before_its_first_instruction(tool: Measured, images: dict[str, str]) -> None:
    """A new pod, a second one from the record of the first, a prepared one, and one whose plan is made again."""
    image, words = images["oci"], ["--", "sh", "-c", COUNT]
    counts = []
    for _ in range(3):
        before = launches(tool)
        out = tool.ok("run", *watching(tool), image, *words)
        mine, all_launches = map(int, out.split())
        assert all_launches == before + 1
        counts.append(mine)
    uuid = tool.ok("prepare", *watching(tool), image, *words).strip()
    assert all(event.get("pod") != uuid for event in tool.records())
    counts.append(int(tool.ok("run-prepared", uuid).split()[0]))
    uuid = tool.ok("prepare", *watching(tool), image, *words).strip()
    tool.ok("run-prepared", "--detach", uuid)
    log = tool.directory(uuid) / "logs"
    assert eventually(lambda: any(len(file.read_text().split()) > 1 for file in log.iterdir()), 10)
    (text,) = [file.read_text() for file in log.iterdir() if file.stat().st_size]
    counts.append(next(int(word) for word in text.split() if word.isdigit() and len(word) < 3))
    assert counts == [len(tool.records(uuid))] * 5


def test_a_plan_that_is_made_again_is_what_is_measured(tool: Measured, images: dict[str, str]) -> None:
    uuid = tool.ok("prepare", images["oci"], "--", "hostname").strip()
    before = tool.ok("plan", "--hash", uuid).split()[0]
    assert tool.ok("run-prepared", "--hostname=another", uuid) == "another\n"
    after = tool.ok("plan", "--hash", uuid).split()[0]
    plans = [event["digest"] for event in tool.records(uuid) if event["eventType"] == "plan"]
    configs = [event["digest"] for event in tool.records(uuid) if event["eventType"] == "app-config"]
    (config,) = tool.directory(uuid).glob("apps/*/config.json")
    assert configs == [sha256(config.read_bytes())]
    assert plans[0] == after
    assert plans[1:] == [sha256((config.parent / name).read_bytes()) for name in ("../../plan", "plan")]
    assert before != after


def test_sixteen_pods_at_once(tool: Measured, images: dict[str, str]) -> None:
    before = launches(tool)
    processes = [tool.popen("run", images["oci"], "--", "true") for _ in range(16)]
    assert [end(process, 60) for process in processes] == [0] * 16
    events = tool.records()
    assert launches(tool) == before + 16
    # The records of a launch stand together, whole, in their order.
    pods = [event["pod"] for event in events if "pod" in event]
    assert len({pod for pod, next_pod in zip(pods, [*pods[1:], ""], strict=True) if pod != next_pod}) == len(set(pods))
    assert sum(pod != after for pod, after in zip(pods, [*pods[1:], ""], strict=True)) == len(set(pods))
    assert tool.verified().code == 0


def test_replay_and_verify(tool: Measured, tmp_path: Path) -> None:
    found = json.loads(tool.ok("measurements", "--format=json"))
    cel = json.loads(tool.ok("measurements", "--format=cel"))
    assert [record["recnum"] for record in cel] == list(range(len(cel)))
    register = bytes(32)
    for record in cel:
        digests = {digest["hashAlg"]: bytes.fromhex(digest["digest"]) for digest in record["digests"]}
        register = hashlib.sha256(register + digests["sha256"]).digest()
    assert found["registers"]["sha256"] == register.hex()
    assert register.hex() in tool.ok("measurements", "--replay")
    copy = tmp_path / "copy"
    copy.write_bytes(tool.log.read_bytes().replace(b'"verdict":"insecure"', b'"verdict":"signed"', 1))
    for word in ("--verify", "--replay"):
        answer = tool.call("measurements", word, f"--log={copy}")
        assert answer.code == 78
        assert "its digests are not those of its content" in answer.err
        assert "hint:" in answer.err
    assert tool.call("measurements", "--pod=no-such").code == 66
    assert tool.call("measurements", "--log=/no/such/log").code == 66


def test_jq_reads_it(tool: Measured) -> None:
    done = subprocess.run(
        ["jq", "--seq", "-r", ".content.eventType", str(tool.log)], capture_output=True, text=True, check=True
    )
    assert done.stdout.replace("\x1e", "").split() == [event["eventType"] for event in tool.records()]


@pytest.mark.parametrize("trouble", ["full", "read-only", "damaged", "not-a-file"])
def test_what_cannot_be_measured_is_not_started(
    tool: Measured, images: dict[str, str], tmp_path: Path, trouble: str
) -> None:
    place = tmp_path / "logs"
    path = place / "measurements.log"
    with mounted(place, "-t", "tmpfs", "-o", "size=4k,nr_inodes=3", "pyrkt-test"):
        if trouble == "full":
            (place / "fill").write_bytes(b"x" * 4096)
        elif trouble == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        elif trouble == "damaged":
            path.write_text("something else\n")
        else:
            os.mkfifo(path)
        try:
            tool.settle(log=str(path))
            marker = tmp_path / "ran"
            marker.mkdir()
            words = [f"--volume=v,kind=host,source={marker}", "--mount=volume=v,target=/v", images["oci"]]
            before = [pod["name"] for pod in tool.pods()]
            for _ in range(2):  # a pod from its images, and one from a record
                answer = tool.call("run", *words, "--", "touch", "/v/x")
                assert answer.code == (64 if trouble == "damaged" else 73), answer.err
                assert answer.err.startswith("pyrkt: the launch cannot be measured: ")
                assert answer.err.count("\n") == 2
                assert "\n  hint: " in answer.err
            uuid = tool.ok("prepare", *words, "--", "touch", "/v/x").strip()
            for flag in ([], ["--detach"]):
                assert tool.call("run-prepared", *flag, uuid).code == (64 if trouble == "damaged" else 73)
            assert not list(marker.iterdir())
            assert [pod["name"] for pod in tool.pods()] == [*before, uuid]
            assert tool.pod(uuid)["state"] == "prepared"
            tool.settle(log=str(path), required=False)
            answer = tool.call("run-prepared", uuid)
            assert answer.code == 0
            assert answer.err.startswith("pyrkt: warning: the launch cannot be measured: ")
            assert [entry.name for entry in marker.iterdir()] == ["x"]
        finally:
            tool.settle()


def test_one_log_whatever_the_data_directory(tool: Measured, tmp_path: Path) -> None:
    other = Measured(tmp_path)
    other.ok("fetch", f"oci:{tool.base}/layout:bb")
    other.settle(log=str(tool.log))
    before = launches(tool)
    other.ok("run", f"oci:{tool.base}/layout:bb", "--", "true")
    assert launches(tool) == before + 1
    assert other.clean() == []


def test_a_pod_of_an_earlier_pyrkt_is_refused_in_words(tool: Measured, images: dict[str, str]) -> None:
    uuid = tool.ok("prepare", images["oci"], "--", "true").strip()
    (tool.directory(uuid) / "provenance").unlink()
    answer = tool.call("run-prepared", uuid)
    assert answer.code == 125
    assert "where its images are from" in answer.err
    tool.ok("rm", uuid)


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from pyrkt.tpm.log import append
sys.stdin.readline()
append(sys.argv[2], [{"eventType": "plan", "pod": "killed", "part": part} for part in ("1", "2")])
"""


@pytest.mark.parametrize(
    ("call", "marked"),
    [("flock", 0), ("pread64", 0), ("fchmod", 0), ("write", 1), ("fsync", 1), ("fchmod:when=2", 1), ("close", 0)],
)
def test_killed_at_a_call(tmp_path: Path, call: str, marked: int) -> None:
    """A writer that is killed as it enters such a call on the log: the log stays one, and says so where it matters."""
    tool = Measured(tmp_path)
    tool.settle()
    log = tool.log
    run = [sys.executable, "-I", "-S", "-c", WRITER, PLACE, str(log)]
    subprocess.run(run, input=b"\n", check=True)
    process = subprocess.Popen(run, stdin=subprocess.PIPE)
    name, _, when = call.partition(":")
    inject = f"inject={name}:signal=KILL{f':{when}' if when else ''}"
    tracer = subprocess.Popen(
        ["strace", "-qq", "-o", "/dev/null", "-P", str(log), "-e", inject, "-p", str(process.pid)],
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    status = Path(f"/proc/{process.pid}/status")
    deadline = time.monotonic() + 20
    while f"TracerPid:\t{tracer.pid}\n" not in status.read_text():
        assert time.monotonic() < deadline
        assert tracer.poll() is None
        time.sleep(0.005)
    process.stdin.close()
    assert process.wait(60) == -signal.SIGKILL
    tracer.wait(60)
    # Its mark says that it was at work; what it wrote is whole records here, torn ones are made in the unit tests.
    assert bool(log.stat().st_mode & stat.S_ISVTX) == marked
    assert tool.verified().code == 0
    assert ("launched nothing: 1" in tool.verified().out) == bool(marked)
    subprocess.run(run, input=b"\n", check=True)
    assert tool.verified().code == 0
    events = [event["eventType"] for event in tool.records()]
    assert events.count("interrupted") == marked
    assert not log.stat().st_mode & stat.S_ISVTX


def test_an_ordinary_user_has_a_log_of_his_own(tool: Measured, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = Path("/tmp") / tmp_path_factory.mktemp("user").name
    base = base.with_name(f"pyrkt-test-{os.getpid()}-{base.name}")
    base.mkdir(mode=0o755)
    try:
        for name in ("home", "runtime"):
            (base / name).mkdir(mode=0o700)
            os.chown(base / name, 54321, 54321)
        script = (
            "import sys; sys.path.insert(0, sys.argv[1]); from pyrkt.tpm import log, where\n"
            "from pyrkt.base.dirs import default_dirs\n"
            "path = where.find(default_dirs()).path; log.append(path, [{'eventType': 'plan'}]); print(path)"
        )
        for runtime, path in (
            (base / "runtime", base / "runtime/pyrkt/measurements.log"),
            (Path("/run"), base / "home/.local/state/pyrkt/measurements.log"),  # another's
        ):
            user = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
            done = subprocess.run(
                [*user, sys.executable, "-I", "-S", "-c", script, PLACE],
                env={"HOME": str(base / "home"), "XDG_RUNTIME_DIR": str(runtime), "PATH": "/usr/bin:/bin"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stdout) == (0, f"{path}\n"), done.stderr
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        shutil.rmtree(base)
