"""appc 0.8.11: image manifests and pod manifests.

Read by the schema's letter and beyond it where actool is lax: a manifest that passes here can be carried out as it
stands. Unknown members are left out; unknown isolators of an app are kept, so that the user can be told of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pyrkt.base import fastjson
from pyrkt.base.reader import Reader
from pyrkt.spec import appc_types as ac
from pyrkt.spec.appc_isolators import ISOLATORS, Isolator, known_only, read_isolators
from pyrkt.spec.appc_types import AC_VERSION, is_identifier, is_image_id, is_name

__all__ = [
    "AC_VERSION",
    "ISOLATORS",
    "App",
    "Dependency",
    "EventHandler",
    "ExposedPort",
    "ImageManifest",
    "Isolator",
    "Mount",
    "MountPoint",
    "PodApp",
    "PodManifest",
    "Port",
    "Volume",
    "is_identifier",
    "is_image_id",
    "is_name",
    "parse_image_manifest",
    "parse_pod_manifest",
]

_ID_MAX = (1 << 32) - 2  # 2**32 - 1 is "no change" to setresuid(2)
_SIZE_MAX = (1 << 63) - 1
_MODE = re.compile(r"[0-7]{3,4}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPoint:
    """A place where the app wants data: a volume is bound to ``name`` and mounted at the absolute ``path``."""

    name: str
    path: str
    read_only: bool = False

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read one element of ``mountPoints``."""
        return cls(
            name=ac.name(r["name"]), path=ac.mount_target(r["path"]), read_only=r["readOnly"].boolean(default=False)
        )

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        return {"name": self.name, "path": self.path} | ac.given({"readOnly": self.read_only})


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """``count`` ports from ``port`` on, which the app listens on."""

    name: str
    protocol: str
    port: int
    count: int = 1
    socket_activated: bool = False

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read one element of ``ports``, or the ``podPort`` of a pod's port."""
        port = cls(
            name=ac.name(r["name"]),
            protocol=ac.name(r["protocol"]),
            port=r["port"].integer(1, 65535),
            count=r["count"].integer(1, 65535, 1),
            socket_activated=r["socketActivated"].boolean(default=False),
        )
        if port.port + port.count - 1 > 65535:
            raise r["count"].fail(f"{port.count} ports from {port.port} on end beyond 65535")
        return port

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        return {"name": self.name, "protocol": self.protocol, "port": self.port} | ac.given(
            {"count": self.count if self.count != 1 else 0, "socketActivated": self.socket_activated}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventHandler:
    """A program run before the app starts ("pre-start") or after it has ended ("post-stop")."""

    name: str
    exec: tuple[str, ...]

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read one element of ``eventHandlers``."""
        handler = cls(name=r["name"].choice(("pre-start", "post-stop")), exec=ac.command(r["exec"]))
        if not handler.exec:
            raise r["exec"].fail("is required (an array)")
        return handler

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        return {"name": self.name, "exec": list(self.exec)}


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """How to run the image. ``exec`` is empty where only the user can say it; ``environment`` keeps its order.

    ``user`` and ``group`` are a name of the image's own passwd and group files, else a number, else the absolute
    path of a file in the image whose owner is meant; in this order.
    """

    user: str
    group: str
    exec: tuple[str, ...] = ()
    supplementary_gids: tuple[int, ...] = ()
    working_directory: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)
    isolators: tuple[Isolator, ...] = ()
    mount_points: tuple[MountPoint, ...] = ()
    ports: tuple[Port, ...] = ()
    event_handlers: tuple[EventHandler, ...] = ()
    user_annotations: Mapping[str, str] = field(default_factory=dict)
    user_labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read the ``app`` of an image manifest, or of an app in a pod manifest."""
        return cls(
            exec=ac.command(r["exec"]),
            user=ac.principal(r["user"]),
            group=ac.principal(r["group"]),
            supplementary_gids=tuple(item.integer(0, _ID_MAX) for item in r["supplementaryGIDs"].items()),
            working_directory=ac.absolute(r["workingDirectory"]) if r["workingDirectory"].present else "/",
            environment=ac.pairs(r["environment"], ac.variable),
            isolators=read_isolators(r["isolators"]),
            mount_points=tuple(MountPoint.parse(item) for item in ac.unique(r["mountPoints"], "name")),
            ports=tuple(Port.parse(item) for item in ac.unique(r["ports"], "name")),
            event_handlers=tuple(EventHandler.parse(item) for item in ac.unique(r["eventHandlers"], "name")),
            user_annotations=r["userAnnotations"].text_map(),
            user_labels=r["userLabels"].text_map(),
        )

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        return (
            ac.given({"exec": list(self.exec)})
            | {"user": self.user, "group": self.group}
            | ac.given(
                {
                    "supplementaryGIDs": list(self.supplementary_gids),
                    "workingDirectory": self.working_directory if self.working_directory != "/" else "",
                    "environment": ac.listed(self.environment),
                    "isolators": [each.dump() for each in self.isolators],
                    "mountPoints": [each.dump() for each in self.mount_points],
                    "ports": [each.dump() for each in self.ports],
                    "eventHandlers": [each.dump() for each in self.event_handlers],
                    "userAnnotations": dict(self.user_annotations),
                    "userLabels": dict(self.user_labels),
                }
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """An image whose files lie below those of this one. ``image_id`` and ``size`` (bytes) bind where given."""

    image_name: str
    image_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    size: int = 0

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read one element of ``dependencies``."""
        return cls(
            image_name=ac.identifier(r["imageName"]),
            image_id=ac.image_id(r["imageID"]) if r["imageID"].present else "",
            labels=ac.labels(r["labels"]),
            size=r["size"].integer(0, _SIZE_MAX, 0),
        )

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        return {"imageName": self.image_name} | ac.given(
            {"imageID": self.image_id, "labels": ac.listed(self.labels), "size": self.size}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageManifest:
    """What an ACI says of itself. Source: spec/aci.md, "Image Manifest Schema"."""

    name: str
    ac_version: str = AC_VERSION
    labels: Mapping[str, str] = field(default_factory=dict)
    app: App | None = None
    dependencies: tuple[Dependency, ...] = ()
    path_whitelist: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read an image manifest. Raises: InvalidSpec."""
        r = r.citing("appc 0.8, image manifest")
        return cls(
            ac_version=ac.header(r, "ImageManifest"),
            name=ac.identifier(r["name"]),
            labels=ac.labels(r["labels"]),
            app=App.parse(r["app"]) if r["app"].present else None,
            dependencies=tuple(Dependency.parse(item) for item in r["dependencies"].items()),
            path_whitelist=tuple(ac.absolute(item) for item in r["pathWhitelist"].items()),
            annotations=ac.remarks(r["annotations"]),
        )

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        return {"acKind": "ImageManifest", "acVersion": self.ac_version, "name": self.name} | ac.given(
            {
                "labels": ac.listed(self.labels),
                "app": self.app.dump() if self.app else None,
                "dependencies": [each.dump() for each in self.dependencies],
                "pathWhitelist": list(self.path_whitelist),
                "annotations": ac.listed(self.annotations),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """Data of a pod: a directory of the host (``kind`` "host", at ``source``), or a fresh one ("empty").

    ``read_only`` and ``recursive`` are None where nothing is said. ``mode``, ``uid``, ``gid``: of an empty one.
    """

    name: str
    kind: str
    source: str = ""
    read_only: bool | None = None
    recursive: bool | None = None
    mode: str = "0755"
    uid: int = 0
    gid: int = 0

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read one element of ``volumes``, or an ``appVolume``."""
        kind = r["kind"].choice(("host", "empty"))
        if kind == "empty" and r["source"].text(""):
            raise r["source"].fail("means nothing in an empty volume")
        mode = r["mode"].text("0755")
        if not _MODE.fullmatch(mode):
            raise r["mode"].fail(f"{mode!r} is not an octal mode such as 0755")
        return cls(
            name=ac.name(r["name"]),
            kind=kind,
            source=ac.absolute(r["source"]) if kind == "host" else "",
            read_only=ac.optional(r["readOnly"]),
            recursive=ac.optional(r["recursive"]),
            mode=mode,
            uid=r["uid"].integer(0, _ID_MAX, 0),
            gid=r["gid"].integer(0, _ID_MAX, 0),
        )

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        flags = {"readOnly": self.read_only, "recursive": self.recursive}
        return (
            {"name": self.name, "kind": self.kind}
            | ac.given({"source": self.source})
            | {name: value for name, value in flags.items() if value is not None}
            | ac.given({"mode": self.mode if self.mode != "0755" else "", "uid": self.uid, "gid": self.gid})
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Where an app of a pod sees a volume: ``volume`` of the pod, or the app's own ``app_volume``, at ``path``."""

    volume: str
    path: str
    app_volume: Volume | None = None

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read one element of ``mounts``."""
        own = Volume.parse(r["appVolume"]) if r["appVolume"].present else None
        return cls(volume=ac.name(r["volume"]), path=ac.mount_target(r["path"]), app_volume=own)

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        own = {"appVolume": self.app_volume.dump()} if self.app_volume else {}
        return {"volume": self.volume, "path": self.path} | own


@dataclass(frozen=True, slots=True, kw_only=True)
class PodApp:
    """One app of a pod: an image by its id, and ``app``, which, where given, replaces the image's own whole."""

    name: str
    image_id: str
    image_name: str = ""
    image_labels: Mapping[str, str] = field(default_factory=dict)
    app: App | None = None
    read_only_root_fs: bool = False
    mounts: tuple[Mount, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read one element of ``apps``."""
        image = r["image"]
        return cls(
            name=ac.name(r["name"]),
            image_id=ac.image_id(image["id"]),
            image_name=ac.identifier(image["name"]) if image["name"].present else "",
            image_labels=ac.labels(image["labels"]),
            app=App.parse(r["app"]) if r["app"].present else None,
            read_only_root_fs=r["readOnlyRootFS"].boolean(default=False),
            mounts=tuple(Mount.parse(item) for item in r["mounts"].items()),
            annotations=ac.remarks(r["annotations"]),
        )

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        image = {"id": self.image_id} | ac.given({"name": self.image_name, "labels": ac.listed(self.image_labels)})
        return {"name": self.name, "image": image} | ac.given(
            {
                "app": self.app.dump() if self.app else None,
                "readOnlyRootFS": self.read_only_root_fs,
                "mounts": [each.dump() for each in self.mounts],
                "annotations": ac.listed(self.annotations),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposedPort:
    """A port of an app made reachable on the host: ``host_port`` (0: the same number) of ``host_ip`` (empty: any)."""

    name: str
    host_port: int
    host_ip: str = ""
    pod_port: Port | None = None

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read one element of a pod's ``ports``."""
        address = r["hostIP"].text("")
        if address and not ac.is_dotted_quad(address):
            raise r["hostIP"].fail(f"{address!r} is not an IPv4 address")
        return cls(
            name=ac.name(r["name"]),
            host_port=r["hostPort"].integer(1, 65535),
            host_ip=address,
            pod_port=Port.parse(r["podPort"]) if r["podPort"].present else None,
        )

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        return {"name": self.name, "hostPort": self.host_port} | ac.given(
            {"hostIP": self.host_ip, "podPort": self.pod_port.dump() if self.pod_port else None}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PodManifest:
    """Apps that run together. Source: spec/pods.md, "Pod Manifest Schema"."""

    apps: tuple[PodApp, ...]
    ac_version: str = AC_VERSION
    volumes: tuple[Volume, ...] = ()
    isolators: tuple[Isolator, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[ExposedPort, ...] = ()
    user_annotations: Mapping[str, str] = field(default_factory=dict)
    user_labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read a pod manifest. Raises: InvalidSpec, also for an isolator it does not know: an operator wrote it."""
        manifest = cls.parse_reified(r)
        if not manifest.apps:
            raise r["apps"].citing("appc 0.8, pod manifest").fail("pod must contain at least one application")
        return manifest

    @classmethod
    def parse_reified(cls, r: Reader) -> Self:
        """Read the manifest of a pod of ours, which may have no apps (yet). Raises: InvalidSpec."""
        r = r.citing("appc 0.8, pod manifest")
        manifest = cls(
            ac_version=ac.header(r, "PodManifest"),
            apps=tuple(PodApp.parse(item) for item in ac.unique(r["apps"], "name")),
            volumes=tuple(Volume.parse(item) for item in ac.unique(r["volumes"], "name")),
            isolators=read_isolators(r["isolators"]),
            annotations=ac.remarks(r["annotations"]),
            ports=tuple(ExposedPort.parse(item) for item in ac.unique(r["ports"], "name")),
            user_annotations=r["userAnnotations"].text_map(),
            user_labels=r["userLabels"].text_map(),
        )
        known_only(r["isolators"])
        _mounts_have_volumes(r["apps"], manifest)
        return manifest

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        return {
            "acVersion": self.ac_version,
            "acKind": "PodManifest",
            "apps": [each.dump() for each in self.apps],
        } | ac.given(
            {
                "volumes": [each.dump() for each in self.volumes],
                "isolators": [each.dump() for each in self.isolators],
                "annotations": ac.listed(self.annotations),
                "ports": [each.dump() for each in self.ports],
                "userAnnotations": dict(self.user_annotations),
                "userLabels": dict(self.user_labels),
            }
        )


def parse_image_manifest(data: bytes, document: str = "image manifest") -> ImageManifest:
    """Read the ``manifest`` file of an ACI. Raises: InvalidSpec."""
    return ImageManifest.parse(Reader(fastjson.loads(data, document), document))


def parse_pod_manifest(data: bytes, document: str = "pod manifest") -> PodManifest:
    """Read a pod manifest from its bytes. Raises: InvalidSpec."""
    return PodManifest.parse(Reader(fastjson.loads(data, document), document))


def _mounts_have_volumes(apps: Reader, manifest: PodManifest) -> None:
    volumes = {volume.name for volume in manifest.volumes}
    for item, app in zip(apps.items(), manifest.apps, strict=True):
        for place, mount in zip(item["mounts"].items(), app.mounts, strict=True):
            if mount.app_volume is None and mount.volume not in volumes:
                raise place["volume"].fail(f"{mount.volume!r} is not a volume of this pod")
