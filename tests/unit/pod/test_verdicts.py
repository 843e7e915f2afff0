"""What became of each isolator: told, written, read again, refused; and what the host shows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pyrkt.base.errors import StartFailed
from pyrkt.bundle.assemble import Bundle
from pyrkt.bundle.isolators import Limits, Report
from pyrkt.pod import configure, signs, verdicts
from pyrkt.pod.directory import Pods
from pyrkt.pod.verdicts import Verdicts
from pyrkt.spec.runtime import Config

MEMORY = Report(name="resource/memory", verdict="enforced")
REPLACED = Report(name="resource/cpu", verdict="modified", reason="replaced by --cpu", asked=True)
UNKNOWN = Report(name="example.com/x", verdict="ignored", reason="unknown")
CONFIG = Config(oci_version="1.0.2")


def test_lines_tell_of_all_and_remarks_of_what_nobody_asked_for() -> None:
    found = Verdicts(pod=(MEMORY,), apps=(("a", (REPLACED, UNKNOWN)),))
    assert found.lines() == (
        "the pod: resource/memory: enforced",
        "a: resource/cpu: modified (replaced by --cpu)",
        "a: example.com/x: ignored (unknown)",
    )
    assert found.remarks() == ("a: example.com/x: ignored (unknown)",)
    with pytest.raises(StartFailed, match="--strict: a: example"):
        found.check()
    Verdicts(pod=(MEMORY,), apps=(("a", (REPLACED,)),)).check()


def test_they_are_written_and_read_again(tmp_path: Path) -> None:
    found = Verdicts(pod=(MEMORY,), apps=(("a", (UNKNOWN,)), ("b", ())))
    assert json.loads(found.dump()) == {
        "pod": [{"name": "resource/memory", "verdict": "enforced", "reason": ""}],
        "apps": {"a": [{"name": "example.com/x", "verdict": "ignored", "reason": "unknown"}], "b": []},
    }
    pods = Pods(str(tmp_path))
    held = pods.create()
    pod = pods.find(held.uuid)
    assert verdicts.read(pod) == Verdicts()
    for text, expected in ((found.dump(), found), ("{", Verdicts()), ('{"pod": [{"name": 1}]}', Verdicts())):
        Path(pod.path, verdicts.FILE).write_text(text)
        assert verdicts.read(pod) == expected
    os.close(held.descriptor)


def test_judged_are_the_pod_and_its_apps() -> None:
    bundles = [("a", Bundle(config=CONFIG, reports=(MEMORY,))), ("b", Bundle(config=CONFIG))]
    assert verdicts.judge((UNKNOWN,), bundles) == Verdicts(pod=(UNKNOWN,), apps=(("a", (MEMORY,)), ("b", ())))


@pytest.mark.parametrize(
    ("flavour", "ignored"),
    [
        ("native", []),
        ("crun", []),
        ("fly", ["os/linux/capabilities-retain-set", "os/linux/seccomp-remove-set", "os/linux/no-new-privileges"]),
        ("runsc", ["os/linux/seccomp-remove-set", "os/linux/apparmor-profile"]),
    ],
)
def test_what_a_flavour_cannot_enforce_is_ignored_and_said(flavour: str, ignored: list[str]) -> None:
    names = [f"os/linux/{name}" for name in ("capabilities-retain-set", "seccomp-remove-set", "no-new-privileges")]
    names += ["os/linux/apparmor-profile", "resource/memory"]
    reports = tuple(Report(name=name, verdict="modified", asked=True) for name in names)
    found = verdicts.judge((), [("a", Bundle(config=CONFIG, reports=reports))], flavour)
    assert [report.name for _, report in found.each() if report.verdict == "ignored"] == ignored
    if ignored:
        with pytest.raises(StartFailed):
            found.check()


def test_the_least_of_the_network_limits_is_the_pods() -> None:
    apps = [
        Bundle(config=CONFIG, network_bps=5_000_000),
        Bundle(config=CONFIG),
        Bundle(config=CONFIG, network_bps=10**7),
    ]
    found = configure.bandwidth(Limits(network_bps=8_000_000), apps)
    assert found == {
        "ingressRate": 40_000_000,
        "ingressBurst": 4_000_000,
        "egressRate": 40_000_000,
        "egressBurst": 4_000_000,
    }
    assert configure.bandwidth(Limits(), [Bundle(config=CONFIG)]) == {}
    assert configure.bandwidth(Limits(network_bps=1), [])["ingressBurst"] == 8 * 65536


def test_of_a_partition_the_disk_is_meant() -> None:
    for name in os.listdir("/sys/block"):
        number = _number(f"/sys/block/{name}/dev")
        assert signs.whole(os.makedev(*number)) == number
        for part in os.listdir(f"/sys/block/{name}"):
            if part.startswith(name):
                assert signs.whole(os.makedev(*_number(f"/sys/block/{name}/{part}/dev"))) == number
    assert signs.whole(os.makedev(0, 1)) is None  # memory has none


def _number(path: str) -> tuple[int, int]:
    with open(path) as file:
        major, minor = file.read().split(":")
    return int(major), int(minor)


def test_the_signs_of_this_host(tmp_path: Path) -> None:
    found = signs.look(str(tmp_path / "not/yet/there"), userns=False, apps=2, shaped=False, network="why")
    assert found.disk == signs.disk(str(tmp_path)) or found.disk is None
    assert (found.apps, found.shaped, found.network) == (2, False, "why")
    assert found.capabilities is not None
    assert signs.look("/", userns=True, apps=1, shaped=True).capabilities is None
