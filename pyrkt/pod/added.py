"""Apps that come to a pod while it runs, and go again: their files, and the pod's own that tell of them.

Nobody sees an app before the pod's manifest names it, which is the last to be written and the first to be changed when
it goes. What a change that was killed leaves beside the manifest is taken away by the next one of that app, or by gc.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from pyrkt.base import fastjson, log
from pyrkt.base.atomic import write_file
from pyrkt.base.errors import CannotCreate, InvalidSpec, NotFound, UsageError
from pyrkt.base.reader import Reader
from pyrkt.base.undo import Undo
from pyrkt.cgroup.remove import remove as remove_cgroups
from pyrkt.kernel import lock
from pyrkt.pod import apps, configure, control, ids, measure, prepare, reified, served, service, status, verdicts
from pyrkt.pod import compile as compiler
from pyrkt.pod.program import on_failure
from pyrkt.pod.start import causes_file
from pyrkt.spec.appc import PodManifest
from pyrkt.store.remove import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrkt.pod.ask import App, PodAsk
    from pyrkt.pod.directory import Pod
    from pyrkt.pod.images import Source
    from pyrkt.store import ImageRecord

_MAKING = "adding"
"""The directory of a pod where an app is made that is none of it yet."""
_IMAGE, _TREES, _LINK = "image", "trees", "log-link"
"""Files of an app: its image's manifest in appc's words, the store's trees that it uses, another name of its log."""


def add(pod: Pod, app: App, source: Source) -> str:
    """Add ``app`` to the running ``pod``, which has to be mutable; return its name. It does not run yet.

    Whatever fails leaves the pod as it was.
    Raises: UsageError if the pod takes no apps, CannotCreate if it has one of that name; what making a pod raises.
    """
    # From before the image is found: gc must not take it until the pod says that it uses it.
    with source.hold():
        record = source.image(app)
        app = app.replace(name=configure.app_name(app, record))
        prepare.check_length(app.name)
        with _Change(pod) as change:
            remarks = change.add(app, record, source)
        source.store.images.touch(record.id)
    for remark in remarks:
        log.warn(remark)
    return app.name


def remove(pod: Pod, name: str) -> None:
    """Remove the app ``name`` from ``pod``, and all that it has left.

    Raises: NotFound if there is no such app; Busy if it runs.
    """
    with _Change(pod) as change:
        change.remove(name)


_CRI = "coreos.com/rkt/experiment/"
"""What rkt's annotations about logs for Kubernetes begin with: logmode, kubernetes-log-dir, kubernetes-log-path."""


def kubernetes_log(ask: PodAsk, app: App) -> str:
    """Return where Kubernetes looks for the log of ``app``, which is written in its form anyhow; "" if it does not.

    Raises: UsageError for a path that leads out of the directory.
    """
    pod, own = dict(ask.annotations), dict(app.annotations)
    directory, path = pod.get(f"{_CRI}kubernetes-log-dir", ""), own.get(f"{_CRI}kubernetes-log-path", "")
    if pod.get(f"{_CRI}logmode") != "k8s-plain" or not directory or not path:
        return ""
    if not directory.startswith("/") or path.startswith("/") or not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise UsageError(
            f"the log {path!r} in {directory!r} is not below a directory of the host",
            hint="kubernetes-log-dir is absolute, kubernetes-log-path relative and without ..",
        )
    return f"{directory}/{path}"


class _Change:
    """One change of a running pod: nobody else makes one meanwhile, and what fails is undone."""

    def __init__(self, pod: Pod) -> None:
        self.pod, self.path = pod, pod.path
        self.ask = apps.mutable(pod)
        self._undo, self._lock = Undo(), -1

    def __enter__(self) -> _Change:
        self._lock = lock.acquire(f"{self.path}/{apps.LOCK}", exclusive=True)
        return self

    def __exit__(self, *raised: Any) -> None:
        try:
            self._undo.__exit__(*raised)
        finally:
            os.close(self._lock)

    def _manifest(self) -> PodManifest:
        return PodManifest.parse_reified(Reader(status.manifest(self.pod), f"pod {self.pod.uuid}: manifest"))

    # --- an app comes ---

    def add(self, app: App, record: ImageRecord, source: Source) -> tuple[str, ...]:
        """Make the app, and tell of it; return what the user should know."""
        before, name = self._manifest(), app.name
        if name in {each.name for each in before.apps}:
            raise CannotCreate(
                f"pod {self.pod.uuid[:8]} has an app {name!r}", hint="--name=ANOTHER, or pyrkt app rm that one"
            )
        if len(before.apps) >= prepare.MOST_APPS:
            raise CannotCreate(f"pod {self.pod.uuid[:8]} has {prepare.MOST_APPS} apps", hint="pyrkt app rm one")
        own = {volume.name for volume in self.ask.volumes}
        for mount in app.mounts:
            if mount.own is None and mount.volume not in own:
                raise UsageError(
                    f"--mount names the volume {mount.volume!r}, which is none of the pod's",
                    hint=f"--mnt-volume=name={mount.volume},kind=host,source=/DIRECTORY,target={mount.target}",
                )
        seen = kubernetes_log(self.ask, app)
        self._forget(name)
        ask = self.ask.replace(apps=(app,))
        spaces = ids.recorded(self.pod)
        place = _place(ask, self.pod, spaces, source)
        one = prepare.choose(ask, app, record, source, place)
        judged = verdicts.judge((), [(name, one.bundle)])
        if ask.strict:
            judged.check()
        self._extend_lines(_TREES, record.trees)
        made, home = self._write(one, ask, spaces, source)
        manifest = reified.with_app(before, _reified(one), source.store)
        image = served.images(replace(manifest, apps=manifest.apps[-1:]), [record], source.store)[name]
        _write(f"{home}/{_IMAGE}", image)
        self._tell_of(one, made, judged, source)
        self._undo.push(remove_tree, f"{self.path}/apps/{name}")
        os.rename(home, f"{self.path}/apps/{name}")
        if seen:
            self._show_log(seen, name)
        self._serve(manifest)
        self._undo.push(self._ask_to_forget, name)
        apps.hand_over(self.pod, name)
        self._replace("pod", served.said(manifest))
        self._undo.keep()
        return (*one.remarks(), *judged.remarks(), *made.remarks)

    def _write(
        self, one: prepare.Chosen, ask: PodAsk, spaces: ids.Mappings, source: Source
    ) -> tuple[compiler.Compiled, str]:
        """Write the app's own files, where nobody looks for them yet; return its plans, and the directory."""
        making = f"{self.path}/{_MAKING}"
        remove_tree(making)
        os.mkdir(making, 0o700)
        self._undo.push(remove_tree, making)
        for name, _ in configure.empty_volumes(ask.replace(volumes=())):
            self._undo.push(remove_tree, f"{self.path}/volumes/{name}")
        prepare.make_volumes(self.path, ask, spaces)
        copied = not ask.overlay or spaces.shifted
        part = prepare.write_app(making, one, source, ask, copied=copied, shift=spaces.shift)
        made = compiler.added(part, self.path, self.pod.uuid, on_failure())
        home = f"{making}/{one.name}"
        for each in made.apps:
            file = f"{making}/{each.file.removeprefix('apps/')}"
            compiler.write_encoded(file, causes_file(file), each.plan)
        _write(f"{home}/{_TREES}", _lines(one.record.trees))
        _write(f"{home}/{apps.RECIPE}", fastjson.dumps(prepare.recipe_entry(part)).encode())
        if ask.net not in ("none", "host"):
            from pyrkt.pod import network  # noqa: PLC0415 - most pods have none

            network.resolve(self.path, home)
        return made, home

    def _show_log(self, link: str, name: str) -> None:
        os.makedirs(os.path.dirname(link), exist_ok=True)
        os.symlink(f"{self.path}/logs/{name}.log", link)
        self._undo.push(os.unlink, link)
        _write(f"{self.path}/apps/{name}/{_LINK}", link.encode())

    def _tell_of(self, one: prepare.Chosen, made: compiler.Compiled, judged: verdicts.Verdicts, source: Source) -> None:
        """Add the app to the files of the pod that gc, export, and the measurement log read."""
        directories, kill = status.cgroups(self.pod)
        self._replace("cgroups", compiler.cgroups_text((*made.remove, *directories), (*made.kill, *kill)).encode())
        entry = fastjson.loads(_read(f"{self.path}/{_MAKING}/{one.name}/{apps.RECIPE}"), "recipe")
        self._change_json("recipe", lambda value: {**value, "apps": [*value["apps"], entry]})
        origin = prepare.origin(one, source)
        self._change_json(measure.PROVENANCE, lambda value: [*value, origin])
        found = verdicts.read(self.pod)
        self._replace(verdicts.FILE, found.replace(apps=(*found.apps, *judged.apps)).dump().encode())

    # --- an app goes ---

    def remove(self, name: str) -> None:
        """Take the app away."""
        before = self._manifest()
        if name not in {app.name for app in before.apps}:
            raise NotFound(f"pod {self.pod.uuid[:8]} has no app {name!r}", hint="pyrkt app list shows the apps")
        manifest = reified.without_app(before, name, {volume.name for volume in self.ask.volumes})
        self._serve(manifest)
        self._ask_to_forget(name)  # which is refused while it runs: then nothing has changed
        self._replace("pod", served.said(manifest))
        self._undo.keep()
        self._forget(name)
        self._undo.keep()  # it is gone: what could not be taken away any more does not bring it back

    def _ask_to_forget(self, name: str) -> None:
        try:
            control.ask(self.path, control.Request(verb=control.REMOVE, name=name), control.PATIENCE_S)
        except NotFound:
            pass

    def _forget(self, name: str) -> None:
        """Take away all that there is of an app which the manifest does not name. What is gone already is fine."""
        self._ask_to_forget(name)
        mine = status.app_cgroups(self.pod, name)
        directories, kill = status.cgroups(self.pod)
        own_kill = tuple(file for file in kill if os.path.dirname(file) in mine)
        remove_cgroups(mine, own_kill)
        self._replace("cgroups", compiler.cgroups_text(_without(directories, mine), _without(kill, own_kill)).encode())
        self._change_json("recipe", lambda value: {**value, "apps": _others(value["apps"], "name", name)})
        self._change_json(measure.PROVENANCE, lambda value: _others(value, "app", name))
        found = verdicts.read(self.pod)
        left = tuple(pair for pair in found.apps if pair[0] != name)
        self._replace(verdicts.FILE, found.replace(apps=left).dump().encode())
        self._hide_log(name)
        for path in _traces(self.path, name):
            remove_tree(path)
        used = [tree for app in status.app_names(self.pod) for tree in self._trees(app)]
        self._replace(_TREES, _lines(sorted(set(used))))

    def _hide_log(self, name: str) -> None:
        try:
            link = os.fsdecode(_read(f"{self.path}/apps/{name}/{_LINK}"))
            if os.readlink(link) == f"{self.path}/logs/{name}.log":
                os.unlink(link)
        except OSError:
            pass  # it has none, or Kubernetes has taken it away

    def _trees(self, name: str) -> list[str]:
        return _read(f"{self.path}/apps/{name}/{_TREES}").decode().split()

    # --- the pod's own files ---

    def _serve(self, manifest: PodManifest) -> None:
        """Write what the metadata service will say from the moment on when the supervisor hears of the change."""
        images = {app.name: self._image(app.name) for app in manifest.apps}
        token = service.token(self.path)
        self._replace(service.FILE, served.table(self.pod.uuid, token, manifest, images))

    def _image(self, name: str) -> bytes:
        return _read(f"{self.path}/apps/{name}/{_IMAGE}")

    def _replace(self, file: str, data: bytes) -> None:
        """Write a file of the pod anew; a failure brings the old one back."""
        path = f"{self.path}/{file}"
        self._undo.push(_write, path, _read(path))
        _write(path, data)

    def _change_json(self, file: str, change: Callable[[Any], Any]) -> None:
        value = fastjson.loads(_read(f"{self.path}/{file}"), file)
        try:
            changed = change(value)
        except (KeyError, TypeError):
            raise InvalidSpec("is damaged", document=f"{self.path}/{file}", hint="make the pod anew") from None
        self._replace(file, fastjson.dumps(changed).encode())

    def _extend_lines(self, file: str, lines: tuple[str, ...]) -> None:
        self._replace(file, _lines(sorted({*_read(f"{self.path}/{file}").decode().split(), *lines})))


def _place(ask: PodAsk, pod: Pod, spaces: ids.Mappings, source: Source) -> configure.Place:
    place = prepare.placed(ask, pod.uuid, pod.path, spaces, source, service.token(pod.path))
    if ask.net in ("none", "host") or place.signs is None:
        return place
    return place.replace(
        signs=replace(place.signs, shaped=False, network="the pod's networks were there before the app")
    )


def _reified(one: prepare.Chosen) -> reified.Part:
    return reified.Part(app=one.app, name=one.name, record=one.record, bundle=one.bundle)


def _traces(path: str, name: str) -> list[str]:
    """Return the files and directories of an app, but for what other files tell of it."""
    found = [
        f"{path}/apps/{name}",
        f"{path}/status/{name}",
        f"{path}/status/{name}.restarts",
        f"{path}/status/{name}.ready",
        f"{path}/{_MAKING}",
    ]
    for directory, begin in (("logs", f"{name}.log"), ("volumes", f"{name}.")):
        names = os.listdir(f"{path}/{directory}")
        found += [f"{path}/{directory}/{each}" for each in names if each.startswith(begin)]
    return [each for each in found if os.path.lexists(each)]


def _without(given: tuple[str, ...], gone: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each for each in given if each not in gone)


def _others(entries: list[dict[str, Any]], member: str, name: str) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry[member] != name]


def _lines(words: Any) -> bytes:
    return "".join(f"{word}\n" for word in words).encode()


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def _write(path: str, data: bytes) -> None:
    write_file(path, data, durable=False)
