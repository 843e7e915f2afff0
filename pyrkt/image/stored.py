"""Images that are in the store already: which one a reference means, and whether it may be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrkt.base.errors import NotFound, NotTrusted
from pyrkt.image.reference import AppcRef, DockerRef, IdRef, Reference, UrlRef

if TYPE_CHECKING:
    from pyrkt.image.request import FetchRequest
    from pyrkt.store import ImageRecord

_FETCH = "fetch it with --pull-policy=new"


def find(reference: Reference, request: FetchRequest) -> ImageRecord:
    """Return the stored image that ``reference`` names, and note that it is used.

    Raises: NotFound if it is not stored, or not whole; NotTrusted if it was fetched with checks switched off that
    count here, or under another name, and may only be used with the same leave.
    """
    store = request.store
    if isinstance(reference, IdRef):
        record = store.images.find(str(reference))
    elif isinstance(reference, AppcRef):
        record = _by_name(reference, request)
    else:
        record = _by_reference(str(reference), request)
    missing = [tree for tree in record.trees if not store.trees.has(tree)]
    if missing:
        raise NotFound(f"{reference}: tree {missing[0][:19]} of the stored image is gone", hint="fetch the image again")
    if not isinstance(reference, IdRef):  # who names the content by its hash needs nobody to vouch for it
        check_vouched(record, reference, request)
    store.images.touch(record.id)
    return record


def _by_reference(text: str, request: FetchRequest) -> ImageRecord:
    found = [record for record in request.store.images.all() if text in record.references()]
    if not found:
        raise NotFound(f"{text}: not in the store", hint=_FETCH)
    # Of several, the one that was fetched by it last.
    return max(found, key=lambda record: (record.reference == text, record.imported))


def _by_name(reference: AppcRef, request: FetchRequest) -> ImageRecord:
    wanted = reference.wanted()
    found = [
        record
        for record in request.store.images.all()
        if record.kind == "appc"
        and record.name == reference.name
        and all(record.labels.get(label) == value for label, value in wanted.items())
    ]
    if not found:
        raise NotFound(f"{reference}: not in the store", hint=_FETCH)
    return max(found, key=lambda record: (record.latest, record.imported))


def check_vouched(record: ImageRecord, reference: Reference, request: FetchRequest) -> None:
    """Refuse a stored image that nobody vouched for, unless the caller does without that.

    Whoever vouched for an image of a registry did so under one reference; under another one the policy may differ.
    An ACI's signature is for the name in its manifest, whatever it was fetched by. Where nobody signed, the host that
    TLS proved is all that vouches, so who fetched without that check did it for himself alone.
    Raises: NotTrusted.
    """
    hint = "fetch it again with --pull-policy=update, or pass --insecure-options={}"
    checked = "image" not in request.insecure
    if checked and "image" in record.insecure:
        raise NotTrusted(f"{reference}: was stored without a check of its signature", hint=hint.format("image"))
    if not record.signers and _rests_on_its_host(reference):
        for check in ("tls", "http"):
            if check in record.insecure and check not in request.insecure:
                raise NotTrusted(
                    f"{reference}: was stored unsigned, with --insecure-options={check}", hint=hint.format(check)
                )
    if checked and record.kind == "oci" and record.reference != str(reference):
        raise NotTrusted(f"{reference}: was last judged as {record.reference}", hint=hint.format("image"))


def _rests_on_its_host(reference: Reference) -> bool:
    """Tell whether only the host can say what ``reference`` means: it is remote, and no digest is part of it."""
    return isinstance(reference, AppcRef | UrlRef) or (isinstance(reference, DockerRef) and not reference.digest)
