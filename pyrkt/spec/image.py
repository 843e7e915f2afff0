"""Images as registries and layouts hold them: descriptors, manifests, indexes and image configurations.

OCI image-spec 1.1 and Docker schema 2, which are one family: the same documents under two sets of media types.
Strict where two readers could disagree about one document (CVE-2021-41190): both ``layers`` and ``manifests``, a
media type that is not the one it was served under, a member that equals a known one but for the case of its letters
(Go would take it, Python would not).
"""

from __future__ import annotations

import platform as _machine
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, NotFound, printable
from pyrkt.base.reader import Reader
from pyrkt.spec.digest import Digest, problem_of

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)

MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
CONFIG_TYPES = (OCI_CONFIG, DOCKER_CONFIG)
ACCEPT = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
"""What a client says it takes; a registry answers "no such tag" to one that leaves the right one out."""

LAYER_TYPES = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
)
ENCRYPTED = "+encrypted"
"""What ocicrypt appends to the media type of a layer."""

MAX_MANIFEST = 4 << 20
"""Bytes; the cap of registries and of every other client."""
_SIZE_MAX = (1 << 63) - 1
_ID_MAX = (1 << 32) - 2  # 2**32 - 1 is "no change" to setresuid(2)

# RFC 6838 section 4.2, with no parameters.
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}", re.ASCII)
_GENERIC = ("", "application/json", "application/octet-stream", "text/plain")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(?:tcp|udp|sctp))?", re.ASCII)
_SIGNAL = re.compile(r"(?:SIG)?(?:[A-Z][A-Z0-9]{1,9}|RTM(?:IN\+|AX-)\d{1,2})|[1-9]\d?", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What an image runs on, in Go's words: "linux", "arm64", "v8"."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read the ``platform`` of a descriptor, or the same members of an image configuration."""
        return cls(os=_filled(r["os"]), architecture=_filled(r["architecture"]), variant=r["variant"].text(""))

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        return _without_empty({"architecture": self.architecture, "os": self.os, "variant": self.variant})


# uname -m, and what Go calls it.
_MACHINES = {
    "x86_64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", "v8"),
    "armv8l": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
    "mips64": ("mips64le", ""),
}


def host_platform(machine: str = "") -> Platform:
    """Return the platform of this host, or of a Linux host whose ``uname -m`` says ``machine``."""
    name = machine or _machine.machine()
    architecture, variant = _MACHINES.get(name, (name, ""))
    return Platform(os="linux", architecture=architecture, variant=variant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """Content by its digest, size in bytes and media type. Source: image-spec 1.1, descriptor.md."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    urls: tuple[str, ...] = ()
    artifact_type: str = ""

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read a descriptor. ``data`` is not taken: content always comes from where its digest is checked."""
        r = r.citing("image-spec 1.1, descriptor")
        _same_case(r, _DESCRIPTOR_MEMBERS)
        return cls(
            media_type=_media_type(r["mediaType"]),
            digest=_digest(r["digest"]),
            size=r["size"].integer(0, _SIZE_MAX),
            annotations=r["annotations"].text_map(),
            platform=Platform.parse(r["platform"]) if r["platform"].present else None,
            urls=r["urls"].texts(),
            artifact_type=_media_type(r["artifactType"]) if r["artifactType"].present else "",
        )

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        members = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        return members | _without_empty(
            {
                "urls": list(self.urls),
                "annotations": dict(self.annotations),
                "platform": self.platform.dump() if self.platform else None,
                "artifactType": self.artifact_type,
            }
        )


_DESCRIPTOR_MEMBERS = ("mediaType", "digest", "size", "urls", "annotations", "platform", "artifactType", "data")
_MANIFEST_MEMBERS = (
    "schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers", "annotations", "subject", "artifactType",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image for one platform: its configuration and its layers, lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None
    artifact_type: str = ""

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        return {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.dump(),
            "layers": [layer.dump() for layer in self.layers],
        } | _without_empty(
            {
                "annotations": dict(self.annotations),
                "subject": self.subject.dump() if self.subject else None,
                "artifactType": self.artifact_type,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """One image for several platforms, or whatever else a layout lists: manifests, and other indexes."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None
    artifact_type: str = ""

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        return {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [manifest.dump() for manifest in self.manifests],
        } | _without_empty(
            {
                "annotations": dict(self.annotations),
                "subject": self.subject.dump() if self.subject else None,
                "artifactType": self.artifact_type,
            }
        )


def parse_manifest(data: bytes, content_type: str | None, document: str) -> Manifest | Index:
    """Read a manifest or an index, whichever it is.

    Takes: the bytes as served; the Content-Type they came with, or the media type of the descriptor that led here
        (None if neither); the name for complaints.
    Raises: InvalidSpec, if it is malformed, of another type than ``content_type``, or ambiguous.
    Source: image-spec 1.1, manifest.md and image-index.md; distribution-spec 1.1, "Pulling manifests".
    """
    if len(data) > MAX_MANIFEST:
        raise InvalidSpec(f"larger than {MAX_MANIFEST >> 20} MiB", document=document)
    r = Reader(fastjson.loads(data, document), document, rule="image-spec 1.1, manifest")
    _same_case(r, _MANIFEST_MEMBERS)
    served = (content_type or "").partition(";")[0].strip().lower()
    kind = _kind(r, "" if served in _GENERIC else served)
    if kind in INDEX_TYPES:
        _lacks(r, kind, ("layers", "config", "fsLayers"))
        return Index(
            media_type=kind,
            manifests=tuple(Descriptor.parse(item) for item in _array(r["manifests"])),
            annotations=r["annotations"].text_map(),
            subject=Descriptor.parse(r["subject"]) if r["subject"].present else None,
            artifact_type=r["artifactType"].text(""),
        )
    _lacks(r, kind, ("manifests", "fsLayers"))
    return Manifest(
        media_type=kind,
        config=Descriptor.parse(r["config"]),
        layers=tuple(Descriptor.parse(item) for item in _array(r["layers"])),
        annotations=r["annotations"].text_map(),
        subject=Descriptor.parse(r["subject"]) if r["subject"].present else None,
        artifact_type=r["artifactType"].text(""),
    )


def _kind(r: Reader, served: str) -> str:
    """Return the media type of the manifest ``r`` that was served as ``served`` (empty: nobody said)."""
    declared = r["mediaType"].text("")
    if "mediaType" in _names(r) and not declared:
        raise r["mediaType"].fail("must not be empty")
    for name, place in ((served, r), (declared, r["mediaType"])):
        if name in _SCHEMA1:
            raise place.fail(
                "is a Docker schema 1 manifest, which names no image securely",
                hint="push the image again with a client of this decade",
            )
        if name and name not in ACCEPT:
            raise place.fail(f"media type {name!r} is not that of an image")
    _schema_version(r)
    if served and declared and served != declared:
        raise r["mediaType"].fail(f"{declared!r} was served as {served!r}")
    if kind := declared or served:
        return kind
    if r["manifests"].present:
        return OCI_INDEX
    if r["layers"].present or r["config"].present:
        return OCI_MANIFEST
    raise r.fail("is neither an image manifest nor an index")


def _schema_version(r: Reader) -> None:
    version = r["schemaVersion"].integer(0, _SIZE_MAX)
    if version != 2:
        raise r["schemaVersion"].fail(f"must be 2, got {version}")


def _lacks(r: Reader, kind: str, names: tuple[str, ...]) -> None:
    for name in names:
        if r[name].present:
            raise r[name].fail(f"must not stand in a document of type {kind}: it would have two meanings")


def require_image(manifest: Manifest, document: str) -> None:
    """Refuse a manifest that is no image: a signature, a chart, an attestation, or layers nobody can unpack.

    Raises: InvalidSpec.
    """
    config = manifest.config.media_type
    if config not in CONFIG_TYPES:
        what = manifest.artifact_type or config
        raise InvalidSpec(
            f"is an artifact ({what}), not an image", document=document, hint="name the image it belongs to"
        )
    for number, layer in enumerate(manifest.layers):
        if layer.media_type.removesuffix(ENCRYPTED) not in LAYER_TYPES:
            raise InvalidSpec(
                f"media type {layer.media_type!r} is not that of a layer",
                document=document,
                where=f"layers[{number}].mediaType",
                rule="image-spec 1.1, layer",
            )


def choose(index: Index, platform: Platform) -> Descriptor:
    """Return the entry of ``index`` for ``platform``: the first of the best variant that runs there.

    An index without any platform serves if it has one entry only.
    Raises: NotFound, saying what there is.
    """
    entries = [entry for entry in index.manifests if entry.media_type in ACCEPT]
    ranked = [
        (rank, number, entry)
        for number, entry in enumerate(entries)
        if entry.platform and (rank := _rank(entry.platform, platform)) >= 0
    ]
    if ranked:
        return min(ranked, key=lambda row: row[:2])[2]
    if len(entries) == 1 and entries[0].platform is None:
        return entries[0]
    offered = list(dict.fromkeys(str(e.platform) for e in entries if e.platform and e.platform.os != "unknown"))
    more = f" and {len(offered) - 20} more" if len(offered) > 20 else ""
    raise NotFound(
        f"no image for {platform}; there is {printable(', '.join(offered[:20])) or 'none with a platform'}{more}",
        hint="choose one of them by its digest (NAME@sha256:...)" if offered else "",
    )


def _rank(offered: Platform, wanted: Platform) -> int:
    """Return how far ``offered`` is from ``wanted``, 0 the best; -1 if it does not run there."""
    if (offered.os, offered.architecture) != (wanted.os, wanted.architecture):
        return -1
    have, want = (_version(each) for each in (offered, wanted))
    if have is None or want is None:
        return 0 if offered.variant == wanted.variant else -1
    return want - have if have <= want else -1


def _version(platform: Platform) -> int | None:
    """Return N of the variant "vN"; of none, the architecture's base; None if it is named otherwise."""
    text = platform.variant or {"arm64": "v8", "arm": "v7", "amd64": "v1"}.get(platform.architecture, "v0")
    return int(text[1:]) if re.fullmatch(r"v[0-9]{1,2}", text, re.ASCII) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How one layer came to be; ``empty_layer`` marks a step that made none."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read one element of ``history``."""
        return cls(
            created=_time(r["created"]),
            created_by=r["created_by"].text(""),
            author=r["author"].text(""),
            comment=r["comment"].text(""),
            empty_layer=r["empty_layer"].boolean(default=False),
        )

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        return _without_empty(
            {
                "created": self.created,
                "created_by": self.created_by,
                "author": self.author,
                "comment": self.comment,
                "empty_layer": self.empty_layer,
            }
        )


_CONFIG_MEMBERS = ("created", "author", "architecture", "os", "os.version", "variant", "config", "rootfs", "history")
_EXECUTION_MEMBERS = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """How an image wants to be run, and which layers (by the digests of their plain tars) it consists of.

    Empty means absent throughout; ``env`` is "NAME=value" in order; ``volumes`` are absolute paths;
    ``exposed_ports`` as written ("80/tcp").
    """

    platform: Platform
    diff_ids: tuple[Digest, ...]
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    stop_signal: str = ""
    created: str = ""
    author: str = ""
    os_version: str = ""
    history: tuple[History, ...] = ()

    @classmethod
    def parse(cls, r: Reader) -> Self:
        """Read an image configuration. Source: image-spec 1.1, config.md."""
        r = r.citing("image-spec 1.1, config")
        _same_case(r, _CONFIG_MEMBERS)
        run = r["config"]
        _same_case(run, _EXECUTION_MEMBERS)
        r["rootfs"]["type"].choice(("layers",))
        return cls(
            platform=Platform.parse(r),
            diff_ids=tuple(_digest(item) for item in _array(r["rootfs"]["diff_ids"])),
            env=tuple(_variable(item) for item in run["Env"].items()),
            entrypoint=run["Entrypoint"].texts(),
            cmd=run["Cmd"].texts(),
            working_dir=_working_dir(run["WorkingDir"]),
            user=_user(run["User"]),
            labels=run["Labels"].text_map(),
            volumes=tuple(_volume(name, value) for name, value in run["Volumes"].members()),
            exposed_ports=tuple(_port(name, value) for name, value in run["ExposedPorts"].members()),
            stop_signal=_signal(run["StopSignal"]),
            created=_time(r["created"]),
            author=r["author"].text(""),
            os_version=r["os.version"].text(""),
            history=tuple(History.parse(item) for item in r["history"].items()),
        )

    def dump(self) -> dict[str, Any]:
        """Return the JSON object that parses to this."""
        run = {
            "User": self.user,
            "ExposedPorts": {port: {} for port in self.exposed_ports},
            "Env": list(self.env),
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.cmd),
            "Volumes": {volume: {} for volume in self.volumes},
            "WorkingDir": self.working_dir,
            "Labels": dict(self.labels),
            "StopSignal": self.stop_signal,
        }
        return (
            _without_empty({"created": self.created, "author": self.author, "os.version": self.os_version})
            | self.platform.dump()
            | _without_empty({"config": _without_empty(run)})
            | {"rootfs": {"type": "layers", "diff_ids": [str(digest) for digest in self.diff_ids]}}
            | _without_empty({"history": [step.dump() for step in self.history]})
        )


def parse_config(data: bytes, document: str = "image config") -> ImageConfig:
    """Read an image configuration from its bytes. Raises: InvalidSpec."""
    return ImageConfig.parse(Reader(fastjson.loads(data, document), document))


def user_problem(text: str) -> str:
    """Return why ``text`` is not a user as image configurations write one; empty if it is.

    Accepted: USER or USER:GROUP, each a name, or a number in plain ASCII digits up to 2**32-2.
    (Python's ``int`` would read " 1_0" and Arabic digits; Docker once read 4294967296 as 0, CVE-2024-40635.)
    """
    parts = text.split(":")
    if len(parts) > 2:
        return f"{text!r} has more than one colon"
    for part in parts:
        if not part:
            return f"{text!r} has an empty user or group"
        if _NUMBER.fullmatch(part) and int(part) <= _ID_MAX:
            continue
        if part.isnumeric():
            return f"{part!r} is not an id: 0 to {_ID_MAX} in plain digits"
        if part[0] in "-+" or not part.isprintable() or any(c.isspace() or c in "/\\,'\"" for c in part):
            return f"{part!r} is not a user or group name"
    return ""


def _user(r: Reader) -> str:
    text = r.text("")
    if text and (problem := user_problem(text)):
        raise r.fail(problem)
    return text


def _variable(r: Reader) -> str:
    text = r.text()
    name, equals, _ = text.partition("=")
    if not name or not equals:
        raise r.fail(f"{text[:80]!r} is not NAME=value")
    return text


def _working_dir(r: Reader) -> str:
    text = r.text("")
    if text and not text.startswith("/"):
        raise r.fail(f"{text!r} is not an absolute path")
    return text


def _volume(name: str, r: Reader) -> str:
    if "\0" in name or not name.startswith("/") or ".." in name.split("/") or not name.strip("/."):
        raise r.fail(f"{name!r} is not an absolute path to a directory below the root")
    r.members()
    return name


def _port(name: str, r: Reader) -> str:
    found = _PORT.fullmatch(name)
    numbers = [int(each) for each in found.groups() if each] if found else []
    if not numbers or not 1 <= numbers[0] <= numbers[-1] <= 65535:
        raise r.fail(f"{name!r} is not a port: 80, 80/tcp, 80/udp")
    r.members()
    return name


def _signal(r: Reader) -> str:
    text = r.text("")
    if text and not _SIGNAL.fullmatch(text):
        raise r.fail(f"{text!r} is not a signal", hint="write it as SIGTERM or SIGRTMIN+3")
    return text


def _time(r: Reader) -> str:
    text = r.text("")
    if text and not _TIME.fullmatch(text):
        raise r.fail(f"{text!r} is not a date and time", hint="write it as 2015-10-31T22:22:56Z (RFC 3339)")
    return text


def _digest(r: Reader) -> Digest:
    text = r.text()
    if problem := problem_of(text):
        raise r.fail(problem)
    return Digest(text)


def _media_type(r: Reader) -> str:
    text = r.text()
    if not _MEDIA_TYPE.fullmatch(text):
        raise r.fail(f"{text[:150]!r} is not a media type")
    return text


def _filled(r: Reader) -> str:
    text = r.text()
    if not text:
        raise r.fail("must not be empty")
    return text


def _array(r: Reader) -> list[Reader]:
    if not r.present:
        raise r.fail("is required (an array)")
    return r.items()


def _names(r: Reader) -> list[str]:
    return [name for name, _ in r.members()]


def _same_case(r: Reader, known: tuple[str, ...]) -> None:
    """Refuse a member that readers written in Go would take for one of ``known``: they do not mind the case."""
    folded = {name.casefold(): name for name in known}
    for name, value in r.members():
        same = folded.get(name.casefold(), name)
        if same != name:
            raise value.fail(f"differs from {same!r} only in the case of its letters: it would have two meanings")


def _without_empty(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}
