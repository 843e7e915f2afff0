"""What is known of a pod: read from the files in its directory, each of which may be missing or damaged."""

from __future__ import annotations

import os

from pyrkt.base.errors import InvalidSpec
from pyrkt.base.fastjson import loads
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record
from pyrkt.kernel import pidfd, process
from pyrkt.pod import directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrkt.pod.directory import Pod


class AppStatus(Record):
    """One app of a pod. ``exit_code`` is None while it runs, or if nobody saw its end.

    ``bundle`` is its bundle's absolute path; ``cgroups`` are its cgroups' directories, while it has them.
    """

    name: str
    bundle: str = ""
    cgroups: tuple[str, ...] = ()
    image_id: str = ""
    image_name: str = ""
    state: str = "unknown"
    exit_code: int | None = None
    finished: float = 0.0
    mounts: tuple[dict[str, Any], ...] = ()
    user_annotations: dict[str, str] = {}  # noqa: RUF012 - records are frozen, and nobody writes to it
    user_labels: dict[str, str] = {}  # noqa: RUF012


class Status(Record):
    """A pod at one moment; times in seconds since 1970, 0 where there is none, ``pid`` 0 unless it runs."""

    uuid: str
    name: str
    state: str
    created: float
    started: float
    pid: int
    net: str
    apps: tuple[AppStatus, ...]


def status(pod: Pod) -> Status:
    """Return what is known of ``pod``. Nothing in its directory can make this fail."""
    state = pod.state()
    running = state == "running"
    return Status(
        uuid=pod.uuid,
        name=pod.name(),
        state=state,
        created=_seconds(pod.read("created")) or changed(pod.path),
        started=changed(f"{pod.path}/pid"),
        pid=record(pod)[0] if running else 0,
        net=pod.read("net").strip(),
        apps=_apps(pod, running=running),
    )


def record(pod: Pod) -> tuple[int, int]:
    """Return (pid, start time) of the pod's first process, as stage1 wrote it; (0, 0) before that."""
    words = pod.read("pid").split()
    if len(words) == 2 and all(word.isascii() and word.isdigit() and len(word) < 20 for word in words):
        return int(words[0]), int(words[1])
    return 0, 0


def open_process(pod: Pod) -> int:
    """Return a pidfd of the pod's first process; -1 if it is not there, or its number means another one by now."""
    pid, started = record(pod)
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


def _apps(pod: Pod, *, running: bool) -> tuple[AppStatus, ...]:
    try:
        document = Reader(manifest(pod), "manifest")
        return tuple(_app(pod, app, running=running) for app in document["apps"].items())
    except InvalidSpec:
        return ()


def _app(pod: Pod, app: Reader, *, running: bool) -> AppStatus:
    name = app["name"].text()
    code = pod.read(f"status/{name}").strip() if "/" not in name else ""
    exited = code.isascii() and code.isdigit() and len(code) < 4
    ran = pod.place in (directory.RUN, directory.EXITED_GARBAGE)
    volumes = {volume["name"].text(""): volume for volume in Reader(app.value, "")["volumes"].items()}
    mark = f"/pyrkt-{pod.uuid}-{name}"
    return AppStatus(
        name=name,
        bundle=f"{os.path.abspath(pod.path)}/apps/{name}",
        cgroups=tuple(path for path in cgroups(pod)[0] if path.endswith(mark)) if running else (),
        image_id=app["image"]["id"].text(""),
        image_name=app["image"]["name"].text(""),
        state="exited" if exited or (ran and not running) else "running" if running else "created",
        exit_code=int(code) if exited else None,
        finished=changed(f"{pod.path}/status/{name}") if exited else 0.0,
        mounts=tuple(_mount(mount, volumes) for mount in app["mounts"].items()),
        user_annotations=app["app"]["userAnnotations"].text_map(),
        user_labels=app["app"]["userLabels"].text_map(),
    )


def _mount(mount: Reader, _volumes: dict[str, Reader]) -> dict[str, Any]:
    return {"name": mount["volume"].text(""), "container_path": mount["path"].text("")}


def as_json(found: Status) -> dict[str, Any]:
    """Return ``found`` as rkt prints it: times in seconds, absent values left out."""
    apps = [_app_json(app) for app in found.apps]
    value = {
        "name": found.uuid,
        "short_name": found.name,
        "state": found.state,
        "networks": [{"netName": found.net}] if found.net else [],
        "app_names": [app.name for app in found.apps],
        "apps": apps,
        "created_at": int(found.created),
        "started_at": int(found.started),
        "pid": found.pid,
    }
    return {key: item for key, item in value.items() if item or key in ("name", "state", "app_names")}


def _app_json(app: AppStatus) -> dict[str, Any]:
    value = {
        "name": app.name,
        "state": app.state,
        "finished_at": int(app.finished),
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
