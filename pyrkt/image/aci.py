"""ACIs: found by discovery, at a URL or in a file; verified as served, decrypted, unpacked, checked, rendered.

The signature is over the file as it was served, so it is judged before the file is decrypted or unpacked. Where a name
was asked for, the keys trusted for that name count. A URL or a file has no name until its manifest is read: then a
signature by any trusted key opens the quarantine, and the keys trusted for the name in the manifest decide.
Sources: appc 0.8.11, aci.md and discovery.md; rkt 1.30, "Signing and verification".
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pyrkt.base import atomic
from pyrkt.base.errors import ImageRefused, InvalidSpec, NoPermission, NotFound, NotTrusted, Unavailable
from pyrkt.image import discovery
from pyrkt.image.download import MAX_SIZE, Download, open_download
from pyrkt.image.http import Client, Request
from pyrkt.image.part import adopt
from pyrkt.image.reference import AppcRef, FileRef, UrlRef
from pyrkt.image.stored import check_vouched, find
from pyrkt.image.unpack.aci import AciNode, AciResult, render, unpack_aci
from pyrkt.kernel import process
from pyrkt.spec.appc import Dependency, ImageManifest, parse_image_manifest
from pyrkt.spec.digest import of_hasher
from pyrkt.store import ImageRecord, Signer, Store
from pyrkt.store.blobs import disk_error
from pyrkt.trust import openpgp, symmetric

if TYPE_CHECKING:
    from pyrkt.image.request import FetchRequest

_MAX_SIGNATURE = 1 << 20
_CHUNK = 1 << 20
_MAX_DEPTH, _MAX_NAMES = 32, 1024
_DEFERRED = 202
_FRAMING = 64 << 10
"""Bytes that compression and encryption may add to a small file; to a large one a 64th part of it."""
# Go's names of architectures, and appc's.
_ARCHITECTURES = {"386": "i386", "arm64": "aarch64", "arm": "armv7l"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A file with an ACI, ours to read: its verbatim bytes are at ``path`` until it is named or dropped."""

    path: Path
    signature: Callable[[], bytes]
    """Returns the detached signature, at the latest possible moment. Raises: NotTrusted."""


@dataclass(frozen=True, slots=True)
class _Way:
    """How a fetch came to a dependency: the URLs ``above`` it, and what every name met so far turned out to be.

    So a name means one image throughout, and diamonds upon diamonds cost no more than the images they consist of.
    ``most`` is how many bytes its file may have, where its dependant says how large it is.
    """

    above: tuple[str, ...] = ()
    known: dict[AppcRef, ImageRecord] = field(default_factory=dict)
    most: int = MAX_SIZE


def fetch_name(reference: AppcRef, request: FetchRequest) -> ImageRecord:
    """Fetch by discovery. Raises: PyrktError; then nothing is stored but a part that a later fetch resumes."""
    return _fetch_name(reference, request, _Way())


def _fetch_name(reference: AppcRef, request: FetchRequest, way: _Way) -> ImageRecord:
    with request.client() as client:
        credentials = request.credentials()
        architecture = request.platform.architecture
        endpoints = discovery.images(client, reference, _ARCHITECTURES.get(architecture, architecture), credentials)
        problems: list[str] = []
        for endpoint in endpoints:
            try:
                return _from_url(client, endpoint.image, endpoint.signature, reference, request, way)
            except (NotFound, Unavailable) as error:
                if len(endpoints) == 1:
                    raise
                problems.append(error.message)
    raise NotFound(f"{reference}: at none of the places that discovery names: {'; '.join(problems)}")


def fetch_url(reference: UrlRef, request: FetchRequest) -> ImageRecord:
    """Fetch from a URL. Raises: as ``fetch_name``."""
    with request.client() as client:
        return _from_url(client, reference.url, _signature_url(reference.url), reference, request, _Way())


def fetch_file(reference: FileRef, request: FetchRequest) -> ImageRecord:
    """Take the ACI in a file; its signature is in the file beside it, ``.asc`` appended. Raises: as ``fetch_name``."""

    def signature() -> bytes:
        path = Path(f"{reference.path}.asc")
        if path.exists() and not path.is_file():  # a fifo would hold us up; one given by --signature is the user's wish
            raise NotTrusted(f"{path}: is no file, so the image is not signed", hint="--signature FILE names another")
        return _signature_file(path)

    with request.store.hold(), _copied(reference.path, request) as path:
        return _take(_Found(path=path, signature=signature), reference, request, _Way())


def is_file_of(reference: FileRef, record: ImageRecord) -> bool:
    """Tell whether the file is the one that became the stored image. Raises: NotFound, NoPermission, InvalidSpec."""
    found = hashlib.sha256()
    with _regular_file(reference.path) as (source, _):
        while chunk := os.read(source, _CHUNK):
            found.update(chunk)
    return of_hasher(found) == record.blobs[0]


def _signature_url(url: str) -> str:
    path, mark, query = url.partition("?")
    return f"{path}.asc{mark}{query}"


def _from_url(
    client: Client,
    url: str,
    signature_url: str,
    reference: AppcRef | UrlRef,
    request: FetchRequest,
    way: _Way,
) -> ImageRecord:
    credentials = request.credentials()
    if url in way.above:
        raise ImageRefused(f"{reference}: depends on itself")
    with open_download(request.store, url, request.insecure) as download:
        if (known := _still_good(download, reference, request)) and time.time() < download.note.fresh_until:
            return known
        early = _early_signature(client, signature_url, reference, request)

        def signature() -> bytes:
            late = early or _signature_at(client, signature_url, discovery.authorization(signature_url, credentials))
            if late is None:
                raise NotTrusted(
                    f"{signature_url}: the signature is not ready yet ({_DEFERRED})", hint="try again later"
                )
            return late

        download.most = way.most
        if known is None:
            download.remember(image="")
        name = url.partition("?")[0].rpartition("/")[2][:40] or "image"
        try:
            if not download.load(client, discovery.authorization(url, credentials), request.progress, name):
                if known is None:
                    raise Unavailable(f"{url}: answers 304 though it was not asked whether anything changed")
                return known
            here = replace(way, above=(*way.above, url), most=MAX_SIZE)
            record = _take(_Found(path=download.path, signature=signature), reference, request, here)
        except (ImageRefused, InvalidSpec, NotFound, NotTrusted):
            download.drop()
            raise
        download.remember(image=record.id)
        return record


def _still_good(download: Download, reference: AppcRef | UrlRef, request: FetchRequest) -> ImageRecord | None:
    """Return the stored image that the URL became the last time, if it may still be used by this request."""
    if not download.note.image:
        return None
    try:
        record = request.store.images.get(download.note.image)
        check_vouched(record, reference, request)
        if isinstance(reference, AppcRef):
            _check_labels(record.name, record.labels, reference)
        if "image" not in request.insecure:
            # Nobody takes a key's withdrawal back by leaving the image unchanged.
            signature = request.store.blobs.read(record.blobs[1], _MAX_SIGNATURE)
            _verify(request.store.blobs.path(record.blobs[0]), signature, record.name, request)
        nodes([record], request.store)
    except (NotFound, NotTrusted, ImageRefused):
        return None
    return record if all(request.store.trees.has(tree) for tree in record.trees) else None


def _early_signature(client: Client, url: str, reference: AppcRef | UrlRef, request: FetchRequest) -> bytes | None:
    """Return the signature before the large file is fetched for nothing; None if it is not needed or deferred.

    Raises: NotTrusted if there is none, or nobody whose signature would count.
    """
    if "image" in request.insecure:
        return None
    _keys_for(reference.name if isinstance(reference, AppcRef) else "", request)
    if request.signature:
        return _signature_file(request.signature)
    return _signature_at(client, url, discovery.authorization(url, request.credentials()))


def _signature_at(client: Client, url: str, authorization: str) -> bytes | None:
    answer, body = client.get(Request(url=url, authorization=authorization), _MAX_SIGNATURE)
    if answer.status == _DEFERRED:
        return None
    if answer.status in {401, 403}:
        raise NoPermission(f"{url}: answers {answer.status}", hint="credentials for the host belong into auth.d")
    if answer.status in {404, 410}:
        raise NotTrusted(
            f"{url}: answers {answer.status}, so the image is not signed", hint="--insecure-options=image does without"
        )
    if answer.status != 200:
        raise Unavailable(f"{url}: answers {answer.status}")
    return body


def _signature_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_SIGNATURE)
    except FileNotFoundError:
        raise NotTrusted(
            f"{path}: there is no such file, so the image is not signed",
            hint="--signature FILE names it, --insecure-options=image does without",
        ) from None
    except OSError as error:
        raise NoPermission(f"{path}: {error.strerror}") from None


@contextmanager
def _copied(path: str, request: FetchRequest) -> Iterator[Path]:
    """Copy a file into the store's quarantine: what is verified there cannot change while it is unpacked."""
    copy = request.store.tmp / f"aci-{os.getpid()}-{os.urandom(8).hex()}"
    name = os.path.basename(path)[:40]
    try:
        with _regular_file(path) as (source, size):
            request.progress.start(name, size)
            target = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                while chunk := os.read(source, _CHUNK):
                    atomic.write_all(target, chunk)
                    request.progress.advance(name, len(chunk))
            except OSError as error:
                raise disk_error(error, f"copying {path}") from error
            finally:
                os.close(target)
            request.progress.done(name)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


@contextmanager
def _regular_file(path: str) -> Iterator[tuple[int, int]]:
    """Yield (descriptor, size in bytes) of a file of the user's."""
    try:
        # A fifo or a terminal must not hold us up.
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except PermissionError as error:
        raise NoPermission(f"{path}: {error.strerror}") from None
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}") from None
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidSpec("is not a file", document=path)
        yield source, status.st_size
    finally:
        os.close(source)


def _take(found: _Found, reference: AppcRef | UrlRef | FileRef, request: FetchRequest, way: _Way) -> ImageRecord:
    """Verify, decrypt, unpack and check the file, and store the image with all that it depends on."""
    store = request.store
    name = reference.name if isinstance(reference, AppcRef) else ""
    signature = b""
    signers: tuple[Signer, ...] = ()
    if "image" not in request.insecure:
        signature = _signature_file(request.signature) if request.signature else found.signature()
        signers = (_verify(found.path, signature, name, request),)
    with _plain(found.path, request) as (plain, encrypted):
        stage = store.trees.stage()
        try:
            result = _unpack(plain, stage)
            manifest = parse_image_manifest(result.manifest, f"manifest of {reference}")
            if signature and not name:
                signers = (_verify(found.path, signature, manifest.name, request),)
            _check(manifest, reference, request)
            needed = _dependencies(manifest, request, way)
            meta = {"entries": result.checked, "size": result.size, "entries_count": result.entries}
            store.trees.commit(stage, result.image_id, meta)
        except BaseException:
            store.trees.discard(stage)
            raise
    node = AciNode(
        id=result.image_id,
        dependencies=nodes(needed, store),
        path_whitelist=manifest.path_whitelist,
    )
    trees = render(store, node)
    size = found.path.stat().st_size
    file = adopt(store, found.path)
    kept = (file, store.blobs.put(signature)) if signature else (file,)
    now = time.time()
    return store.images.put(
        ImageRecord(
            id=result.image_id,
            kind="appc",
            name=manifest.name,
            reference=str(reference),
            labels=dict(manifest.labels),
            manifest=store.blobs.put(result.manifest),
            blobs=kept,
            trees=trees,
            dependencies=tuple(record.id for record in needed),
            signers=signers,
            encrypted=encrypted,
            insecure=request.off(),
            size=size + result.size,
            imported=now,
            last_used=now,
            latest=isinstance(reference, AppcRef) and not reference.version,
        )
    )


def _keys_for(name: str, request: FetchRequest) -> list[bytes]:
    """Return the keys that may sign images called ``name``; all there are, where the name is not known yet."""
    keys = request.keystore.keys_for(name) if name else request.keystore.all()
    if not keys:
        whom = f"images named {name}" if name else "any image"
        raise NotTrusted(
            f"no key is trusted to sign {whom}",
            hint=f"pyrkt trust --prefix {name or 'NAME'}, or --insecure-options=image to do without signatures",
        )
    return [key.data for key in keys]


def _verify(path: Path, signature: bytes, name: str, request: FetchRequest) -> Signer:
    document = f"signature of {name}" if name else "signature"
    return openpgp.verify_detached(path, signature, _keys_for(name, request), document=document)


@contextmanager
def _plain(path: Path, request: FetchRequest) -> Iterator[tuple[Path, bool]]:
    """Yield (the file, whether it was encrypted); of an encrypted one, a decrypted copy in quarantine."""
    with path.open("rb") as file:
        head = file.read(64)
    if not symmetric.is_encrypted(head):
        yield path, False
        return
    into = request.store.tmp / f"aci-plain-{os.getpid()}-{os.urandom(8).hex()}"
    try:
        symmetric.decrypt(path, request.keys, into, document="image")
        yield into, True
    finally:
        into.unlink(missing_ok=True)


def _unpack(path: Path, stage: Path) -> AciResult:
    with open(path, "rb", buffering=0) as file:
        return unpack_aci(file, stage, owner="keep" if process.gives_files_away() else "caller")


def _check(manifest: ImageManifest, reference: AppcRef | UrlRef | FileRef, request: FetchRequest) -> None:
    """Refuse an image that is not the one asked for, or does not run here. Source: discovery.md; aci.md, labels."""
    if isinstance(reference, AppcRef):
        _check_labels(manifest.name, dict(manifest.labels), reference)
    architecture = request.platform.architecture
    fits = {"os": request.platform.os, "arch": _ARCHITECTURES.get(architecture, architecture)}
    for label, here in fits.items():
        said = manifest.labels.get(label, here)
        if said != here:
            raise ImageRefused(f"{manifest.name}: is for {label} {said!r}, this host is {here!r}")


def _check_labels(name: str, labels: dict[str, str], reference: AppcRef) -> None:
    if name != reference.name:
        raise ImageRefused(f"{reference}: the image that came calls itself {name!r}")
    for label, value in reference.wanted().items():
        if labels.get(label) != value:
            said = repr(labels[label]) if label in labels else "nothing"
            raise ImageRefused(f"{reference}: the image that came says {said} for the label {label!r}")


def _dependencies(manifest: ImageManifest, request: FetchRequest, way: _Way) -> list[ImageRecord]:
    """Return the records of what the image depends on, in its order, fetched where needed."""
    if len(way.above) > _MAX_DEPTH:
        raise ImageRefused(f"{manifest.name}: depends on others more than {_MAX_DEPTH} levels deep")
    # A signature that was given by hand is for the image that was asked for.
    inner = replace(request, signature=None)
    return [_dependency(each, inner, way) for each in manifest.dependencies]


def _dependency(needed: Dependency, request: FetchRequest, way: _Way) -> ImageRecord:
    labels = dict(needed.labels)
    version = labels.pop("version", "")
    reference = AppcRef(name=needed.image_name, version=version, labels=tuple(sorted(labels.items())))
    record = way.known.get(reference) or _stored_dependency(needed, reference, request)
    if record is None:
        most = needed.size + (needed.size >> 6) + _FRAMING if needed.size else MAX_SIZE
        record = _fetch_name(reference, request, replace(way, most=most))
    if len(way.known) > _MAX_NAMES:
        raise ImageRefused(f"{reference}: is one of more than {_MAX_NAMES} images that one image depends on")
    if needed.image_id and record.id != needed.image_id:
        raise ImageRefused(f"{reference}: has the id {record.id[:19]}, its dependant wants {needed.image_id[:19]}")
    if needed.size and needed.size not in _sizes(record, request.store):
        raise ImageRefused(f"{reference}: has not the {needed.size} bytes that its dependant wants")
    way.known[reference] = record
    return record


def _stored_dependency(needed: Dependency, reference: AppcRef, request: FetchRequest) -> ImageRecord | None:
    """Return the dependency if it is stored, whole, and fetching it anew would not find another one."""
    if request.pull_policy == "update" and not needed.image_id:
        return None
    try:
        if needed.image_id:
            record = request.store.images.get(needed.image_id)
            check_vouched(record, reference, request)
            _check_labels(record.name, record.labels, reference)
        else:
            record = find(reference, request)
        nodes([record], request.store)
    except (NotFound, NotTrusted):
        return None
    return record


def _sizes(record: ImageRecord, store: Store) -> set[int]:
    """Return the sizes of an image that its dependants may mean: of the file as served, and of the plain tar."""
    return {store.blobs.size(record.blobs[0]), int(store.trees.meta(record.id).get("size", 0))}


def nodes(records: list[ImageRecord], store: Store) -> tuple[AciNode, ...]:
    """Return what has to be rendered for ``records``. Raises: NotFound if of them, or below, something is gone."""
    made: dict[str, AciNode] = {}

    def node(record: ImageRecord, depth: int) -> AciNode:
        if depth > _MAX_DEPTH:
            raise ImageRefused(f"{record.name}: depends on others more than {_MAX_DEPTH} levels deep")
        if record.id not in made:
            if not store.trees.has(record.id):
                raise NotFound(f"{record.name}: its tree is gone", hint="fetch the image again")
            manifest = parse_image_manifest(store.blobs.read(record.manifest, 4 << 20), f"manifest of {record.name}")
            below = tuple(node(store.images.get(identity), depth + 1) for identity in record.dependencies)
            made[record.id] = AciNode(id=record.id, dependencies=below, path_whitelist=manifest.path_whitelist)
        return made[record.id]

    return tuple(node(record, 0) for record in records)
