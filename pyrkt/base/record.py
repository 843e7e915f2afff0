"""Record: a frozen value with named fields, at a fiftieth of the import cost of a dataclass.

The documents that ``pyrkt-oci`` reads are some sixty types; ``dataclasses`` takes 11 ms to import and 0.6 ms a
class, which is more than a container takes to start. A type checker sees ordinary frozen keyword-only dataclasses.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_options):  # noqa: ANN003, ANN201 - the annotations are those of typing's
        """Do nothing; the real one, for type checkers, would import ``typing`` (8 ms)."""
        return lambda cls: cls


@dataclass_transform(kw_only_default=True, frozen_default=True)
class RecordType(type):
    """Turns the annotations of a class into slots, and its class attributes into defaults."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> RecordType:
        """Make the class: own fields become slots; ``_fields`` and ``_defaults`` add those of the bases."""
        fields: dict[str, None] = {}
        defaults: dict[str, Any] = {}
        for base in bases:
            fields.update(getattr(base, "_fields", {}))
            defaults.update(getattr(base, "_defaults", {}))
        own = [
            field
            for field, kind in namespace.get("__annotations__", {}).items()
            if not str(kind).startswith("ClassVar")
        ]
        for field in own:
            fields[field] = None
            if field in namespace:
                defaults[field] = namespace.pop(field)
        namespace["__slots__"] = tuple(own)
        namespace["_fields"], namespace["_defaults"] = fields, defaults
        return super().__new__(mcs, name, bases, namespace)


class Record(metaclass=RecordType):
    """A frozen value: ``class Point(Record): x: int; y: int = 0``, made by keyword, compared by value."""

    if TYPE_CHECKING:
        _fields: ClassVar[dict[str, None]]
        _defaults: ClassVar[dict[str, Any]]

    def __init__(self, **values: Any) -> None:
        """Take each field by keyword; one without a default must be given."""
        put = object.__setattr__
        for field in self._fields:
            if field in values:
                put(self, field, values.pop(field))
            elif field in self._defaults:
                put(self, field, self._defaults[field])
            else:
                raise TypeError(f"{type(self).__name__} needs {field}")
        if values:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(values)}")

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: records are frozen."""
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __delattr__(self, name: str) -> None:
        """Refuse: records are frozen."""
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        """Compare by type and fields."""
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, field) == getattr(other, field) for field in self._fields)

    def __hash__(self) -> int:
        """Hash by fields; fails, as a tuple does, where a field is mutable."""
        return hash((type(self), *(getattr(self, field) for field in self._fields)))

    def __repr__(self) -> str:
        """Show as the call that makes it."""
        inside = ", ".join(f"{field}={getattr(self, field)!r}" for field in self._fields)
        return f"{type(self).__name__}({inside})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy through the constructor (tests and worker processes do)."""
        return _remake, (type(self), {field: getattr(self, field) for field in self._fields})

    def replace(self, **changes: Any) -> Self:
        """Return a copy with ``changes``."""
        values = {field: getattr(self, field) for field in self._fields}
        return type(self)(**(values | changes))


def _remake(cls: type[Record], values: dict[str, Any]) -> Record:
    return cls(**values)
