"""An app of a pod as an ACI: its files as it left them, and a manifest that runs it again as it ran."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import tarfile
from typing import TYPE_CHECKING, Any

from pyrkt.base import fastjson
from pyrkt.base.errors import CannotCreate, InvalidSpec, NotFound, printable
from pyrkt.base.reader import Reader
from pyrkt.image.unpack.copy import is_own
from pyrkt.pod.configure import appc_manifest
from pyrkt.pod.status import IMAGE_ID, IMAGE_NAME
from pyrkt.spec import appc_types
from pyrkt.spec.appc import AC_VERSION, is_identifier, parse_image_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyrkt.spec.runtime import IdMapping
    from pyrkt.store import Rootfs, Store
    from pyrkt.store.rootfs import Entry

_NOBODY = 65534
"""Whom an id without a number in the pod's user namespace belonged to, as the app saw it (proc_sys_kernel(5))."""
_EXECUTORS = frozenset(("AC_APP_NAME", "AC_METADATA_URL", "container"))
"""Variables that whoever runs the image sets. Source: appc 0.8.11, Executor Perspective."""
_ARCHITECTURES = {"386": "i386", "arm64": "aarch64", "arm": "armv7l"}
"""appc's names where Go, and so OCI, has others."""
_ACL = ("system.posix_acl_access", "system.posix_acl_default")
_ACL_USER, _ACL_GROUP = 0x02, 0x08  # include/uapi/linux/posix_acl.h
_CAPABILITY = "security.capability"
_VFS_CAP_V2, _VFS_CAP_V3 = 0x02000000, 0x03000000  # include/uapi/linux/capability.h
_NS = 10**9


class Ids:
    """The ids of the host behind those of a pod, read backwards. Without mappings both are the same."""

    def __init__(self, uids: tuple[IdMapping, ...], gids: tuple[IdMapping, ...]) -> None:
        """Take the mappings of the pod's user namespace."""
        self._uids, self._gids = uids, gids

    def uid(self, number: int) -> int:
        """Return the user that ``number`` of the host is in the pod."""
        return _inside(self._uids, number)

    def gid(self, number: int) -> int:
        """Return the group that ``number`` of the host is in the pod."""
        return _inside(self._gids, number)

    def attribute(self, name: str, value: bytes) -> bytes | None:
        """Return the extended attribute as the pod saw it; None if it had no such one."""
        if name == _CAPABILITY:
            return self._capability(value)
        if name in _ACL and (self._uids or self._gids):
            return b"".join(self._entries(value))
        return value

    def _capability(self, value: bytes) -> bytes | None:
        # Version 3 names the root of the user namespace that gave them; there they look like version 2.
        if len(value) != 24 or struct.unpack_from("<I", value)[0] & 0xFF000000 != _VFS_CAP_V3:
            return value
        (magic, *masks, root) = struct.unpack("<6I", value)
        if self.uid(root) != 0:
            return None
        return struct.pack("<5I", magic & 0x00FFFFFF | _VFS_CAP_V2, *masks)

    def _entries(self, value: bytes) -> Iterator[bytes]:
        yield value[:4]
        for tag, permissions, number in struct.iter_unpack("<HHI", value[4:]):
            inside = self.uid(number) if tag == _ACL_USER else self.gid(number) if tag == _ACL_GROUP else number
            yield struct.pack("<HHI", tag, permissions, inside)


def _inside(mappings: tuple[IdMapping, ...], number: int) -> int:
    if not mappings:
        return number
    for mapping in mappings:
        if 0 <= number - mapping.host_id < mapping.size:
            return mapping.container_id + number - mapping.host_id
    return _NOBODY


def manifest(app: dict[str, Any], store: Store | None) -> bytes:
    """Return the image manifest for ``app``, an entry of a pod manifest whose paths, users and words are settled.

    What the pod manifest does not say of the app (ports, handlers) is taken from its image, if it is an ACI and still
    stored. It depends on no other image: all files are its own. Raises: InvalidSpec.
    """
    image = _image(app["image"].get("id", ""), store)
    found = {**image.get("app", {}), **app.get("app", {})}
    found["environment"] = [one for one in found.get("environment", []) if _is_portable(one)]
    labels = {one["name"]: one["value"] for one in image.get("labels") or app["image"].get("labels", [])}
    labels = {name: value for name, value in labels.items() if name not in (IMAGE_ID, IMAGE_NAME)}
    if "arch" in labels:
        labels["arch"] = _ARCHITECTURES.get(labels["arch"], labels["arch"])
    value: dict[str, Any] = {
        "acKind": "ImageManifest",
        "acVersion": AC_VERSION,
        "name": _identifier(app["image"].get("name") or app["name"]),
        "labels": [{"name": name, "value": text} for name, text in sorted(labels.items())],
        "app": found,
    }
    if image.get("annotations"):
        value["annotations"] = image["annotations"]
    data = fastjson.dumps(value).encode()
    parse_image_manifest(data, f"manifest of {app['name']}")
    return data


def _image(identity: str, store: Store | None) -> dict[str, Any]:
    if store is None or not identity.startswith("sha512-"):
        return {}
    try:
        return appc_manifest(store.images.get(identity), store).dump()
    except NotFound:
        return {}


def _is_portable(variable: dict[str, str]) -> bool:
    """Tell whether the variable is the image's to set, by a name that appc knows."""
    try:
        name = appc_types.variable(Reader(variable.get("name"), "environment"))
    except InvalidSpec:
        return False
    return name not in _EXECUTORS


def _identifier(name: str) -> str:
    if is_identifier(name):
        return name
    words = "/".join(re.sub(r"[^a-z0-9._~-]+", "-", part).strip("-._~") for part in name.lower().split("/"))
    plain = re.sub(r"[-._~/]{2,}", "-", words).strip("/")
    return plain if is_identifier(plain) else "app"


def write(target: Path, said: bytes, rootfs: Rootfs, ids: Ids) -> list[str]:
    """Write an ACI with the manifest ``said`` and the merged tree ``rootfs`` to the new file ``target``; sync it.

    The same tree gives the same bytes: names are sorted, and nothing of the host is in it but the ids that have no
    other name. Returns what had to be left out, in words. Raises: CannotCreate.
    """
    archive = _Archive(rootfs, ids)
    try:
        with target.open("xb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
                archive.fill(tar, said)
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError as error:
        if target.parent.is_dir():
            raise
        raise CannotCreate(f"{target.parent}: no such directory", hint=f"mkdir -p {target.parent}") from error
    return archive.left_out


class _Archive:
    def __init__(self, rootfs: Rootfs, ids: Ids) -> None:
        self._rootfs, self._ids = rootfs, ids
        self._links: dict[tuple[int, int], str] = {}  # (device, inode) -> the name it was first written by
        self.left_out: list[str] = []

    def fill(self, tar: tarfile.TarFile, said: bytes) -> None:
        header = tarfile.TarInfo("manifest")
        header.mode, header.size = 0o644, len(said)
        tar.addfile(header, io.BytesIO(said))
        todo = [(self._rootfs.root(), "rootfs")]
        while todo:
            entry, name = todo.pop()
            self._add(tar, entry, name)
            if entry.is_dir:
                names = list(self._rootfs.names(entry))
                below = [(self._rootfs.child(entry, one), f"{name}/{os.fsdecode(one)}") for one in reversed(names)]
                todo.extend((child, path) for child, path in below if child is not None)

    def _add(self, tar: tarfile.TarFile, entry: Entry, name: str) -> None:
        header = self._header(entry, name)
        if header is None:
            self.left_out.append(f"{printable(name.removeprefix('rootfs'))}: a socket is left out")
        elif header.type == tarfile.REGTYPE:
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                tar.addfile(header, file)
        else:
            tar.addfile(header)

    def _header(self, entry: Entry, name: str) -> tarfile.TarInfo | None:
        status, header = entry.status, tarfile.TarInfo(name)
        header.mode = stat.S_IMODE(status.st_mode)
        header.uid, header.gid = self._ids.uid(status.st_uid), self._ids.gid(status.st_gid)
        seconds, fraction = divmod(status.st_mtime_ns, _NS)
        header.mtime = seconds
        more = {"mtime": f"{seconds}.{fraction:09d}"} if fraction else {}
        identity = (status.st_dev, status.st_ino)
        if not entry.is_dir and identity in self._links:
            header.type, header.linkname, header.pax_headers = tarfile.LNKTYPE, self._links[identity], more
            return header
        kind = stat.S_IFMT(status.st_mode)
        if kind not in _TYPES:
            return None
        header.type = _TYPES[kind]
        if kind == stat.S_IFREG:
            header.size = status.st_size
        elif kind == stat.S_IFLNK:
            header.linkname = os.fsdecode(os.readlink(entry.path))
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            header.devmajor, header.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        if not entry.is_dir and status.st_nlink > 1:
            self._links[identity] = name
        header.pax_headers = more | self._attributes(entry.path)
        return header

    def _attributes(self, path: bytes) -> dict[str, str]:
        found = {}
        for name in sorted(os.listxattr(path, follow_symlinks=False)):
            if is_own(name):
                continue
            value = self._ids.attribute(name, os.getxattr(path, name, follow_symlinks=False))
            if value is not None:
                found[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")
        return found


_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}
