"""What of a launch is measured: the events, in their order, from the pod's directory as it is at that moment."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pyrkt.base.errors import CannotCreate, InvalidSpec, NoPermission, StartFailed
from pyrkt.pod import measure
from pyrkt.spec.digest import of_bytes
from pyrkt.store import ImageRecord, Signer
from pyrkt.tpm import replay
from pyrkt.tpm.where import Log

UUID = "00000000-0000-4000-8000-000000000001"
SIGNER = Signer(format="openpgp", fingerprint="ab" * 20, name="Some\x1bbody <a@example.com>")
PLANS = (("pod", "", b"both"), ("sandbox", "", b"one"), ("app", "web", b"two"))
STAGE1 = ({"flavour": "native", "digest": "sha256:00"},)


def image(name: str, **more: Any) -> ImageRecord:
    digest = of_bytes(name.encode())
    return ImageRecord(id=f"sha256-{digest[7:]}", kind="oci", name=name, reference=name, manifest=digest, **more)


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """The directory of a pod of two apps."""
    path = tmp_path / UUID
    for app in ("web", "db"):
        (path / "apps" / app).mkdir(parents=True)
        (path / "apps" / app / "config.json").write_text(f"config of {app}")
    (path / "pod").write_text("manifest")
    entries = [
        measure.origin("web", image("web", signers=(SIGNER,)), [image("base", insecure=("image", "tls"))]),
        measure.origin("db", image("db")),
    ]
    measure.write_origins(str(path), entries)
    return path


def events(path: Path) -> list[dict[str, Any]]:
    reading = replay.read(str(path))
    assert replay.problems(reading) == []
    own = [entry.content for entry in reading.records()[1:]]
    return [{key: value for key, value in content.items() if key not in ("bootId", "timestamp")} for content in own]


def test_all_that_a_launch_consists_of(pod: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    measure.launch(Log(path=str(log)), str(pod), PLANS, STAGE1)
    web, db, *rest = events(log)
    assert (web["eventType"], web["app"], web["verdict"], web["pod"]) == ("image", "web", "signed", UUID)
    assert web["signers"] == [{"format": "openpgp", "fingerprint": "ab" * 20, "name": "Some\\x1bbody <a@example.com>"}]
    (base,) = web["dependencies"]
    assert (base["name"], base["verdict"], base["insecure"]) == ("base", "insecure", ["image", "tls"])
    assert (db["app"], db["verdict"], db["manifest"], "dependencies" in db) == ("db", "unsigned", sha256(b"db"), False)
    assert rest == [
        {"eventType": "pod-manifest", "digest": sha256(b"manifest"), "pod": UUID},
        {"eventType": "app-config", "app": "web", "digest": sha256(b"config of web"), "pod": UUID},
        {"eventType": "app-config", "app": "db", "digest": sha256(b"config of db"), "pod": UUID},
        {"eventType": "plan", "part": "pod", "digest": sha256(b"both"), "pod": UUID},
        {"eventType": "plan", "part": "sandbox", "digest": sha256(b"one"), "pod": UUID},
        {"eventType": "plan", "part": "app", "app": "web", "digest": sha256(b"two"), "pod": UUID},
        {"eventType": "stage1", "flavour": "native", "digest": "sha256:00", "pod": UUID},
    ]


def test_an_app_that_comes_later(pod: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    (pod / "apps/new").mkdir()
    (pod / "apps/new/config.json").write_text("config of new")
    for name in ("first", "second"):  # the second takes the first one's place
        measure.add_origin(str(pod), measure.origin("new", image(name)))
    measure.launch(Log(path=str(log)), str(pod), (("app", "new", b"three"),), STAGE1, apps=("new",))
    found = events(log)
    assert [event["eventType"] for event in found] == ["image", "pod-manifest", "app-config", "plan", "stage1"]
    assert found[0]["name"] == "second"
    assert found[2]["digest"] == sha256(b"config of new")
    assert [entry["app"] for entry in json.loads((pod / "provenance").read_text())] == ["web", "db", "new"]


def test_bundles_that_another_runtime_gets(pod: Path, tmp_path: Path) -> None:
    for name in ("main", "pre-start"):
        (pod / "apps/web/bundles" / name).mkdir(parents=True)
        (pod / "apps/web/bundles" / name / "config.json").write_text(name)
    measure.launch(Log(path=str(tmp_path / "log")), str(pod), PLANS, STAGE1)
    configs = [event for event in events(tmp_path / "log") if event["eventType"] == "app-config"]
    assert [(event["app"], event.get("bundle"), event["digest"]) for event in configs] == [
        ("web", None, sha256(b"config of web")),
        ("web", "main", sha256(b"main")),
        ("web", "pre-start", sha256(b"pre-start")),
        ("db", None, sha256(b"config of db")),
    ]


def test_the_programs(pod: Path) -> None:
    descriptor = os.memfd_create("stage1")
    os.write(descriptor, b"program")
    try:
        own = {"flavour": "native", "digest": sha256(b"program")}
        assert measure.programs(str(pod), descriptor) == (own,)
        (pod / "runc").write_bytes(b"x" * 100_000)
        (pod / "flavour").write_text(f"runc {pod}/runc\n")
        other = {"flavour": "runc", "program": f"{pod}/runc", "digest": sha256(b"x" * 100_000)}
        assert measure.programs(str(pod), descriptor) == (own | {"flavour": "runc"}, other)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        pytest.param(lambda pod, log: (pod / "provenance").unlink(), StartFailed, id="older"),
        pytest.param(lambda pod, log: (pod / "provenance").write_text("{}"), InvalidSpec, id="damaged"),
        pytest.param(lambda pod, log: (pod / "apps/db/config.json").unlink(), CannotCreate, id="no-config"),
        pytest.param(lambda pod, log: log.mkdir(), CannotCreate, id="directory"),
        pytest.param(lambda pod, log: log.write_text("what\n"), InvalidSpec, id="stranger"),
    ],
)
def test_what_cannot_be_measured(pod: Path, tmp_path: Path, spoil: Any, error: type[Exception]) -> None:
    log = tmp_path / "log"
    spoil(pod, log)
    with pytest.raises(error) as caught:
        measure.launch(Log(path=str(log)), str(pod), PLANS, STAGE1)
    assert getattr(caught.value, "hint", "")
    if error is StartFailed:
        return  # the pod itself is at fault: nothing can be said of it, required or not
    measure.launch(Log(path=str(log), required=False), str(pod), PLANS, STAGE1)


def test_a_log_that_may_not_be_written(
    pod: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: str, _contents: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(measure, "append", refuse)
    with pytest.raises(NoPermission, match=r"the launch cannot be measured: .*log: Permission denied"):
        measure.launch(Log(path=str(tmp_path / "log")), str(pod), PLANS, STAGE1)
    measure.launch(Log(path=str(tmp_path / "log"), required=False), str(pod), PLANS, STAGE1)
    assert "it is started all the same" in capfd.readouterr().err
