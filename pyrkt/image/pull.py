"""The verb: a text that names an image, and a request, become the record of a stored image."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from pyrkt.base import log
from pyrkt.base.errors import NotFound, NotTrusted
from pyrkt.image import aci, oci
from pyrkt.image.reference import AppcRef, DockerRef, FileRef, IdRef, LayoutRef, Reference, UrlRef, parse
from pyrkt.image.request import FetchRequest, Quiet
from pyrkt.image.stored import find
from pyrkt.image.workers import Progress

if TYPE_CHECKING:
    from pyrkt.store import ImageRecord

__all__ = ["FetchRequest", "Progress", "Quiet", "fetch", "find"]


def fetch(text: str, request: FetchRequest) -> ImageRecord:
    """Return the image that ``text`` names: from the store or from where it lies, as the pull policy says.

    What is fetched is verified, decrypted and unpacked before it is stored; what fails is not stored. A file or a
    layout of this host is looked at in any case, unless the policy is "never": it may have been made anew.
    Raises: InvalidSpec for the text; NotFound, Unavailable, NoPermission on the way; NotTrusted by policy; ImageRefused
    for content that is not what it should be.
    """
    reference = parse(text)
    if request.pull_policy == "update":
        return _fetch(reference, request)
    try:
        stored = find(reference, request)
    except (NotFound, NotTrusted):
        if request.pull_policy == "never":
            raise
        return _fetch(reference, request)
    return stored if request.pull_policy == "never" or _is_still(reference, stored) else _fetch(reference, request)


def _is_still(reference: Reference, stored: ImageRecord) -> bool:
    """Tell whether what lies at a place of this host is what was stored from there; of a remote one nobody asks."""
    try:
        match reference:
            case FileRef():
                return aci.is_file_of(reference, stored)
            case LayoutRef():
                return oci.is_layout_of(reference, stored)
    except NotFound:
        pass  # gone since
    return True


def _fetch(reference: Reference, request: FetchRequest) -> ImageRecord:
    record = _fetched(reference, request)
    # Only now: who is refused an image reads the reason, and nothing else.
    if record.encrypted and not record.signers:
        log.warn(f"{reference} is encrypted but not signed: anybody could have encrypted it")
    architecture = record.labels.get("arch", "")
    if record.kind == "oci" and architecture != request.platform.architecture:
        log.warn(f"{reference} is for {record.labels['os']}/{architecture}, not for {request.platform}")
    return record


def _fetched(reference: Reference, request: FetchRequest) -> ImageRecord:
    match reference:
        case DockerRef():
            return oci.fetch_docker(reference, request)
        case LayoutRef():
            return oci.fetch_layout(reference, request)
        case AppcRef():
            return aci.fetch_name(reference, request)
        case UrlRef():
            return aci.fetch_url(reference, request)
        case FileRef():
            return aci.fetch_file(reference, request)
        case IdRef():
            return find(reference, request)
        case _:
            assert_never(reference)
