"""Reading a measurement log back: its records, what is wrong with them, and the registers that they come to."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, NotFound
from pyrkt.kernel import lock
from pyrkt.tpm import record
from pyrkt.tpm.log import MARK

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One piece of a log: what lies between two record separators.

    ``value`` is its JSON object, None where it is none; ``torn`` its length in bytes if it lacks its end, else 0.
    """

    offset: int
    text: bytes
    value: dict[str, Any] | None = None
    torn: int = 0

    @property
    def content(self) -> dict[str, Any]:
        """The event."""
        found = (self.value or {}).get("content")
        return found if isinstance(found, dict) else {}

    @property
    def event(self) -> str:
        """The type of the event; "" where it has none."""
        return str(self.content.get("eventType", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A whole log; ``marked`` if a writer was at work when it was read, or died at it."""

    path: str
    entries: tuple[Entry, ...]
    marked: bool = False

    def records(self) -> tuple[Entry, ...]:
        """Return the entries that are records."""
        return tuple(entry for entry in self.entries if entry.value is not None)


def read(path: str, *, shared: bool = True) -> Reading:
    """Return the log in ``path``, read while nobody writes unless ``shared`` is off. Raises: NotFound, OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"{path}: no such log", hint="nothing was launched since the host was booted") from None
    with open(descriptor, "rb") as file:
        if shared:
            lock.take(descriptor, exclusive=False)
        marked = bool(os.fstat(descriptor).st_mode & MARK)
        return Reading(path=path, entries=entries(file.read()), marked=marked)


def entries(data: bytes) -> tuple[Entry, ...]:
    """Return the pieces of the bytes of a log; together they are all of it."""
    found, offset = [], 0
    first, *rest = data.split(record.SEPARATOR)
    for text in [first, *(record.SEPARATOR + piece for piece in rest)]:
        if text:
            found.append(_entry(offset, text))
        offset += len(text)
    return tuple(found)


def _entry(offset: int, text: bytes) -> Entry:
    if not text.endswith(record.END):
        return Entry(offset=offset, text=text, torn=len(text))
    try:
        value = fastjson.loads(text.removeprefix(record.SEPARATOR), "record")
    except InvalidSpec:
        value = None
    return Entry(offset=offset, text=text, value=value if isinstance(value, dict) else None)


def problems(reading: Reading) -> list[str]:
    """Return what is wrong with a log, each as a line; none if every byte of it is as pyrkt writes it."""
    found: list[str] = []
    number, boot, time = 0, "", 0
    for index, entry in enumerate(reading.entries):
        place = f"byte {entry.offset}"
        if entry.torn:
            if not _explained(reading, index):
                found.append(f"{place}: ends in the middle of a record, and nothing says why")
            continue
        if (problem := _problem(entry, number)) or (problem := _out_of_order(entry, number, boot, time)):
            found.append(f"{place}: {problem}")
        if _unfounded(reading, index):
            found.append(f"{place}: speaks of a torn record that is not there")
        given = entry.value.get("recnum") if entry.value else None
        number = (given if isinstance(given, int) else number) + 1
        boot, time = str(entry.content.get("bootId", boot)), _time(entry, time)
    return found


def _explained(reading: Reading, index: int) -> bool:
    """Tell whether a torn record is accounted for: by the next writer's record of it, or by the mark, at the end."""
    if not reading.entries[index].text.startswith(record.SEPARATOR):
        return False
    if index + 1 == len(reading.entries):
        return reading.marked
    after = _neighbour(reading, index, 1)
    return after.event == record.INTERRUPTED and after.content.get("torn") == reading.entries[index].torn


def _unfounded(reading: Reading, index: int) -> bool:
    """Tell whether an entry speaks of a torn record that is not there."""
    entry = reading.entries[index]
    torn = entry.content.get("torn") if entry.event == record.INTERRUPTED else 0
    return torn != 0 and _neighbour(reading, index, -1).torn != torn


def _neighbour(reading: Reading, index: int, way: int) -> Entry:
    """Return the next entry; behind a log's torn first record the next writer begins it once more, which is skipped."""
    index += way
    if 0 <= index < len(reading.entries) and reading.entries[index].event == record.BEGIN:
        index += way
    return reading.entries[index] if 0 <= index < len(reading.entries) else Entry(offset=0, text=b"")


def _problem(entry: Entry, number: int) -> str:
    if entry.value is None:
        return "no record of a measurement log"
    given = entry.value.get("recnum")
    if given != number:
        return f"record {given} where {number} has to be: records are missing, or out of order"
    if _recorded(entry) != record.digests(record.canonical(entry.content)):
        return f"record {given}: its digests are not those of its content"
    if entry.text != record.line(number, entry.content):
        return f"record {given}: is not written as pyrkt writes it"
    return ""


def _out_of_order(entry: Entry, number: int, boot: str, time: int) -> str:
    if (number == 0) != (entry.event == record.BEGIN):
        return f"record {number}: a log begins with the event {record.BEGIN}, and only once"
    if number and entry.content.get("bootId") != boot:
        return f"record {number}: is of another boot"
    if _time(entry, -1) < time:
        return f"record {number}: is older than the one before it"
    return ""


def _time(entry: Entry, default: int) -> int:
    time = entry.content.get("timestamp")
    return time if isinstance(time, int) else default


def _recorded(entry: Entry) -> dict[str, str]:
    """Return the digests as the record has them, by algorithm; what is no list of digests has none."""
    listed = (entry.value or {}).get("digests")
    found = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    return {str(item.get("hashAlg")): str(item.get("digest")) for item in found}


def interruptions(reading: Reading) -> int:
    """Return how many writers died while they appended. Nothing was launched by those."""
    last = reading.entries[-1] if reading.entries else None
    return sum(entry.event == record.INTERRUPTED for entry in reading.entries) + bool(
        reading.marked or (last and last.torn)
    )


def registers(found: Iterable[Entry]) -> dict[str, bytes]:
    """Return the register by algorithm: zeros, extended by the digest of each record in turn.

    Extending is hashing the old value and the digest, one after the other. Source: TPM 2.0 part 1, "Extend of a PCR".
    """
    values = {name: bytes(hashlib.new(name).digest_size) for name in record.ALGORITHMS}
    for entry in found:
        for name, digest in _recorded(entry).items():
            if name in values:
                values[name] = hashlib.new(name, values[name] + _bytes(digest)).digest()
    return values


def _bytes(digest: str) -> bytes:
    try:
        return bytes.fromhex(digest)
    except ValueError:
        return b""  # verifying says so
