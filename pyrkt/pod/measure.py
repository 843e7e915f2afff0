"""What of a pod's launch is measured: its images and who vouched for them, its documents, its plans, its stage1.

All records of a launch are appended when everything is decided, and nothing is started yet. What they name is read
from what stage1 is about to get, and from the pod's directory at that moment.
"""

from __future__ import annotations

import os

from pyrkt.base import fastjson, log
from pyrkt.base.atomic import write_file
from pyrkt.base.errors import CannotCreate, InvalidSpec, NoPermission, PyrktError, StartFailed, printable
from pyrkt.pod.directory import write_new
from pyrkt.pod.flavour import read_flavour
from pyrkt.tpm import record
from pyrkt.tpm.log import append

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyrkt.store import ImageRecord
    from pyrkt.tpm.where import Log

    Plans = Iterable[tuple[str, str, bytes]]

PROVENANCE = "provenance"
"""The file of a pod that says, of each app, which image it has and who vouched for that."""
_HINT = 'make it writable; or let launches go on unmeasured: "required": false in measurements.d (docs/measurements.md)'


def write_origins(path: str, origins: list[dict[str, Any]]) -> None:
    """Write the file PROVENANCE of the pod in ``path``."""
    write_new(f"{path}/{PROVENANCE}", fastjson.dumps(origins).encode())


def add_origin(path: str, entry: dict[str, Any]) -> None:
    """Add ``entry``, that of an app which is new in the pod in ``path``, or takes the place of one of its name."""
    kept = [each for each in _origins(path) if each["app"] != entry["app"]]
    write_file(f"{path}/{PROVENANCE}", fastjson.dumps([*kept, entry]), durable=False)


def origin(app: str, image: ImageRecord, dependencies: Iterable[ImageRecord] = ()) -> dict[str, Any]:
    """Return the entry of ``app`` in the file PROVENANCE."""
    value = {"app": app, **_image(image)}
    below = [_image(record) for record in dependencies]
    return value | {"dependencies": below} if below else value


def _image(image: ImageRecord) -> dict[str, Any]:
    """Return what is known of an image's origin; ``verdict`` is "signed", "unsigned" or, unchecked, "insecure"."""
    signers = [{"format": s.format, "fingerprint": s.fingerprint, "name": printable(s.name)} for s in image.signers]
    return {
        "id": image.id,
        "name": image.name,
        "manifest": image.manifest,
        "verdict": "signed" if signers else "insecure" if "image" in image.insecure else "unsigned",
        "signers": signers,
        "insecure": list(image.insecure),
    }


def launch(
    where: Log, path: str, plans: Plans, stage1: Iterable[dict[str, str]], *, apps: tuple[str, ...] = ()
) -> None:
    """Measure the launch of the pod in ``path``; of a pod that runs already, that of ``apps`` alone.

    ``plans`` are (part, app, bytes) as stage1 gets them: the part says what the plan is of, the app whose it is.
    ``stage1`` is what ``programs`` returns; of a pod that runs, of the file behind /proc/PID/exe of its supervisor.
    Raises, unless the log is not required: CannotCreate, NoPermission, InvalidSpec, StartFailed.
    """
    try:
        append(where.path, _events(path, plans, stage1, apps))
    except (OSError, InvalidSpec, CannotCreate) as error:
        refused = _refused(where.path, error)
        if where.required:
            raise refused from error
        log.warn(f"{refused.message}; it is started all the same")


def _refused(path: str, error: Exception) -> PyrktError:
    text = "the launch cannot be measured"
    if isinstance(error, PyrktError) and not isinstance(error, OSError):
        return type(error)(f"{text}: {error.message}", hint=error.hint)
    named = getattr(error, "filename", None)  # a descriptor's call names nothing
    where = os.fsdecode(named) if isinstance(named, str | bytes) else path
    message = f"{text}: {where}: {getattr(error, 'strerror', '') or error}"
    return (NoPermission if isinstance(error, PermissionError) else CannotCreate)(message, hint=_HINT)


def _events(path: str, plans: Plans, stage1: Iterable[dict[str, str]], apps: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the events of a launch, in the order in which one thing leads to the next."""
    uuid = os.path.basename(path)
    origins = [entry for entry in _origins(path) if not apps or entry["app"] in apps]
    events = [{"eventType": record.IMAGE, **entry} for entry in origins]
    events.append({"eventType": record.POD_MANIFEST, "digest": _digest(f"{path}/pod")})
    for entry in origins:
        events += _configs(path, str(entry["app"]))
    for part, app, data in plans:
        event = {"eventType": record.PLAN, "part": part, "digest": record.sha256(data)}
        events.append(event | {"app": app} if app else event)
    events += [{"eventType": record.STAGE1, **program} for program in stage1]
    return [event | {"pod": uuid} for event in events]


def _configs(path: str, app: str) -> list[dict[str, Any]]:
    """Return an event for the app's configuration, and for those that another runtime is given in its place."""
    event = {"eventType": record.APP_CONFIG, "app": app}
    home = f"{path}/apps/{app}"
    found = [event | {"digest": _digest(f"{home}/config.json")}]
    if os.path.isdir(f"{home}/bundles"):
        names = sorted(os.listdir(f"{home}/bundles"))
        found += [event | {"bundle": name, "digest": _digest(f"{home}/bundles/{name}/config.json")} for name in names]
    return found


def _origins(path: str) -> list[dict[str, Any]]:
    try:
        with open(f"{path}/{PROVENANCE}", "rb", buffering=0) as file:
            value = fastjson.loads(file.read(), f"{path}/{PROVENANCE}")
    except FileNotFoundError:
        raise StartFailed(
            "the pod does not say where its images are from: an older pyrkt made it",
            hint="pyrkt rm it, then make it anew",
        ) from None
    if not isinstance(value, list) or not all(isinstance(entry, dict) and "app" in entry for entry in value):
        raise InvalidSpec("is damaged", document=f"{path}/{PROVENANCE}", hint="pyrkt rm the pod, then make it anew")
    return value


def _digest(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return record.sha256(file.read())


def programs(path: str, stage1: int) -> tuple[dict[str, str], ...]:
    """Return what is said of the programs that make the pod in ``path``: stage1, an open file, and the runtime's.

    The file of another runtime is looked at now, and found again by its name when it is executed.
    """
    flavour = read_flavour(path)
    size = os.fstat(stage1).st_size
    found: dict[str, str] = {"flavour": flavour.name, "digest": record.sha256(os.pread(stage1, size, 0))}
    if not flavour.is_foreign:
        return (found,)
    from hashlib import file_digest  # noqa: PLC0415 - OpenSSL's, as such a program is large

    with open(flavour.program, "rb") as file:
        digest = f"sha256:{file_digest(file, 'sha256').hexdigest()}"
    return (found, {"flavour": flavour.name, "program": flavour.program, "digest": digest})
