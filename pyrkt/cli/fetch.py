"""``pyrkt fetch``: images by name into the store; one line of answer an image."""

from __future__ import annotations

import sys

from pyrkt.base import fastjson
from pyrkt.base.errors import UsageError
from pyrkt.cli import asking
from pyrkt.cli import flags as tables
from pyrkt.cli.grammar import parse
from pyrkt.cli.settings import settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrkt.cli.grammar import Value
    from pyrkt.store import ImageRecord

_SHORT = 32
"""Hex digits of an id that rkt's fetch prints; enough to name it by."""


def fetch(words: list[str], flags: Mapping[str, Value]) -> int:
    """Fetch the images that ``words`` name and print their ids, in order."""
    if words and words[0] in ("-h", "--help"):
        sys.stdout.write(
            tables.describe(
                "fetch",
                "[flags] IMAGE [--signature FILE] ...",
                "Fetch images: prove where they came from, decrypt and store them. Prints an id for each.",
                tables.FETCH,
                "never, new (only what is not stored), update (ask for news; the default)",
            )
        )
        return 0
    line = parse(words, (*tables.FETCH, *tables.GLOBAL), app_args=False)
    if not line.images:
        raise UsageError("which image?", hint="pyrkt fetch docker://host/name, pyrkt fetch example.com/app")
    settings = settle({**flags, **line.flags})
    pull = asking.pull(line, settings.insecure, "update")

    from pyrkt.cli.progress import progress
    from pyrkt.pod.images import Source

    source = Source(settings.data, settings.dirs, pull, progress(quiet=pull.quiet or line.is_set("json")))
    for image in line.images:
        signature = image.flags.get("signature", "")
        record = source.fetch(image.text, signature if isinstance(signature, str) else "")
        sys.stdout.write(_answer(record, full=line.is_set("full"), as_json=line.is_set("json")))
        sys.stdout.flush()
    return 0


def _answer(record: ImageRecord, *, full: bool, as_json: bool) -> str:
    if as_json:
        return fastjson.dumps(summary(record)) + "\n"
    return f"{record.id if full else record.id[: 7 + _SHORT]}\n"


def summary(record: ImageRecord) -> dict[str, Any]:
    """Return what a machine wants to know of a stored image; times in seconds, sizes in bytes.

    Under rkt's own names, ``import_time`` and ``last_used_time``, the times are in nanoseconds as there.
    """
    return {
        "id": record.id,
        "kind": record.kind,
        "name": record.name,
        "reference": record.reference,
        "labels": record.labels,
        "manifest": record.manifest,
        "signers": [{"format": s.format, "fingerprint": s.fingerprint, "name": s.name} for s in record.signers],
        "encrypted": record.encrypted,
        "insecure": list(record.insecure),
        "size": record.size,
        "imported": record.imported,
        "last_used": record.last_used,
        "latest": record.latest,
        "import_time": int(record.imported * 1e6) * 1000,
        "last_used_time": int(record.last_used * 1e6) * 1000,
    }
