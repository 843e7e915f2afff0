"""The index: one JSON file an image, ``images/<id>.json``. An image is stored when, and only when, it has one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from pyrkt.base import atomic, fastjson
from pyrkt.base.errors import InvalidSpec, NotFound, UsageError
from pyrkt.base.reader import Reader
from pyrkt.kernel import lock
from pyrkt.spec.digest import Digest, parse_digest
from pyrkt.store.blobs import disk_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pyrkt.store.layout import Store

_ID = re.compile(r"sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128}", re.ASCII)
_ID_PREFIX = re.compile(r"(sha256|sha512)[-:]([0-9a-f]*)", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{2,128}", re.ASCII)
_FOREVER = float(1 << 53)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who vouched for an image: ``format`` is "openpgp" or "simple", ``name`` the key's user id."""

    format: str
    fingerprint: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """What is known of one stored image.

    ``id`` is "sha512-" and the hash of the plain tar (appc) or "sha256-" and that of the manifest (OCI); ``name`` an
    appc name or "registry/repository"; ``reference`` what was asked for, normalised, ``aliases`` the same of earlier
    fetches; ``manifest`` and ``config`` are blobs too; ``trees`` tree ids, bottom first; ``insecure`` the checks
    that were switched off; ``size`` in bytes; ``imported`` and ``last_used`` seconds since 1970; ``latest`` that no
    version was asked for.
    """

    id: str
    kind: Literal["appc", "oci"]
    name: str
    reference: str
    labels: dict[str, str] = field(default_factory=dict)
    manifest: Digest
    config: Digest | Literal[""] = ""
    blobs: tuple[Digest, ...] = ()
    trees: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    signers: tuple[Signer, ...] = ()
    encrypted: bool = False
    insecure: tuple[str, ...] = ()
    size: int = 0
    imported: float = 0.0
    last_used: float = 0.0
    latest: bool = False
    aliases: tuple[str, ...] = ()

    @classmethod
    def parse(cls, r: Reader) -> ImageRecord:
        """Read a record as ``dump`` wrote it. Raises: InvalidSpec."""
        identity = r["id"].text()
        if not _ID.fullmatch(identity):
            raise r["id"].fail("not an image id")
        config = r["config"].text("")
        return cls(
            id=identity,
            kind="appc" if r["kind"].choice(("appc", "oci")) == "appc" else "oci",
            name=r["name"].text(),
            reference=r["reference"].text(),
            labels=r["labels"].text_map(),
            manifest=parse_digest(r["manifest"].text(), document=r.document),
            config=parse_digest(config, document=r.document) if config else "",
            blobs=tuple(parse_digest(text, document=r.document) for text in r["blobs"].texts()),
            trees=r["trees"].texts(),
            dependencies=r["dependencies"].texts(),
            signers=tuple(
                Signer(format=s["format"].text(), fingerprint=s["fingerprint"].text(), name=s["name"].text(""))
                for s in r["signers"].items()
            ),
            encrypted=r["encrypted"].boolean(default=False),
            insecure=r["insecure"].texts(),
            size=r["size"].integer(0, 1 << 63, 0),
            imported=float(r["imported"].number(0, _FOREVER, 0.0)),
            last_used=float(r["last_used"].number(0, _FOREVER, 0.0)),
            latest=r["latest"].boolean(default=False),
            aliases=r["aliases"].texts(),
        )

    def dump(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        value = {item.name: getattr(self, item.name) for item in fields(self)}
        value["signers"] = [{"format": s.format, "fingerprint": s.fingerprint, "name": s.name} for s in self.signers]
        return {name: list(item) if isinstance(item, tuple) else item for name, item in value.items()}

    def all_blobs(self) -> tuple[Digest, ...]:
        """Return the digests of every blob that the image needs."""
        return (self.manifest, *([self.config] if self.config else []), *self.blobs)

    def all_trees(self) -> tuple[str, ...]:
        """Return the ids of every tree that the image needs: those to mount, and an ACI's own.

        An ACI with dependencies is mounted as one tree rendered of them all; what renders on top of it, and
        ``image extract``, need its own.
        """
        return self.trees if self.kind == "oci" or self.id in self.trees else (*self.trees, self.id)

    def references(self) -> tuple[str, ...]:
        """Return every reference that the image was fetched by."""
        return (self.reference, *self.aliases)


class Images:
    """The records of one store."""

    def __init__(self, store: Store) -> None:
        """Belong to ``store``."""
        self._store = store

    def _path(self, identity: str) -> Path:
        if not _ID.fullmatch(identity):
            raise UsageError(f"{identity!r} is not an image id")
        return self._store.root / "images" / f"{identity}.json"

    def put(self, record: ImageRecord) -> ImageRecord:
        """Store ``record``, durably, and return it as stored.

        Where the image is known already, the other references that it was fetched by become aliases.
        Raises: CannotCreate.
        """
        path = self._path(record.id)
        with self._store.hold():
            held = lock.acquire(str(self._store.lock_path(f"image-{record.id}")), exclusive=True)
            try:
                known = self._read(path)
                if known is not None:
                    others = dict.fromkeys((*record.aliases, *known.references()))
                    others.pop(record.reference, None)
                    record = replace(record, aliases=tuple(others))
                atomic.write_file(path, fastjson.pretty(record.dump()))
                os.utime(path, (record.last_used, record.last_used))
            except OSError as error:
                raise disk_error(error, f"storing the record of {record.name}") from error
            finally:
                os.close(held)
        return record

    def get(self, identity: str) -> ImageRecord:
        """Return the record of the full id ``identity``. Raises: NotFound."""
        record = self._read(self._path(identity))
        if record is None:
            raise NotFound(f"no image {identity}", hint="pyrkt image list shows what is stored")
        return record

    @staticmethod
    def _read(path: Path) -> ImageRecord | None:
        try:
            data = path.read_bytes()
            used = path.stat().st_mtime
        except FileNotFoundError:
            return None
        record = ImageRecord.parse(Reader(fastjson.loads(data, str(path)), str(path)))
        # The file's time is the time of last use: noting it needs no lock and cannot revive a removed image.
        return replace(record, last_used=used)

    def _names(self) -> list[str]:
        try:
            names = os.listdir(self._store.root / "images")
        except FileNotFoundError:
            return []
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))

    def all(self) -> list[ImageRecord]:
        """Return every record, by id. A file that is not a record is left out: ``verify`` tells of it."""
        return [record for _, record in self.each() if isinstance(record, ImageRecord)]

    def each(self) -> Iterator[tuple[str, ImageRecord | InvalidSpec]]:
        """Yield (id, record, or what is wrong with its file)."""
        for identity in self._names():
            try:
                if not _ID.fullmatch(identity):
                    raise InvalidSpec("not an image id", document=f"images/{identity}.json")
                record = self._read(self._path(identity))
                if record is not None and record.id != identity:
                    raise InvalidSpec("holds the record of another image", document=f"images/{identity}.json")
            except InvalidSpec as error:
                yield identity, error
            else:
                if record is not None:  # else it was removed since the listing
                    yield identity, record

    def find(self, text: str) -> ImageRecord:
        """Return the one image that ``text`` means.

        That is, in this order: an id or its beginning ("sha512-ab…", "sha256:ab…"), a reference as it was fetched,
        an appc name with version and labels ("example.com/app:1.0,os=linux") or an OCI name with its tag; then, if
        nothing has that very name, the end or the beginning of one, or the bare beginning of an id's digits.
        Of several images fetched by one reference, the last one counts.
        Raises: NotFound; UsageError where several match, listing them.
        """
        records = self.all()
        if prefix := _ID_PREFIX.fullmatch(text):
            return self._by_id(text, f"{prefix[1]}-{prefix[2]}", prefix[2], records)
        fetched = [record for record in records if any(_same(text, ref) for ref in record.references())]
        if fetched:
            # A record whose own reference it is was fetched by it later than one that has it as an alias.
            return max(fetched, key=lambda record: (_same(text, record.reference), record.imported))
        wanted = _Name.parse(text)
        for matches in (wanted.is_name_of, wanted.is_end_of, wanted.is_beginning_of):
            named = [record for record in records if matches(record)]
            if named:
                return _only(text, named)
        if _HEX.fullmatch(text):
            named = [record for record in records if record.id[7:].startswith(text)]
            if named:
                return _only(text, named)
        raise NotFound(f"no image {text!r} in the store", hint="pyrkt image list shows what is stored")

    @staticmethod
    def _by_id(text: str, prefix: str, digits: str, records: Iterable[ImageRecord]) -> ImageRecord:
        if len(digits) < 2:
            raise UsageError(f"{text!r} is too short for an image id", hint="give two digits of it at least")
        named = [record for record in records if record.id.startswith(prefix)]
        if not named:
            raise NotFound(f"no image {text!r} in the store", hint="pyrkt image list shows what is stored")
        return _only(text, named)

    def remove(self, identity: str) -> None:
        """Forget the image; gc removes what only it used. Raises: NotFound."""
        path = self._path(identity)
        held = lock.acquire(str(self._store.lock_path(f"image-{identity}")), exclusive=True)
        try:
            path.unlink()
        except FileNotFoundError:
            raise NotFound(f"no image {identity}", hint="pyrkt image list shows what is stored") from None
        finally:
            os.close(held)
        atomic.sync_directory(path.parent)

    def touch(self, identity: str) -> None:
        """Note that the image is used now. An image that is gone meanwhile is no error."""
        try:
            os.utime(self._path(identity))
        except FileNotFoundError:
            pass


def _same(text: str, reference: str) -> bool:
    return text == reference or text == reference.removeprefix("docker://")


@dataclass(frozen=True, slots=True)
class _Name:
    """``name[:version][,label=value…]`` as a person types it."""

    name: str
    version: str
    labels: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> _Name:
        head, *pairs = text.removeprefix("docker://").split(",")
        labels = dict(pair.partition("=")[::2] for pair in pairs)
        # A colon before the last slash belongs to the port of a registry.
        at = head.rfind(":")
        if at > head.rfind("/"):
            return cls(head[:at], head[at + 1 :], labels)
        return cls(head, "", labels)

    def _fits(self, record: ImageRecord) -> bool:
        if self.version and not (
            record.labels.get("version") == self.version
            or any(reference.endswith(f":{self.version}") for reference in record.references())
        ):
            return False
        return all(record.labels.get(name) == value for name, value in self.labels.items())

    def is_name_of(self, record: ImageRecord) -> bool:
        return record.name == self.name and self._fits(record)

    def is_end_of(self, record: ImageRecord) -> bool:
        return bool(self.name) and record.name.endswith(f"/{self.name}") and self._fits(record)

    def is_beginning_of(self, record: ImageRecord) -> bool:
        return bool(self.name) and record.name.startswith(self.name) and self._fits(record)


def _only(text: str, records: list[ImageRecord]) -> ImageRecord:
    """Return the one that is meant: the only one, the one that is the latest, or the last import of equal names."""
    latest = [record for record in records if record.latest]
    chosen = latest or records
    if len({record.id for record in chosen}) == 1:
        return chosen[0]
    if all((r.name, r.labels, r.reference) == (chosen[0].name, chosen[0].labels, chosen[0].reference) for r in chosen):
        return max(chosen, key=lambda record: record.imported)
    listed = "; ".join(f"{record.id[:19]} {record.reference or record.name}" for record in records[:8])
    raise UsageError(f"{text!r} could be any of {len(records)} images: {listed}", hint="give more of it, or the id")
