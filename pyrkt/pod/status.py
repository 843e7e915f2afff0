"""What is known of a pod: read from the files in its directory, each of which may be missing or damaged."""

from __future__ import annotations

import os

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.fastjson import loads
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record
from pyrkt.kernel import pidfd, process
from pyrkt.pod import directory
from pyrkt.pod.flavour import FLAVOUR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.pod.directory import Pod


IMAGE_ID, IMAGE_NAME = "pyrkt/id", "pyrkt/name"
"""Labels in a pod manifest of an image that is not appc's: its own id, and its name where appc has no form for it."""


class AppStatus(Record):
    """One app of a pod. ``exit_code`` is None while it runs, or if nobody saw its end.

    ``ready``: False only of one that tells so itself, and has not yet.

    ``bundle`` is its bundle's absolute path; ``cgroups`` are its cgroups' directories, while it has them;
    ``created``, ``started`` and ``finished`` are seconds since 1970, 0 where there is none.
    """

    name: str
    bundle: str = ""
    cgroups: tuple[str, ...] = ()
    image_id: str = ""
    image_name: str = ""
    state: str = "unknown"
    exit_code: int | None = None
    created: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    restarts: int = 0
    ready: bool = True
    mounts: tuple[dict[str, Any], ...] = ()
    user_annotations: dict[str, str] = {}  # noqa: RUF012 - records are frozen, and nobody writes to it
    user_labels: dict[str, str] = {}  # noqa: RUF012


class Status(Record):
    """A pod at one moment; times in seconds since 1970, 0 where there is none, ``pid`` 0 unless it runs.

    ``net`` is what was asked for, in words; ``networks`` are those that it is in, as net-info.json has them.
    """

    uuid: str
    name: str
    state: str
    created: float
    started: float
    pid: int
    net: str
    apps: tuple[AppStatus, ...]
    networks: tuple[dict[str, Any], ...] = ()
    user_annotations: dict[str, str] = {}  # noqa: RUF012 - as above
    user_labels: dict[str, str] = {}  # noqa: RUF012
    flavour: str = "native"

    @property
    def has_ended(self) -> bool:
        """Whether the pod ran, and runs no more."""
        return self.state in ("exited", "exited garbage", "exited deleting")

    def networks_text(self) -> str:
        """Return the networks as rkt's tables have them, "name:ip4=address", or what was asked for instead."""
        return ", ".join(_address(network) for network in self.networks) or self.net


def status(pod: Pod) -> Status:
    """Return what is known of ``pod``. Nothing in its directory can make this fail."""
    state = pod.state()
    running = state == "running"
    document = _document(pod)
    return Status(
        uuid=pod.uuid,
        name=pod.name(),
        state=state,
        created=_seconds(pod.read("created")) or changed(pod.path),
        started=changed(f"{pod.path}/pid"),
        pid=record(pod)[0] if running else 0,
        net=pod.read("net").strip(),
        apps=_apps(pod, document, running=running),
        networks=networks(pod),
        user_annotations=_texts(document, "userAnnotations"),
        user_labels=_texts(document, "userLabels"),
        flavour=(pod.read(FLAVOUR).split() or ["native"])[0],
    )


def record(pod: Pod, file: str = "pid") -> tuple[int, int]:
    """Return (pid, start time) as stage1 wrote it; (0, 0) before that.

    ``file``: "pid" of the pod's first process, "supervisor", "apps/NAME/pid".
    """
    words = pod.read(file).split()
    if len(words) == 2 and all(word.isascii() and word.isdigit() and len(word) < 20 for word in words):
        return int(words[0]), int(words[1])
    return 0, 0


def living(pod: Pod, file: str = "pid") -> int:
    """Return the pid that ``file`` names, as in ``record``; 0 if it is gone, or its number means another one by now."""
    pid, started = record(pod, file)
    return pid if pid and process.start_time(pid) == started else 0


def open_process(pod: Pod, file: str = "pid") -> int:
    """Return a pidfd of the process that ``file`` names; -1 if it is gone, or its number means another one by now."""
    pid, started = record(pod, file)
    if pid <= 0:
        return -1
    try:
        descriptor = pidfd.open(pid)
    except ProcessLookupError:
        return -1
    # The pair names a process for good; checked after the pidfd is held, so that it cannot change any more.
    if process.start_time(pid) != started:
        os.close(descriptor)
        return -1
    return descriptor


def changed(path: str) -> float:
    """Return when ``path`` was last changed, in seconds since 1970; 0 if it is not there."""
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


def manifest(pod: Pod) -> dict[str, Any]:
    """Return the pod manifest. Raises: InvalidSpec if it is missing or damaged."""
    text = pod.read("pod")
    if not text:
        raise InvalidSpec("has no manifest: its making was interrupted", document=f"pod {pod.uuid}", hint="pyrkt gc")
    value = loads(text, f"pod {pod.uuid}: manifest")
    if not isinstance(value, dict):
        raise InvalidSpec("is not an object", document=f"pod {pod.uuid}: manifest", hint="pyrkt gc")
    return value


def isolators(pod: Pod) -> dict[str, Any]:
    """Return {"pod": [...], "apps": {NAME: [...]}}: each isolator's name, verdict and reason (see ``pod.verdicts``)."""
    try:
        document = Reader(loads(pod.read("isolators") or "{}", "isolators"), "isolators")
        apps = {name: [item.value for item in one.items()] for name, one in document["apps"].members()}
        return {"pod": [item.value for item in document["pod"].items()], "apps": apps}
    except InvalidSpec:
        return {"pod": [], "apps": {}}


def trees(pod: Pod) -> tuple[str, ...]:
    """Return the ids of the store's trees that the pod uses."""
    return tuple(pod.read("trees").split())


def cgroups(pod: Pod) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the cgroups of the pod, deepest first, and the cgroup.kill files that end what is in them.

    Only what bears the pod's own mark: a damaged file must not make anybody remove the cgroups of others.
    """
    try:
        document = Reader(loads(pod.read("cgroups", "{}") or "{}", "cgroups"), "cgroups")
        directories, kill = document["remove"].texts(), document["kill"].texts()
    except InvalidSpec:
        return (), ()
    return tuple(d for d in directories if pod.uuid in d), tuple(f for f in kill if pod.uuid in f)


def _seconds(text: str) -> float:
    text = text.strip()
    return int(text) / 1e9 if text.isascii() and text.isdigit() and len(text) < 20 else 0.0


def _document(pod: Pod) -> Reader:
    try:
        return Reader(manifest(pod), "manifest")
    except InvalidSpec:
        return Reader({}, "manifest")


def _texts(document: Reader, name: str) -> dict[str, str]:
    try:
        return document[name].text_map()
    except InvalidSpec:
        return {}


def networks(pod: Pod) -> tuple[dict[str, Any], ...]:
    """Return the networks of the pod, each an object with netName, ifName, ip, mask, args and the like; as rkt's."""
    try:
        value = loads(pod.read("net-info.json", "[]") or "[]", "net-info.json")
    except InvalidSpec:
        return ()
    found = value.get("networks") if isinstance(value, dict) else value
    return tuple(one for one in found if isinstance(one, dict)) if isinstance(found, list) else ()


def _address(network: dict[str, Any]) -> str:
    name = str(network.get("netName", ""))
    found = [str(network.get(member) or "") for member in ("ip", "ip6")]
    texts = [f"{name}:ip{6 if ':' in address else 4}={address}" for address in found if address]
    return ", ".join(texts) or name


def _apps(pod: Pod, document: Reader, *, running: bool) -> tuple[AppStatus, ...]:
    try:
        volumes = {volume["name"].text(""): volume for volume in document["volumes"].items()}
        return tuple(_app(pod, app, volumes, running=running) for app in document["apps"].items())
    except InvalidSpec:
        return ()


def _app(pod: Pod, app: Reader, volumes: dict[str, Reader], *, running: bool) -> AppStatus:
    name = app["name"].text()
    if "/" in name:
        raise app["name"].fail("is no name of an app")
    code = pod.read(f"status/{name}").strip()
    exited = code.isascii() and code.isdigit() and len(code) < 4
    ran = pod.place in (directory.RUN, directory.EXITED_GARBAGE)
    home = f"{os.path.abspath(pod.path)}/apps/{name}"
    started = changed(f"{home}/pid") if ran else 0.0
    labels = {label["name"].text(): label["value"].text() for label in app["image"]["labels"].items()}
    return AppStatus(
        name=name,
        bundle=home,
        cgroups=app_cgroups(pod, name) if running else (),
        image_id=labels.get(IMAGE_ID) or app["image"]["id"].text(""),
        image_name=labels.get(IMAGE_NAME) or app["image"]["name"].text(""),
        # A running pod's app is not there before its pre-start handler has ended.
        state="exited" if exited or (ran and not running) else "running" if running and started else "created",
        exit_code=int(code) if exited else None,
        created=changed(f"{home}/config.json"),
        started=started,
        finished=changed(f"{pod.path}/status/{name}") if exited else 0.0,
        ready=not os.path.exists(f"{home}/notify") or bool(pod.read(f"status/{name}.ready")),
        restarts=_number(pod.read(f"status/{name}.restarts")),
        mounts=tuple(_mount(pod, mount, volumes) for mount in app["mounts"].items()),
        user_annotations=app["app"]["userAnnotations"].text_map(),
        user_labels=app["app"]["userLabels"].text_map(),
    )


def _number(text: str) -> int:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0


def app_cgroups(pod: Pod, name: str) -> tuple[str, ...]:
    """Return the cgroups of the app ``name``, one a hierarchy."""
    return tuple(path for path in cgroups(pod)[0] if path.endswith(f"/pyrkt-{pod.uuid}/{name}"))


def app_names(pod: Pod) -> tuple[str, ...]:
    """Return the names of the pod's apps, also of those that were added since it was made; sorted."""
    try:
        return tuple(sorted(os.listdir(f"{pod.path}/apps")))
    except FileNotFoundError:
        return ()


def pod_cgroups(pod: Pod) -> tuple[str, ...]:
    """Return the cgroups that hold those of all apps, one a hierarchy; none where each app stands alone."""
    return tuple(path for path in cgroups(pod)[0] if path.endswith(f"/pyrkt-{pod.uuid}"))


def _mount(pod: Pod, mount: Reader, volumes: dict[str, Reader]) -> dict[str, Any]:
    name = mount["volume"].text("")
    volume = volumes.get(name, Reader({}, "manifest"))
    if mount["appVolume"].present:  # the volume of this app alone
        volume = mount["appVolume"]
    host = volume["source"].text("")
    if volume["kind"].text("") == "empty":
        host = f"{os.path.abspath(pod.path)}/volumes/{name}"
    return {
        "name": name,
        "container_path": mount["path"].text(""),
        "host_path": host,
        "read_only": volume["readOnly"].boolean(default=False),
    }


def as_json(found: Status) -> dict[str, Any]:
    """Return ``found`` as rkt prints it, absent values left out.

    The pod's times are in seconds, those of its apps in nanoseconds (rkt 1.30, api/v1: both since 1970). Beyond rkt:
    ``short_name``, ``net``, ``pid`` and ``stage1`` of the pod, ``image_name``, ``bundle`` and ``cgroups`` of an app.
    """
    apps = [app_json(app) for app in found.apps]
    value = {
        "name": found.uuid,
        "short_name": found.name,
        "state": found.state,
        "net": found.net,
        "networks": list(found.networks),
        "app_names": [app.name for app in found.apps],
        "apps": apps,
        "created_at": int(found.created),
        "started_at": int(found.started),
        "user_annotations": found.user_annotations,
        "user_labels": found.user_labels,
        "pid": found.pid,
        "stage1": found.flavour,
    }
    return {key: item for key, item in value.items() if item or key in ("name", "state", "app_names")}


def app_json(app: AppStatus) -> dict[str, Any]:
    """Return an app as rkt prints it, absent values left out."""
    value = {
        "name": app.name,
        "state": app.state,
        "created_at": _nanoseconds(app.created),
        "started_at": _nanoseconds(app.started),
        "finished_at": _nanoseconds(app.finished),
        "restarts": app.restarts,
        "image_id": app.image_id,
        "image_name": app.image_name,
        "bundle": app.bundle,
        "cgroups": list(app.cgroups),
        "mounts": list(app.mounts),
        "user_annotations": app.user_annotations,
        "user_labels": app.user_labels,
    }
    value = {key: item for key, item in value.items() if item}
    return value if app.exit_code is None else value | {"exit_code": app.exit_code}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e6) * 1000  # a double holds microseconds of our days, not nanoseconds
