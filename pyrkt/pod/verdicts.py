"""What became of each isolator of a pod: enforced, modified or ignored, for the user to know; or, strictly, to refuse.

Source: appc 0.8.11, executor, "Isolators": the user MUST be able to know; a strict mode MAY refuse to run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, NoPermission, StartFailed
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record
from pyrkt.bundle.isolators import Report
from pyrkt.cgroup import host as cgroup_host
from pyrkt.cgroup import plan as cgroup_plan
from pyrkt.kernel import host as kernel_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyrkt.bundle.assemble import Bundle
    from pyrkt.bundle.isolators import Verdict
    from pyrkt.pod.directory import Pod
    from pyrkt.spec.runtime import Config

FILE = "isolators"
"""The file of a pod that holds its verdicts: {"pod": [...], "apps": {NAME: [{"name", "verdict", "reason"}]}}."""
_POD = "the pod"
_VERDICTS: Mapping[str, Verdict] = {"enforced": "enforced", "modified": "modified", "ignored": "ignored"}
_BY_CGROUP = ("resource/memory", "resource/cpu", "resource/block-", "os/linux/cpu-shares")

_NOT_BY: Mapping[str, tuple[tuple[str, ...], str]] = {
    "fly": (
        ("os/linux/capabilities-", "os/linux/seccomp-", "os/linux/no-new-privileges", "os/unix/sysctl"),
        "fly has no walls",
    ),
    "runsc": (
        ("os/linux/seccomp-", "os/linux/selinux-context", "os/linux/apparmor-profile", "os/unix/sysctl"),
        "gVisor has a kernel of its own, which does not know it",
    ),
}
"""What a flavour of stage1 cannot enforce, by the beginnings of the names, and why."""


class Verdicts(Record):
    """The reports on the isolators of a pod and of its apps, by name."""

    pod: tuple[Report, ...] = ()
    apps: tuple[tuple[str, tuple[Report, ...]], ...] = ()

    def each(self) -> tuple[tuple[str, Report], ...]:
        """Return (whose, report) of each isolator."""
        of_apps = ((name, report) for name, reports in self.apps for report in reports)
        return (*((_POD, report) for report in self.pod), *of_apps)

    def lines(self) -> tuple[str, ...]:
        """Return one line an isolator."""
        return tuple(f"{whose}: {report}" for whose, report in self.each())

    def remarks(self) -> tuple[str, ...]:
        """Return the lines of what is not as the image or the manifest has it, and not because the user said so."""
        return tuple(f"{whose}: {report}" for whose, report in self.each() if _is_amiss(report))

    def check(self) -> None:
        """Refuse what ``remarks`` would tell. Raises: StartFailed."""
        for remark in self.remarks():
            raise StartFailed(
                f"--strict: {remark}", hint="without --strict the pod runs; pyrkt plan shows all its isolators"
            )

    def dump(self) -> str:
        """Return the JSON of ``FILE``."""
        apps = {name: list(map(_value, reports)) for name, reports in self.apps}
        return fastjson.dumps({"pod": list(map(_value, self.pod)), "apps": apps})


def _is_amiss(report: Report) -> bool:
    return report.verdict != "enforced" and not report.asked


def _value(report: Report) -> dict[str, str]:
    return {"name": report.name, "verdict": report.verdict, "reason": report.reason}


def read(pod: Pod) -> Verdicts:
    """Return the verdicts that ``pod`` was made with; none where it has no such file, or a damaged one."""
    try:
        document = Reader(fastjson.loads(pod.read(FILE) or "{}", FILE), FILE)
        apps = tuple((name, _reports(each)) for name, each in document["apps"].members())
        return Verdicts(pod=_reports(document["pod"]), apps=apps)
    except InvalidSpec:
        return Verdicts()


def _reports(r: Reader) -> tuple[Report, ...]:
    return tuple(
        Report(
            name=each["name"].text(),
            verdict=_VERDICTS[each["verdict"].choice(tuple(_VERDICTS))],
            reason=each["reason"].text(""),
        )
        for each in r.items()
    )


def judge(pod: tuple[Report, ...], bundles: Iterable[tuple[str, Bundle]], flavour: str = "native") -> Verdicts:
    """Return the verdicts on the isolators of the pod itself, and of its apps with their containers."""
    names, reason = _NOT_BY.get(flavour, ((), ""))
    found = [(name, _without(bundle.reports, names, reason), _unlimited(bundle.config)) for name, bundle in bundles]
    why = next((unlimited for _, _, unlimited in found if unlimited), "")
    apps = tuple((name, _without(reports, _BY_CGROUP, unlimited)) for name, reports, unlimited in found)
    return Verdicts(pod=_without(_without(pod, names, reason), _BY_CGROUP, why), apps=apps)


def _without(reports: tuple[Report, ...], names: tuple[str, ...], reason: str) -> tuple[Report, ...]:
    """Return ``reports`` where isolators whose names so begin are ignored, for ``reason``; as they are without one."""
    if not reason:
        return reports
    return tuple(
        replace(report, verdict="ignored", reason=reason, asked=False) if report.name.startswith(names) else report
        for report in reports
    )


def _unlimited(config: Config) -> str:
    """Return why nothing limits the container of an ordinary user, whose cgroups nobody has delegated; else ""."""
    linux = config.linux
    if linux is None or not linux.cgroups_path or kernel_host.probe().privileged:
        return ""
    mounts = cgroup_host.probe(linux.cgroups_path, rootless=True)
    try:
        cgroup_plan.layout(linux.resources, linux.cgroups_path, mounts, rootless=True)
    except NoPermission as error:
        return error.message
    return ""
