"""The story of a pod, top to bottom: images, configurations, bundles, the plan. What it ends in is a prepared pod."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrkt.base import fastjson, log
from pyrkt.base.errors import NoPermission, UsageError
from pyrkt.base.record import Record
from pyrkt.base.undo import Undo
from pyrkt.bundle.write import config_text, write
from pyrkt.image.unpack.flatten import flatten
from pyrkt.metadata import token as tokens
from pyrkt.pod import configure, directory, flavours, ids, kept, measure, reified, served, service, signs, verdicts
from pyrkt.pod.compile import SHARED, Shared, compiled, write_plan
from pyrkt.pod.directory import save_uuid, write_new
from pyrkt.pod.flavour import FLAVOUR
from pyrkt.pod.program import on_failure, wires
from pyrkt.pod.start import made
from pyrkt.store.remove import remove_tree

if TYPE_CHECKING:
    from pyrkt.bundle.assemble import Bundle
    from pyrkt.bundle.isolators import Limits
    from pyrkt.pod.ask import App, PodAsk
    from pyrkt.pod.compile import Part
    from pyrkt.pod.directory import Held, Pods
    from pyrkt.pod.images import Source
    from pyrkt.store import ImageRecord, Rootfs


MOST_APPS, LONGEST_NAME = 64, 63
"""Of a pod, and of an app: stage1's MAX_APPS and APP_NAME."""


class Chosen(Record):
    """One app on its way: what was asked, the image that was found, the name that results, its bundle."""

    app: App
    record: ImageRecord
    name: str
    bundle: Bundle

    def remarks(self) -> tuple[str, ...]:
        """Return what the user should know of the app, its isolators apart."""
        return tuple(f"{self.name}: {remark}" for remark in self.bundle.warnings)


class Made(Record):
    """A pod that was made, locked, in ``prepare``; the ids of its images, and what the user was told."""

    pod: Held
    images: tuple[str, ...]
    remarks: tuple[str, ...]


def prepare(ask: PodAsk, pods: Pods, source: Source, *, uuid_file: str = "", detach: bool = False) -> Made:
    """Make a pod from what is asked, up to its plan.

    Whatever fails leaves nothing: the pod's directory goes again.
    Raises: what fetching, configuring and compiling raise.
    """
    flavours.check(ask)
    # From before the images are found: gc must not take them until the pod says that it uses them.
    with source.hold(), Undo() as undo:
        images = [source.image(app) for app in ask.apps]
        _check_names(ask, images)
        pod = pods.create()
        undo.push(os.close, pod.descriptor)
        undo.push(remove_tree, pod.path)
        if uuid_file:
            save_uuid(uuid_file, pod)
        remarks = _fill(pod, ask, images, pods, source, detach=detach)
        undo.keep()
    for remark in remarks:
        log.warn(remark)
    return Made(pod=pod, images=tuple(record.id for record in images), remarks=remarks)


def check_length(name: str) -> None:
    """Refuse a name that the pod's supervisor has no room for."""
    if len(name) > LONGEST_NAME:
        raise UsageError(f"the name {name!r} has more than {LONGEST_NAME} characters", hint="--name=SHORTER")


def _check_names(ask: PodAsk, images: list[ImageRecord]) -> None:
    if len(images) > MOST_APPS:
        raise UsageError(f"a pod of {len(images)} apps: {MOST_APPS} at most", hint="make more pods")
    seen: set[str] = set()
    for app, record in zip(ask.apps, images, strict=True):
        name = configure.app_name(app, record)
        check_length(name)
        if name in seen:
            raise UsageError(f"two of the apps are named {name!r}", hint=f"{app.image} --name=ANOTHER")
        seen.add(name)


def _fill(
    pod: Held, ask: PodAsk, images: list[ImageRecord], pods: Pods, source: Source, *, detach: bool
) -> tuple[str, ...]:
    """Write everything of the pod, the files that gc needs first; return what the user should be told."""
    write_new(f"{pod.path}/created", str(time.time_ns()).encode())
    trees = sorted({tree for record in images for tree in record.trees})
    write_new(f"{pod.path}/trees", "".join(f"{tree}\n" for tree in trees).encode())
    final = pods.path(directory.RUN, pod.uuid)
    spaces = ids.mappings(private=ask.private_users, pods=pods, pod=pod)
    place = placed(ask, pod.uuid, final, spaces, source, tokens.new())
    chosen = tuple(choose(ask, app, record, source, place) for app, record in zip(ask.apps, images, strict=True))
    limits, judged = _judge(pod, ask, chosen, place)
    for name in ("apps", "logs", "status", "volumes", *([flavours.STATE] if ask.flavour.is_foreign else ())):
        os.mkdir(f"{pod.path}/{name}", 0o700)
    make_volumes(pod.path, ask, spaces)
    copied = not ask.overlay or spaces.shifted
    apps = f"{pod.path}/apps"
    parts = tuple(write_app(apps, one, source, ask, copied=copied, shift=spaces.shift) for one in chosen)
    parts = tuple(part.replace(flavour=ask.flavour) for part in parts)
    write_new(f"{pod.path}/{FLAVOUR}", ask.flavour.text().encode("utf-8", "surrogateescape"))
    _documents(pod, ask, chosen, source, place.token)
    config = configure.shared(ask, limits, [one.bundle for one in chosen], place)
    shared = Shared(config=config, is_mutable=ask.is_mutable)
    if ask.is_mutable:
        kept.write(pod.path, ask)
    write_recipe(pod.path, shared, parts, detach=detach)
    write_new(f"{pod.path}/net", ask.net.encode())
    _wishes(pod, ask, configure.bandwidth(limits, [one.bundle for one in chosen]), late=bool(spaces.uids))
    wired = wires(os.path.dirname(pods.root), pod.uuid, ask.net, userns=bool(spaces.uids))
    plan = compiled(shared, parts, final, pod.uuid, detach=detach, on_failure=on_failure(), wires=wired)
    write_plan(pod.path, plan)
    for record in images:
        source.store.images.touch(record.id)
    return (*_told(ask, chosen), *judged.remarks(), *plan.remarks)


def _told(ask: PodAsk, chosen: tuple[Chosen, ...]) -> tuple[str, ...]:
    """Return what the user should know of the pod and its apps, their isolators apart."""
    alone = ask.ports and ask.net in ("none", "host")
    ports = ("the ports of the pod are not published: it has no network of its own",) if alone else ()
    return (*(remark for one in chosen for remark in one.remarks()), *ports)


def _documents(pod: Held, ask: PodAsk, chosen: tuple[Chosen, ...], source: Source, token: str) -> None:
    """Write what the pod is: for people, for its apps, and for the measurement log."""
    found = tuple(reified.Part(app=one.app, name=one.name, record=one.record, bundle=one.bundle) for one in chosen)
    manifest = reified.manifest(ask, found, source.store)
    write_new(f"{pod.path}/pod", served.said(manifest))
    images = served.images(manifest, [one.record for one in chosen], source.store)
    write_new(f"{pod.path}/{service.FILE}", served.table(pod.uuid, token, manifest, images))
    measure.write_origins(pod.path, [origin(one, source) for one in chosen])


def placed(ask: PodAsk, uuid: str, final: str, spaces: ids.Mappings, source: Source, token: str) -> configure.Place:
    """Return where the pod ``uuid`` will be, ``final`` its directory then, on this host as it is."""
    shaped, why = source.shapes(ask.net)
    found = signs.look(final, userns=bool(spaces.uids), apps=len(ask.apps), shaped=shaped, network=why)
    return configure.Place(
        uuid=uuid, path=final, token=token, signs=found, uid_mappings=spaces.uids, gid_mappings=spaces.gids
    )


def _judge(
    pod: Held, ask: PodAsk, chosen: tuple[Chosen, ...], place: configure.Place
) -> tuple[Limits, verdicts.Verdicts]:
    """Return the limits of the whole pod, and what became of every isolator, which is written down, too.

    Raises: StartFailed where --strict does not take it.
    """
    limits, reports = configure.pod_limits(ask, place)
    judged = verdicts.judge(reports, ((one.name, one.bundle) for one in chosen), ask.flavour.name)
    if ask.strict:
        judged.check()
    write_new(f"{pod.path}/{verdicts.FILE}", judged.dump().encode())
    return limits, judged


def _wishes(pod: Held, ask: PodAsk, bandwidth: dict[str, int], *, late: bool) -> None:
    """Write what is asked of the pod's networks, for the moment when it starts."""
    if ask.net in ("none", "host") and not (ask.names.is_given or bandwidth):
        return
    from pyrkt.pod import wishes  # noqa: PLC0415 - most pods have no network

    wished = wishes.Wishes(names=ask.names, bandwidth=bandwidth)
    wishes.write(pod.path, wished)
    if ask.net not in ("none", "host"):
        wishes.request(pod.path, ask.net, wished, late=late)


def choose(ask: PodAsk, app: App, record: ImageRecord, source: Source, place: configure.Place) -> Chosen:
    """Return the app with its container. Raises: what configuring raises."""
    name = configure.app_name(app, record)
    found = configure.compose(ask, app, record, source.store, place)
    return Chosen(app=app, record=record, name=name, bundle=found)


def origin(one: Chosen, source: Source) -> dict[str, Any]:
    """Return where the app's image is from, with all those that it was rendered of."""
    images = source.store.images
    below: dict[str, ImageRecord] = {}
    waiting = list(one.record.dependencies)
    while waiting:
        identity = waiting.pop(0)
        if identity not in below:
            below[identity] = images.get(identity)
            waiting += below[identity].dependencies
    return measure.origin(one.name, one.record, below.values())


def make_volumes(path: str, ask: PodAsk, spaces: ids.Mappings) -> None:
    """Make the directories of the empty volumes of the pod in ``path``; those that are there stay as they are."""
    for name, volume in configure.empty_volumes(ask):
        if os.path.lexists(f"{path}/volumes/{name}"):
            continue
        owner = ids.on_host(spaces.uids, volume.uid), ids.on_host(spaces.gids, volume.gid)
        try:
            _make_directory(f"{path}/volumes/{name}", volume.mode, *owner)
        except PermissionError:
            raise NoPermission(
                f"volume {name}: an ordinary user cannot give a directory to {volume.uid}:{volume.gid}",
                hint="leave out uid and gid, or have the app change them",
            ) from None


def write_app(path: str, one: Chosen, source: Source, ask: PodAsk, *, copied: bool, shift: int) -> Part:
    """Write the app's bundle below ``path``; its root is an overlay over the image's trees, or a copy of them."""
    home = f"{path}/{one.name}"
    os.mkdir(home, 0o700)
    part = configure.part(ask, one.name, one.app, one.bundle)
    root = configure.rootfs(source.store, one.record)
    write(Path(home), one.bundle, root)
    if shift and one.bundle.volumes:
        ids.shift(f"{home}/volumes", shift)
    if copied:
        os.rmdir(f"{home}/rootfs")
        flatten(root, Path(home, "rootfs"))
        make_room(home + "/rootfs", root, one.bundle.replaced)
        if shift:
            ids.shift(f"{home}/rootfs", shift)
        return part
    for name in ("upper", "work"):
        os.mkdir(f"{home}/{name}", 0o755)
    # The container sees the upper directory's own mode and owner as those of "/".
    status = root.root().status
    os.chown(f"{home}/upper", status.st_uid, status.st_gid)
    os.chmod(f"{home}/upper", status.st_mode & 0o7777)
    make_room(f"{home}/upper", root, one.bundle.replaced)
    return part.replace(lowers=tuple(reversed(root.lowers)))


def make_room(top: str, root: Rootfs, paths: tuple[str, ...]) -> None:
    """Put a directory in the place of each file ``paths`` of ``root``, in its copy or its overlay's upper ``top``.

    An upper directory hides the file below it; those on the way to it get the image's mode and owner.
    """
    for path in paths:
        *above, name = path.strip("/").split("/")
        here = top
        for depth, part in enumerate(above, 1):
            here = f"{here}/{part}"
            entry = root.lookup("/".join(above[:depth]))
            if entry is not None and not os.path.lexists(here):
                _make_directory(here, entry.status.st_mode, entry.status.st_uid, entry.status.st_gid)
        if os.path.lexists(f"{here}/{name}"):
            os.unlink(f"{here}/{name}")
        _make_directory(f"{here}/{name}", 0o755, os.geteuid(), os.getegid())


def _make_directory(path: str, mode: int, uid: int, gid: int) -> None:
    os.mkdir(path, 0o700)
    if (uid, gid) != (os.geteuid(), os.getegid()):
        os.chown(path, uid, gid)
    os.chmod(path, mode & 0o7777)  # whatever the umask, and after the chown, which would take setgid away


def write_recipe(path: str, shared: Shared, parts: tuple[Part, ...], *, detach: bool) -> None:
    """Write what the pod's plan was made of, and for what, so that run-prepared knows whether it still fits."""
    write_new(f"{path}/{SHARED}", config_text(shared.config).encode())
    write_new(f"{path}/recipe", fastjson.dumps({"apps": list(map(recipe_entry, parts))}).encode())
    write_new(f"{path}/made", made(detach=detach).encode())


def recipe_entry(part: Part) -> dict[str, Any]:
    """Return what the plans of one app were made of, beside its config.json."""
    return {
        "name": part.name,
        "lowers": list(part.lowers),
        "preStart": list(part.pre_start),
        "postStop": list(part.post_stop),
        "policy": {field: getattr(part.policy, field) for field in part.policy._fields},
        "streams": part.wish.as_json(),
        "listen": [{"port": port, "udp": udp} for port, udp in part.listen],
    }
