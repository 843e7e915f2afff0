"""Images of registries and layouts: resolved once to a digest, judged, then their layers fetched side by side.

The order is the point. A tag is looked up once, and everything after goes by digest. Signatures are judged before the
first layer is asked for. Each layer streams through one pipe: server, size and digest, decompression, diffID, tree,
into a place of quarantine. Only when all of them are right do they get the names by which anybody finds them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pyrkt.base.errors import ImageRefused, InvalidSpec, NotFound, NotTrusted
from pyrkt.image import lookaside
from pyrkt.image.layout import Layout
from pyrkt.image.part import Part, Proof, forget, promote
from pyrkt.image.registry import Registry, Served
from pyrkt.image.unpack.layers import Counted, LayerResult, Staged, assemble, stored, unpack_layer
from pyrkt.image.workers import Job, Report, run_all
from pyrkt.kernel import lock, process
from pyrkt.spec.digest import Digest, hasher, hexpart, of_bytes, of_hasher
from pyrkt.spec.image import (
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    choose,
    parse_config,
    parse_manifest,
    require_image,
)
from pyrkt.store import ImageRecord, Signer
from pyrkt.trust import ocicrypt
from pyrkt.trust.identity import DockerImage, Image, LayoutImage
from pyrkt.trust.policy import Signature, SignedBy, judge

if TYPE_CHECKING:
    from pyrkt.image.reference import DockerRef, LayoutRef
    from pyrkt.image.request import FetchRequest
    from pyrkt.trust.ocicrypt import LayerCipher

_MAX_CONFIG = 8 << 20
_MAX_NESTING = 4
_MAX_LAYERS = 1024


class Source(Protocol):
    """Where manifests and blobs come from."""

    def manifest_of(self, descriptor: Descriptor) -> Served:
        """Return a manifest by its digest, which it has."""

    def blob(self, digest: Digest, size: int, start: int = 0) -> Iterator[bytes]:
        """Yield a blob from byte ``start`` on; its size is checked, its digest not."""

    def fresh(self) -> Source:
        """Return one that a forked process may use."""

    def close(self) -> None:
        """Close its connections."""


@dataclass(slots=True, kw_only=True)
class _Verdict:
    """Who judged well of which manifests; ``kept`` are the documents to store: signatures, indexes."""

    signers: list[Signer] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resolved:
    """An image of one platform, judged, nothing of its layers fetched."""

    served: Served
    manifest: Manifest
    config_data: bytes
    config: ImageConfig
    verdict: _Verdict

    @property
    def id(self) -> str:
        return f"sha256-{hexpart(of_bytes(self.served.data))}"


def fetch_docker(reference: DockerRef, request: FetchRequest) -> ImageRecord:
    """Fetch from a registry. Raises: PyrktError; then nothing is stored but parts that a later fetch resumes."""
    digest = reference.digest or ""
    image = DockerImage(reference.host, reference.repository, reference.tag, digest)
    with request.client() as client, closing(client.fresh()) as second:
        registry = Registry(client, reference.host, reference.repository, request.credentials())

        def signatures(found: Digest) -> list[Signature]:
            own = [Signature("simple", blob, place) for blob, place in registry.signatures(found)]
            return own + lookaside.signatures(second, image, found, request.dirs)

        judged = _judge(request, image, signatures)
        resolved = _resolve(registry, registry.manifest(reference.pointer), judged, request)
        labels = {"version": reference.tag} if reference.tag else {}
        return _store(registry, resolved, request, str(reference), reference.name, labels)


def fetch_layout(reference: LayoutRef, request: FetchRequest) -> ImageRecord:
    """Fetch from an OCI image layout. Raises: as ``fetch_docker``."""
    with closing(Layout(reference.path, reference.tag)) as layout:
        judged = _judge(request, LayoutImage(layout.place), lambda _: [])
        resolved = _resolve(layout, layout.top(), judged, request)
        name = os.path.basename(os.path.normpath(reference.path))
        labels = {"version": reference.tag} if reference.tag else {}
        return _store(layout, resolved, request, str(reference), name, labels)


def is_layout_of(reference: LayoutRef, record: ImageRecord) -> bool:
    """Tell whether the layout has the stored image still. Raises: as ``Layout.top``."""
    with closing(Layout(reference.path, reference.tag)) as layout:
        return layout.top().digest in record.all_blobs()  # an index is stored among the blobs


def _judge(
    request: FetchRequest, image: Image, signatures: Callable[[Digest], list[Signature]]
) -> Callable[[Digest, _Verdict], None]:
    """Return what judges a manifest by its digest, by the policy that counts for ``image``.

    Raises: NotTrusted if there is no policy: who has none has not said that anything may be believed.
    """
    policy = request.policy
    if "image" in request.insecure:
        return lambda _digest, _verdict: None
    if policy is None:
        raise NotTrusted(
            "no policy.json says which images of registries and layouts may be used",
            hint="write /etc/pyrkt/policy.json or /etc/containers/policy.json, or pass --insecure-options=image",
        )
    needs_signatures = any(isinstance(each, SignedBy) for each in policy.requirements(image)[1])

    def judged(digest: Digest, verdict: _Verdict) -> None:
        found = signatures(digest) if needs_signatures else []
        signers = judge(policy, image, digest, found)
        verdict.signers += [signer for signer in signers if signer not in verdict.signers]
        verdict.kept += [signature.blob for signature in found]

    return judged


def _resolve(
    source: Source, top: Served, judged: Callable[[Digest, _Verdict], None], request: FetchRequest
) -> _Resolved:
    """Go from ``top`` down to the manifest for the platform, and judge every manifest on the way."""
    verdict = _Verdict()
    served = top
    parsed = parse_manifest(served.data, served.content_type, f"manifest {served.digest}")
    judged(served.digest, verdict)
    for _ in range(_MAX_NESTING):
        if isinstance(parsed, Manifest):
            break
        verdict.kept.append(served.data)
        served, parsed = _step_down(source, parsed, request)
        judged(served.digest, verdict)
    document = f"manifest {served.digest}"
    if isinstance(parsed, Index):
        raise InvalidSpec(f"indexes nested more than {_MAX_NESTING} deep", document=document)
    require_image(parsed, document)
    config_data = _small_blob(source, parsed.config)
    config = parse_config(config_data, f"image config {parsed.config.digest}")
    _check_config(config, parsed)
    return _Resolved(served=served, manifest=parsed, config_data=config_data, config=config, verdict=verdict)


def _step_down(source: Source, index: Index, request: FetchRequest) -> tuple[Served, Manifest | Index]:
    chosen = choose(index, request.platform)
    served = source.manifest_of(chosen)
    document = f"manifest {served.digest}"
    parsed = parse_manifest(served.data, served.content_type, document)
    if parsed.media_type != chosen.media_type:
        raise InvalidSpec(f"is {parsed.media_type!r}, but the index calls it {chosen.media_type!r}", document=document)
    return served, parsed


def _small_blob(source: Source, descriptor: Descriptor) -> bytes:
    if descriptor.size > _MAX_CONFIG:
        raise ImageRefused(f"image config {descriptor.digest} is larger than {_MAX_CONFIG >> 20} MiB")
    data = b"".join(source.blob(descriptor.digest, descriptor.size))
    hashed = hasher(descriptor.digest)
    hashed.update(data)
    if (found := of_hasher(hashed)) != descriptor.digest:
        raise ImageRefused(f"image config {descriptor.digest}: the content has digest {found}")
    return data


def _check_config(config: ImageConfig, manifest: Manifest) -> None:
    document = f"image config {manifest.config.digest}"
    if len(config.diff_ids) != len(manifest.layers):
        raise InvalidSpec(
            f"has {len(config.diff_ids)} diff_ids for {len(manifest.layers)} layers",
            document=document,
            where="rootfs.diff_ids",
        )
    if not 0 < len(manifest.layers) <= _MAX_LAYERS:
        raise InvalidSpec(f"has {len(manifest.layers)} layers; 1 to {_MAX_LAYERS} can be used", document=document)
    if config.platform.os != "linux":
        raise InvalidSpec(f"is for {config.platform.os!r}, and containers here are Linux", document=document)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """What a worker has to know of one layer. ``cipher`` is None for one that is not encrypted.

    ``alone`` tells that it is the only one to be fetched.
    """

    descriptor: Descriptor
    diff_id: Digest
    stage: Path
    cipher: LayerCipher | None
    alone: bool


def _store(
    source: Source, image: _Resolved, request: FetchRequest, reference: str, name: str, labels: dict[str, str]
) -> ImageRecord:
    """Fetch the layers that are missing and store the image."""
    store = request.store
    ciphers = _ciphers(image.manifest, request)
    with store.hold(), ExitStack() as stack:
        # One fetch of an image at a time; the others wait, and find it stored.
        held = lock.acquire(str(store.lock_path(f"fetch-{image.id}")), exclusive=True)
        stack.callback(os.close, held)
        trees, proofs = _layers(source, image, ciphers, request)
        for digest, proof in proofs.items():
            promote(store, digest, proof)
        kept = tuple(store.blobs.put(data) for data in dict.fromkeys(image.verdict.kept))
        layers = tuple(dict.fromkeys(layer.digest for layer in image.manifest.layers))
        blobs = (*(digest for digest in layers if store.blobs.has(digest)), *kept)
        now = time.time()
        platform = image.config.platform
        record = ImageRecord(
            id=image.id,
            kind="oci",
            name=name,
            reference=reference,
            labels={**labels, "os": platform.os, "arch": platform.architecture},
            manifest=store.blobs.put(image.served.data),
            config=_put_config(image, request),
            blobs=tuple(dict.fromkeys(blobs)),
            trees=trees,
            signers=tuple(image.verdict.signers),
            encrypted=any(ciphers),
            insecure=request.off(),
            size=sum(store.blobs.size(digest) for digest in blobs)
            + sum(int(store.trees.meta(tree).get("size", 0)) for tree in trees),
            imported=now,
            last_used=now,
            latest=labels.get("version") == "latest",
        )
        return store.images.put(record)


def _put_config(image: _Resolved, request: FetchRequest) -> Digest:
    digest = image.manifest.config.digest
    with request.store.blobs.writer(digest, len(image.config_data)) as writer:
        writer.write(image.config_data)
        return writer.commit()


def _ciphers(manifest: Manifest, request: FetchRequest) -> list[LayerCipher | None]:
    """Open the key of every encrypted layer, before any is fetched. Raises: NotTrusted naming the recipients."""
    return [ocicrypt.cipher_of(layer, request.keys) for layer in manifest.layers]


def _layers(
    source: Source, image: _Resolved, ciphers: list[LayerCipher | None], request: FetchRequest
) -> tuple[tuple[str, ...], dict[Digest, Proof]]:
    """Return the trees of the image, those that were missing fetched and made, and the proofs of new blobs."""
    store = request.store
    diff_ids = image.config.diff_ids
    known = stored(store, diff_ids)
    missing = [number for number, tree in enumerate(known) if tree is None]
    stages = {number: store.trees.stage() for number in missing}
    try:
        jobs = [
            _job(
                _Layer(
                    descriptor=image.manifest.layers[number],
                    diff_id=diff_ids[number],
                    stage=stages[number],
                    cipher=ciphers[number],
                    alone=len(missing) == 1,
                ),
                source,
                request,
            )
            for number in missing
        ]
        values = run_all(jobs, _width(), request.progress)
        staged = {
            number: Staged(LayerResult.parse(value["layer"]), stages[number])
            for number, value in zip(missing, values, strict=True)
        }
        for note in dict.fromkeys(note for each in staged.values() for note in each.result.notes):
            request.progress.say(f"note: {note}")
        trees = assemble(store, [tree or staged[number] for number, tree in enumerate(known)], diff_ids)
    except BaseException as error:
        for stage in stages.values():
            store.trees.discard(stage)
        if isinstance(error, ImageRefused | InvalidSpec | NotFound):
            forget(store, (layer.digest for layer in image.manifest.layers))
        raise
    proofs = {
        image.manifest.layers[number].digest: Proof(*value["proof"])
        for number, value in zip(missing, values, strict=True)
        if value["proof"]
    }
    return trees, proofs


def _width() -> int:
    """Return how many layers to do at once: one more than cores, since one of them often waits for the network."""
    return max(2, min(6, len(os.sched_getaffinity(0)) + 1))


def _job(layer: _Layer, source: Source, request: FetchRequest) -> Job:
    name = f"layer {hexpart(layer.descriptor.digest)[:12]}"
    return Job(
        name=name,
        total=layer.descriptor.size,
        work=lambda report: _load_and_unpack(layer, source, request, report),
    )


def _load_and_unpack(layer: _Layer, source: Source, request: FetchRequest, report: Report) -> dict[str, Any]:
    """Do one layer, in a process of its own."""
    mine = source.fresh()
    with closing(mine), Part(request.store, layer.descriptor.digest, layer.descriptor.size) as part:
        try:
            if layer.cipher is None:
                chunks = _incoming(mine, part, report)
                result = _unpack(chunks, layer)
                for _ in chunks:
                    pass  # what follows the end of the compressed stream is part of the digest
                proof = part.prove()
            else:
                proof = _load(mine, part, report)
                result = _decrypt(layer, layer.cipher, part)
        except ImageRefused as error:
            # Which bytes of it are wrong is not known; kept, they would make every later attempt fail.
            part.spoil()
            if part.digest in error.message:
                raise
            raise ImageRefused(f"layer {part.digest}: {error.message}", hint=error.hint) from error
    return {"layer": result.dump(), "proof": list(proof) if proof else []}


def _incoming(source: Source, part: Part, report: Report) -> Iterator[bytes]:
    """Yield the whole blob: what is here already, then what the source has to add, which is written down."""
    here = part.written
    if part.complete or here:
        for chunk in part.chunks():
            report.advance(len(chunk))
            yield chunk
    if part.complete or here == part.size:
        return
    for chunk in source.blob(part.digest, part.size, here):
        part.write(chunk)
        report.advance(len(chunk))
        yield chunk


def _load(source: Source, part: Part, report: Report) -> Proof | None:
    for _ in _incoming(source, part, report):
        pass
    return part.prove()


def _unpack(chunks: Iterator[bytes], layer: _Layer) -> LayerResult:
    owner = "keep" if process.gives_files_away() else "caller"
    return unpack_layer(chunks, layer.stage, owner=owner, diff_id=layer.diff_id, alone=layer.alone)  # type: ignore[arg-type]


def _decrypt(layer: _Layer, cipher: LayerCipher, part: Part) -> LayerResult:
    """Unpack an encrypted layer whose ciphertext is here and proven; not a byte is decrypted before its HMAC holds."""
    cipher.authenticate(part.chunks())
    decrypted = Counted(cipher.decrypt(part.chunks()), "sha256")
    result = _unpack(iter(decrypted), layer)
    cipher.check_plain({of_hasher(decrypted.hash), result.diff_id})
    return result
