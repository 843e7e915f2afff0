"""``pyrkt app``: pods to which apps come, and from which they go, while they run; what a Kubernetes runtime needs."""

from __future__ import annotations

import sys

from pyrkt.base.errors import UsageError
from pyrkt.cli import asking
from pyrkt.cli import flags as tables
from pyrkt.cli.grammar import Flag, leading, parse
from pyrkt.cli.settings import settle, strict
from pyrkt.pod.directory import Pods

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrkt.cli.grammar import Image, Line, Value
    from pyrkt.cli.settings import Settings
    from pyrkt.pod.ask import PodAsk, Port
    from pyrkt.pod.directory import Pod
    from pyrkt.pod.images import Source

_APP = Flag(name="app", kind="text", metavar="NAME", help="Which app; it may stand behind the UUID, too.")
_STOP = (
    _APP,
    Flag(name="force", kind="bool", help="Kill it at once."),
    Flag(name="grace", kind="text", metavar="TIME", help="Time before it is killed: 10s, 500ms. Default: 10s."),
)
_STATUS = (
    _APP,
    Flag(name="format", kind="text", metavar="json|json-pretty", help="Print it as JSON."),
)
_UUID = "[flags] UUID [APP]"


def sandbox(words: list[str], flags: Mapping[str, Value]) -> int:
    """Start a pod without apps, and print its UUID."""
    about = (
        "Start a pod without apps, and print its UUID. It runs until pyrkt stop, whatever its apps do (unless\n"
        "--exit-policy says otherwise)."
    )
    if _wants_help("app sandbox", "[flags]", about, tables.SANDBOX, words):
        return 0
    line = parse(words, (*tables.SANDBOX, *tables.GLOBAL), app_args=False)
    if line.images:
        raise UsageError("a sandbox has no apps yet", hint=f"pyrkt app add UUID {line.images[0].text}")
    settings = settle({**flags, **line.flags})
    background = not line.is_set("foreground")

    from pyrkt.cli.start import start
    from pyrkt.pod.make import Maker

    pods, pull = Pods(settings.data), asking.pull(line, settings.insecure, "never")
    maker = Maker(pods, settings.data, settings.dirs, pull, lambda: _source(line, settings, "never"))
    pod = maker.make(_asked(line, settings), uuid_file=line.text("uuid-file-save"), detach=background)
    return start(pods, pod, settings, background=background)


def _asked(line: Line, settings: Settings) -> PodAsk:
    asked = asking.shared(line, settings.insecure, strict=strict(settings.dirs))
    ports = tuple(map(_port, line.list("port")))
    if ports and asked.net in ("none", "host"):
        raise UsageError(
            f"--port flag does not work with '{asked.net}' networking", hint="give a network: --net=default"
        )
    return asked.replace(
        is_mutable=True,
        exit_policy=asked.exit_policy if "exit-policy" in line.flags else "all",
        volumes=asking.volumes_of(line),
        env=asking.variables_of(line),
        ports=ports,
        annotations=_pairs(line, "annotation"),
        user_annotations=_pairs(line, "user-annotation"),
        user_labels=_pairs(line, "user-label"),
    )


def _pairs(line: Line, flag: str) -> tuple[tuple[str, str], ...]:
    return tuple(asking.pair_of(f"--{flag}", text) for text in line.list(flag))


def _port(text: str) -> Port:
    """Read ``NAME:PROTOCOL:PODPORT:[HOSTIP]:HOSTPORT``."""
    from pyrkt.pod.ask import Port

    name, *rest = text.split(":")
    hint = f"--port={name or 'NAME'}:tcp:80::8080"
    if len(rest) != 4 or not asking.is_ac_name(name) or not rest[0] or not rest[1] or not rest[3]:
        raise UsageError(f"--port {text!r} cannot be read", hint=hint)
    protocol, inside, address, outside = rest
    published = asking.port_of(f"{name}:{address}:{outside}" if address else f"{name}:{outside}")
    number = asking.integer_of(f"--port {name}: port of the pod", inside, 1, 65535) or 0
    return Port(name=name, host_port=published.host_port, host_ip=published.host_ip, protocol=protocol, pod_port=number)


def _source(line: Line, settings: Settings, policy: str) -> Source:
    from pyrkt.cli.progress import progress
    from pyrkt.pod.images import Source as Opened

    pull = asking.pull(line, settings.insecure, policy)
    return Opened(settings.data, settings.dirs, pull, progress(quiet=pull.quiet))


def add(words: list[str], flags: Mapping[str, Value]) -> int:
    """Add an app to a running sandbox, and print its name; it does not run yet."""
    usage = "[flags] UUID IMAGE [flags] [-- ARGUMENT...]"
    about = "Add an app to the pod UUID, which app sandbox has made, and print its name. pyrkt app start runs it."
    if _wants_help("app add", usage, about, tables.ADD, words):
        return 0
    line = parse(words, (*tables.ADD, *tables.GLOBAL))
    if len(line.images) != 2:
        raise UsageError("which app of which pod?", hint="pyrkt app add UUID IMAGE; one image at a time")
    uuid, image = line.images
    settings = settle({**flags, **line.flags})
    app = asking.app_of(image.replace(flags=_merged(line, uuid, image)))
    pod = Pods(settings.data).find(uuid.text)

    from pyrkt.pod import apps

    apps.mutable(pod)  # before anything is fetched

    from pyrkt.pod import added

    sys.stdout.write(f"{added.add(pod, app, _source(line, settings, 'new'))}\n")
    return 0


def _merged(line: Line, uuid: Image, image: Image) -> dict[str, Value]:
    """Return the flags of the app, wherever they stand: before or behind the UUID, or behind the image."""
    found: dict[str, Value] = {}
    for given in (line.flags, uuid.flags, image.flags):
        for name, value in given.items():
            before = found.get(name)
            found[name] = [*before, *value] if isinstance(before, list) and isinstance(value, list) else value
    return found


def start(words: list[str], flags: Mapping[str, Value]) -> int:
    """Start an app of a sandbox."""
    about = "Start an app of the pod UUID; returns when it runs. One that has ended may be started again."
    if _wants_help("app start", _UUID, about, (_APP,), words):
        return 0
    pod, name, settings, _ = _chosen(words, flags, (_APP,))

    from pyrkt.pod import apps
    from pyrkt.tpm.where import find as measurements

    apps.start(pod, name, measurements(settings.dirs))
    return 0


def stop(words: list[str], flags: Mapping[str, Value]) -> int:
    """Stop an app of a sandbox."""
    about = "Stop an app of the pod UUID: its signal, and SIGKILL after the grace time; returns when it has ended."
    if _wants_help("app stop", _UUID, about, _STOP, words):
        return 0
    pod, name, _, given = _chosen(words, flags, _STOP)
    grace, force = given.get("grace"), given.get("force") is True
    if force and grace:
        raise UsageError("--force leaves no time for --grace", hint="give one of the two")

    from pyrkt.base.log import note
    from pyrkt.pod import apps, policies

    seconds = policies.delay(grace, "--grace") / 1000 if isinstance(grace, str) else -1.0
    if not apps.stop(pod, name, 0.0 if force else seconds):
        note(f"app {name} is not running")
    return 0


def remove(words: list[str], flags: Mapping[str, Value]) -> int:
    """Remove an app of a sandbox."""
    about = "Remove an app of the pod UUID, which must not run, with its files and its logs."
    if _wants_help("app rm", _UUID, about, (_APP,), words):
        return 0
    pod, name, _, _ = _chosen(words, flags, (_APP,))

    from pyrkt.pod import added

    added.remove(pod, name)
    return 0


def list_apps(words: list[str], flags: Mapping[str, Value]) -> int:
    """List the apps of a pod."""
    table = (Flag(name="no-legend", kind="bool", help="Leave out the heading."),)
    about = "List the apps of the pod UUID with their states: created, running, exited, unknown."
    if _wants_help("app list", "[flags] UUID", about, table, words):
        return 0
    given, rest = leading(words, (*table, *tables.GLOBAL))
    line = parse(rest, (*table, *tables.GLOBAL), app_args=False)
    if len(line.images) != 1:
        raise UsageError("which pod?", hint="pyrkt app list UUID; pyrkt list shows the pods")
    pod = Pods(settle({**flags, **given, **line.flags}).data).find(line.images[0].text)

    from pyrkt.base.errors import printable
    from pyrkt.pod import status as states

    for app in states.status(pod).apps:
        sys.stdout.write(f"{printable(app.name)}\t{app.state}\n")
    return 0


def status(words: list[str], flags: Mapping[str, Value]) -> int:
    """Show the state of an app."""
    about = "Show what is known of an app of the pod UUID. Times are in nanoseconds since 1970."
    if _wants_help("app status", _UUID, about, _STATUS, words):
        return 0
    pod, name, _, given = _chosen(words, flags, _STATUS)
    form = given.get("format", "")
    if form not in ("", "json", "json-pretty"):
        raise UsageError(f"--format {form!r} is neither json nor json-pretty", hint="leave it out for name=value lines")

    from pyrkt.base import fastjson
    from pyrkt.cli import show
    from pyrkt.pod import apps
    from pyrkt.pod import status as states

    value = states.app_json(apps.known(pod, name))
    if form:
        show.out(show.as_json(value, str(form)))
        return 0
    pairs: list[tuple[str, object]] = []
    for field in _FIELDS:
        found = value.get(field)
        if found is not None:
            pairs.append((field, fastjson.dumps(found) if isinstance(found, dict | list) else found))
    show.out(show.pairs(pairs))
    return 0


_FIELDS = (
    *("name", "state", "image_id", "created_at", "started_at", "finished_at", "exit_code", "restarts", "mounts"),
    *("user_annotations", "user_labels"),
)
"""What rkt's app status prints, in its order; restarts are ours."""


def _wants_help(name: str, usage: str, about: str, table: tuple[Flag, ...], words: list[str]) -> bool:
    if not words or words[0] not in ("-h", "--help"):
        return False
    sys.stdout.write(tables.describe(name, usage, about, table, "never, new (the default), update"))
    return True


def _chosen(
    words: list[str], flags: Mapping[str, Value], table: tuple[Flag, ...]
) -> tuple[Pod, str, Settings, Mapping[str, Value]]:
    """Return the pod, the name of its app, the settings, and the flags of the command."""
    line = parse(words, (*table, *tables.GLOBAL), app_args=False)
    texts = [image.text for image in line.images]
    if line.text("app"):
        texts.append(line.text("app"))
    if not texts:
        raise UsageError("which app of which pod?", hint="UUID --app=NAME; pyrkt list shows the pods")
    settings = settle({**flags, **line.flags})
    pod = Pods(settings.data).find(texts[0])
    if len(texts) > 2:
        raise UsageError(f"one app at a time, not {', '.join(texts[1:])}", hint="UUID --app=NAME")
    return pod, texts[1] if len(texts) == 2 else _only(pod), settings, line.flags


def _only(pod: Pod) -> str:
    """Return the name of the pod's only app. Raises: UsageError."""
    from pyrkt.pod import status as states

    names = states.app_names(pod)
    if len(names) != 1:
        listed = ", ".join(names) or "none"
        raise UsageError(f"which app of pod {pod.uuid[:8]}?", hint=f"--app=NAME; its apps are: {listed}")
    return names[0]
