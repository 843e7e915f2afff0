"""What was asked of a mutable pod, kept with it: an app that comes later is made as if it had been there before."""

from __future__ import annotations

import os

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec
from pyrkt.base.record import Record
from pyrkt.pod import ask as words
from pyrkt.pod.ask import PodAsk
from pyrkt.pod.directory import write_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FILE = "mutable"
"""The file of a pod to which apps may be added. {"record": NAME, fields...} is a record of pod.ask."""
_RECORD, _SET, _BYTES = "record", "set", "bytes"


def write(path: str, ask: PodAsk) -> None:
    """Keep ``ask`` in the pod's directory ``path``."""
    write_new(f"{path}/{FILE}", fastjson.dumps(_plain(ask)).encode())


def read(path: str) -> PodAsk | None:
    """Return what was asked of the pod in ``path``; None if it takes no apps. Raises: InvalidSpec if it is damaged."""
    file = f"{path}/{FILE}"
    try:
        with open(file, "rb") as opened:
            found = _value(fastjson.loads(opened.read(), file), file)
    except FileNotFoundError:
        return None
    if not isinstance(found, PodAsk):
        raise InvalidSpec("is damaged", document=file, hint="make the pod anew")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return {_RECORD: type(value).__name__} | {name: _plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, frozenset):
        return {_SET: sorted(value)}
    if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        return {_BYTES: os.fsencode(value).hex()}  # of a command line or a file, which need not be UTF-8
    return value


def _value(value: Any, file: str) -> Any:
    if isinstance(value, list):
        return tuple(_value(item, file) for item in value)
    if not isinstance(value, dict):
        return value
    if _SET in value:
        return frozenset(value[_SET])
    if _BYTES in value:
        return os.fsdecode(bytes.fromhex(value[_BYTES]))
    kind = getattr(words, str(value.get(_RECORD)), None)
    fields = {name: _value(item, file) for name, item in value.items() if name != _RECORD}
    if not (isinstance(kind, type) and issubclass(kind, Record)) or not fields.keys() <= set(kind._fields):
        raise InvalidSpec("is of another version of pyrkt, or damaged", document=file, hint="make the pod anew")
    return kind(**fields)
