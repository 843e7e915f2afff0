"""Images that are in the store already: which one a reference means, and whether it may be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrkt.base.errors import NotFound, NotTrusted
from pyrkt.image.reference import AppcRef, IdRef, Reference

if TYPE_CHECKING:
    from pyrkt.image.request import FetchRequest
    from pyrkt.store import ImageRecord

_FETCH = "fetch it with --pull-policy=new"


def find(reference: Reference, request: FetchRequest) -> ImageRecord:
    """Return the stored image that ``reference`` names, and note that it is used.

    Raises: NotFound if it is not stored, or not whole; NotTrusted if it was fetched with its signature unchecked, or
    under another name, and may only be used with the same leave.
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
    An ACI's signature is for the name in its manifest, whatever it was fetched by.
    Raises: NotTrusted.
    """
    if "image" in request.insecure:
        return
    hint = "fetch it again with --pull-policy=update, or pass --insecure-options=image"
    if "image" in record.insecure:
        raise NotTrusted(f"{reference}: was stored without a check of its signature", hint=hint)
    if record.kind == "oci" and record.reference != str(reference):
        raise NotTrusted(f"{reference}: was last judged as {record.reference}", hint=hint)
