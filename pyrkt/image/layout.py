"""OCI image layouts: a directory with index.json and blobs, as skopeo, umoci and buildah write them.

What lies in a directory is checked as what a server sends. Source: image-spec 1.1, image-layout.md.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, BinaryIO

from pyrkt.base import fastjson
from pyrkt.base.errors import ImageRefused, InvalidSpec, NoPermission, NotFound, printable
from pyrkt.base.reader import Reader
from pyrkt.image.registry import Served
from pyrkt.spec.digest import Digest, algorithm, hasher, hexpart, of_hasher
from pyrkt.spec.image import MAX_MANIFEST, Index, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyrkt.spec.image import Descriptor

REF_NAME = "org.opencontainers.image.ref.name"
_CHUNK = 1 << 20


class Layout:
    """The layout in the absolute directory ``path``; ``tag`` chooses one of its images ("" if there is only one).

    The directory is opened once: a symlink on the way that changes afterwards leads nobody elsewhere. Close it.
    """

    def __init__(self, path: str, tag: str = "") -> None:
        """Open the directory; nothing in it is read yet. Raises: NotFound, NoPermission."""
        self.path, self.tag = path, tag
        try:
            self._top = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _unreadable(path, error, "oci:DIR[:TAG] names a directory") from None

    @property
    def place(self) -> str:
        """Where the directory really is, free of symlinks: what a policy judges it by."""
        return os.readlink(f"/proc/self/fd/{self._top}")

    def fresh(self) -> Layout:
        """Return the same: a forked process has a descriptor of its own."""
        return self

    def close(self) -> None:
        """Close the directory."""
        os.close(self._top)

    def top(self) -> Served:
        """Return the manifest or index that the layout's index.json has for the tag.

        Raises: NotFound, naming the tags there are; InvalidSpec; ImageRefused.
        """
        r = self._json("oci-layout", 64 << 10)
        version = r["imageLayoutVersion"].text()
        if version.partition(".")[0] != "1":
            raise r["imageLayoutVersion"].fail(f"{version!r} is not a version that pyrkt knows (1.x)")
        document = f"{self.path}/index.json"
        with self._open("index.json") as file:
            index = parse_manifest(_all(file, MAX_MANIFEST, document), None, document)
        if not isinstance(index, Index):
            raise InvalidSpec("is not an image index", document=document)
        return self.manifest_of(self._chosen(index))

    def _chosen(self, index: Index) -> Descriptor:
        tags = [entry.annotations.get(REF_NAME, "") for entry in index.manifests]
        found = [entry for entry, tag in zip(index.manifests, tags, strict=True) if not self.tag or tag == self.tag]
        if len({entry.digest for entry in found}) == 1:
            return found[0]
        offered = printable(", ".join(tag for tag in dict.fromkeys(tags) if tag)[:300])
        hint = f"oci:{self.path}:TAG; there is {offered}" if offered else ""
        if found:
            name = f"tag {self.tag!r} is given to" if self.tag else "it holds"
            raise NotFound(f"{self.path}: {name} {len(found)} images", hint=hint)
        raise NotFound(f"{self.path}: no image {f'with tag {self.tag!r}' if self.tag else 'in it'}", hint=hint)

    def manifest_of(self, descriptor: Descriptor) -> Served:
        """Return the manifest that ``descriptor`` names. Raises: ImageRefused if it is another."""
        if descriptor.size > MAX_MANIFEST:
            raise ImageRefused(f"{self.path}: manifest {descriptor.digest} is larger than {MAX_MANIFEST >> 20} MiB")
        data = b"".join(self.blob(descriptor.digest, descriptor.size))
        hashed = hasher(descriptor.digest)
        hashed.update(data)
        if of_hasher(hashed) != descriptor.digest:
            raise ImageRefused(f"{self.path}: manifest {descriptor.digest}: the content has another digest")
        return Served(data=data, content_type=descriptor.media_type, digest=descriptor.digest)

    def blob(self, digest: Digest, size: int, start: int = 0) -> Iterator[bytes]:
        """Yield a blob from byte ``start`` on; the caller compares the digest. Raises: ImageRefused for its size."""
        with self._open(f"blobs/{algorithm(digest)}/{hexpart(digest)}") as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                raise ImageRefused(f"{self.path}: blob {digest} has {found} bytes, {size} were declared")
            file.seek(start)
            left = size - start
            while left and (chunk := file.read(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk

    def _json(self, name: str, limit: int) -> Reader:
        document = f"{self.path}/{name}"
        with self._open(name) as file:
            return Reader(fastjson.loads(_all(file, limit, document), document), document)

    def _open(self, name: str) -> BinaryIO:
        path = f"{self.path}/{name}"
        try:
            # A fifo in place of a file must not hold us up; a link is fine, for the content proves itself.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            descriptor = os.open(name, flags, dir_fd=self._top)
        except OSError as error:
            raise _unreadable(path, error, "it is not an OCI image layout" if name == "oci-layout" else "") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InvalidSpec("is not a file", document=path)
        return open(descriptor, "rb", buffering=0)


def _unreadable(path: str, error: OSError, hint: str = "") -> NotFound | NoPermission:
    if isinstance(error, PermissionError):
        return NoPermission(f"{path}: {error.strerror}")
    return NotFound(f"{path}: {error.strerror}", hint=hint)


def _all(file: BinaryIO, limit: int, document: str) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise InvalidSpec(f"larger than {limit >> 10} KiB", document=document)
    return data
