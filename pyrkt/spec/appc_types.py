"""The types that appc's documents consist of: names, ids, versions, labels, and lists of named values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrkt.base.reader import Reader

AC_VERSION = "0.8.11"
"""The version of the specification that we read and write."""
_MAJOR = AC_VERSION.partition(".")[0]

_IDENTIFIER = re.compile(r"[a-z0-9]+(?:[-._~/][a-z0-9]+)*", re.ASCII)
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_IMAGE_ID = re.compile(r"sha512-[0-9a-f]{128}", re.ASCII)
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_URL = re.compile(r"https?://[^\s/?#]+[^\s]*", re.ASCII)

# Source: aci.md, "labels": what os and arch may say, and together.
ARCHITECTURES: Mapping[str, tuple[str, ...]] = {
    "linux": ("amd64", "i386", "aarch64", "aarch64_be", "armv6l", "armv7l", "armv7b", "ppc64", "ppc64le", "s390x"),
    "freebsd": ("amd64", "i386", "arm"),
    "darwin": ("x86_64", "i386"),
}


def is_identifier(text: str) -> bool:
    """Tell whether ``text`` is an AC Identifier ("example.com/app")."""
    return _IDENTIFIER.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Tell whether ``text`` is an AC Name ("my-app")."""
    return _NAME.fullmatch(text) is not None


def is_image_id(text: str) -> bool:
    """Tell whether ``text`` is a whole image id: "sha512-" and 128 hex digits."""
    return _IMAGE_ID.fullmatch(text) is not None


def header(r: Reader, kind: str) -> str:
    """Check acKind and acVersion; return the version."""
    r["acKind"].choice((kind,))
    version = r["acVersion"].text()
    found = _SEMVER.fullmatch(version)
    if not found:
        raise r["acVersion"].fail(f"{version!r} is not a version such as {AC_VERSION} (semver 2.0)")
    if found[1] != _MAJOR:
        raise r["acVersion"].fail(f"version {version} is not one we can read: {_MAJOR}.x")
    return version


def identifier(r: Reader) -> str:
    """Read an AC Identifier."""
    text = r.text()
    if not is_identifier(text):
        raise r.fail(
            f"{text[:200]!r} is not an AC Identifier", hint="lower-case letters and digits, parted by one of -._~/"
        )
    return text


def name(r: Reader) -> str:
    """Read an AC Name."""
    text = r.text()
    if not is_name(text):
        raise r.fail(f"{text[:200]!r} is not an AC Name", hint="lower-case letters and digits, parted by single dashes")
    return text


def image_id(r: Reader) -> str:
    """Read a whole image id; a shortened one names several images."""
    text = r.text()
    if not is_image_id(text):
        raise r.fail(f"{text[:150]!r} is not an image id: sha512- and 128 hex digits")
    return text


def labels(r: Reader) -> dict[str, str]:
    """Read the labels of an image: unique, never "name", os and arch from the table."""
    labels = pairs(r, _label)
    system, architecture = labels.get("os"), labels.get("arch")
    if architecture is not None and system is None:
        raise r.fail("has arch without os, which alone means nothing")
    if system is not None and system not in ARCHITECTURES:
        raise r.fail(f"os {system!r} is none of {', '.join(ARCHITECTURES)}")
    if system is not None and architecture is not None and architecture not in ARCHITECTURES[system]:
        raise r.fail(f"arch {architecture!r} of {system} is none of {', '.join(ARCHITECTURES[system])}")
    return labels


def _label(r: Reader) -> str:
    if r.value == "name":
        raise r.fail("the image's name is not a label")
    return identifier(r)


def remarks(r: Reader) -> dict[str, str]:
    """Read annotations: unique, and those the specification gives a form in that form."""
    annotations = pairs(r, identifier)
    forms = {
        "created": (_TIME, "a date and time such as 2015-10-31T22:22:56Z"),
        "homepage": (_URL, "an http or https URL"),
        "documentation": (_URL, "an http or https URL"),
        "appc.io/executor/supports-systemd-notify": (re.compile("true|false"), "true or false"),
    }
    for name, (pattern, what) in forms.items():
        if name in annotations and not pattern.fullmatch(annotations[name]):
            raise r.fail(f"{name} {annotations[name][:200]!r} is not {what}")
    return annotations


def pairs(r: Reader, name_of: Callable[[Reader], str]) -> dict[str, str]:
    """Read an array of {name, value} whose names are unique."""
    return {name_of(item["name"]): item["value"].text() for item in unique(r, "name")}


def listed(pairs: Mapping[str, str]) -> list[dict[str, str]]:
    """Return ``pairs`` as the array of {name, value} that parses to them."""
    return [{"name": name, "value": value} for name, value in pairs.items()]


def unique(r: Reader, member: str) -> list[Reader]:
    """Return the elements of ``r``, no two of which have the same ``member``."""
    seen: set[str] = set()
    for item in r.items():
        name = item[member].text()
        if name in seen:
            raise item[member].fail(f"{name!r} is given twice")
        seen.add(name)
    return r.items()


def is_variable(text: str) -> bool:
    """Tell whether ``text`` can be the name of an environment variable."""
    return _VARIABLE.fullmatch(text) is not None


def variable(r: Reader) -> str:
    """Read the name of an environment variable."""
    text = r.text()
    if not is_variable(text):
        raise r.fail(f"{text[:200]!r} is not the name of an environment variable")
    return text


def command(r: Reader) -> tuple[str, ...]:
    """Read a program and its arguments; nothing if absent. No shell ever sees them."""
    if not r.present:
        return ()
    words = r.texts()
    if not words or not words[0]:
        raise r.fail("names no program")
    if "/" in words[0] and not words[0].startswith("/"):
        raise r.fail(
            f"{words[0]!r} is a relative path", hint="write an absolute path, or a name to be searched in PATH"
        )
    return words


def principal(r: Reader) -> str:
    """Read a user or a group: a name, a number or the path of a file in the image."""
    text = filled(r)
    if not text.isprintable() or ":" in text:
        raise r.fail(f"{text!r} is not a user or group: a name, a number or a path")
    return text


def absolute(r: Reader) -> str:
    """Read an absolute path that does not climb."""
    text = r.text()
    if not text.startswith("/"):
        raise r.fail(f"{text[:200]!r} is not an absolute path")
    if ".." in text.split("/"):
        raise r.fail(f"{text[:200]!r} climbs by '..'")
    return text


def mount_target(r: Reader) -> str:
    """Read the path of a mount: absolute, below the root."""
    text = absolute(r)
    if not text.strip("/."):
        raise r.fail("the root itself is no place for a volume")
    return text


def filled(r: Reader) -> str:
    """Read a string that is not empty."""
    text = r.text()
    if not text:
        raise r.fail("must not be empty")
    return text


def required_items(r: Reader) -> list[Reader]:
    """Return the elements of an array that must be there."""
    if not r.present:
        raise r.fail("is required (an array)")
    return r.items()


def optional(r: Reader) -> bool | None:
    """Read a boolean; None if absent."""
    return r.boolean() if r.present else None


def is_dotted_quad(text: str) -> bool:
    """Tell whether ``text`` is an IPv4 address."""
    parts = text.split(".")
    return len(parts) == 4 and all(re.fullmatch("0|[1-9][0-9]{0,2}", part) and int(part) <= 255 for part in parts)


def given(members: dict[str, Any]) -> dict[str, Any]:
    """Return ``members`` without those that are empty: absent and empty mean the same here."""
    return {name: value for name, value in members.items() if value}
