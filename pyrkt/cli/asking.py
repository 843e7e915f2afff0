"""From the words of a command line to what is asked of a pod; every complaint names the flag."""

from __future__ import annotations

import os

from pyrkt.base import log
from pyrkt.base.errors import InvalidSpec, NotFound, UsageError
from pyrkt.base.units import quantity, quantity_milli
from pyrkt.pod import ask, policies
from pyrkt.pod.ask import App, Device, IoLimit, Mount, Names, PodAsk, Port, Pull, Volume
from pyrkt.pod.flavour import Flavour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from pyrkt.cli.grammar import Image, Line
    from pyrkt.pod.ask import PullPolicy

MIN_MEMORY = 4096
"""Bytes. Below it nobody means a limit: ``--memory=16m`` is sixteen thousandths of a byte (rkt refuses it too)."""
POLICIES: dict[str, PullPolicy] = {"never": "never", "new": "new", "update": "update"}
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")


_NATIVE = Flavour()
_OPENED = frozenset({"capabilities", "paths", "seccomp"})
_IN_A_MANIFEST = ("volume", "mount", "port", "set-env", "set-env-file", "inherit-env", "pull-policy")
"""Flags that a pod manifest leaves no room for: it says all of that itself, or names images by their ids."""


def pod(
    line: Line,
    insecure: frozenset[str],
    environ: Mapping[str, str],
    flavour: Flavour = _NATIVE,
    *,
    strict: bool = False,
) -> PodAsk:
    """Return the pod that ``line`` asks for; ``strict`` is what the configuration says of that.

    One of flavour fly has next to no walls, and the host's network.

    Raises: UsageError, InvalidSpec; NotFound for a --set-env-file or --pod-manifest that is not there.
    """
    asked = shared(line, insecure, flavour, strict=strict)
    asked = _by_manifest(line, asked) if line.text("pod-manifest") else _by_flags(line, asked, environ)
    if asked.interactive and len(asked.apps) > 1:
        raise UsageError("--interactive is for one app only", hint="run the images in pods of their own")
    if asked.interactive and any(app.stdin or app.stdout or app.stderr for app in asked.apps):
        raise UsageError("--interactive gives the app this terminal", hint="leave out --stdin, --stdout and --stderr")
    if asked.interactive and line.is_set("detach"):
        raise UsageError("--interactive needs the terminal that --detach leaves", hint="give one of the two")
    return asked


def shared(line: Line, insecure: frozenset[str], flavour: Flavour = _NATIVE, *, strict: bool = False) -> PodAsk:
    """Return what ``line`` asks of the pod itself, its volumes and variables apart. Raises: UsageError."""
    bare = flavour.name == "fly"
    return PodAsk(
        apps=(),
        flavour=flavour,
        name=line.text("name"),
        hostname=hostname(line.text("hostname")),
        net=network(line.list("net") or (("host",) if bare else ())),
        ipc=ipc(line.text("ipc")),
        names=names(line),
        interactive=line.is_set("interactive"),
        overlay=not line.is_set("no-overlay"),
        private_users=line.is_set("private-users"),
        insecure=insecure | _OPENED if bare else insecure,
        exit_policy=policies.exit_policy(line.text("exit-policy", "until-any-fails"), "--exit-policy"),
        strict=line.is_set("strict") if "strict" in line.flags else strict,
        nested_volumes=line.is_set("nested-volumes"),
        linked_volumes=line.is_set("linked-volumes"),
        log=_log(line.text("log", "file")),
        log_size=_log_size(line.text("log-size")),
        log_files=integer_of("--log-files", line.text("log-files", "5"), 1, ask.MAX_LOG_FILES) or 5,
    )


def _by_manifest(line: Line, asked: PodAsk) -> PodAsk:
    given = [f"--{name}" for name in _IN_A_MANIFEST if name in line.flags]
    if given or line.images:
        what = given[0] if given else f"the image {line.images[0].text}"
        raise UsageError(
            "conflicting flags set with --pod-manifest (see --help)", hint=f"leave out {what}: the manifest says it"
        )
    from pyrkt.pod import manifest

    return manifest.read(os.path.abspath(line.text("pod-manifest")), asked)


def _by_flags(line: Line, asked: PodAsk, environ: Mapping[str, str]) -> PodAsk:
    if not line.images:
        raise UsageError(
            "must provide at least one image", hint="pyrkt run docker://host/name, pyrkt run example.com/app"
        )
    volumes = volumes_of(line, whole=asked.flavour.name != "fly")
    everywhere = tuple(_mount(text) for text in line.list("mount"))
    apps = tuple(app_of(image, everywhere) for image in line.images)
    _unique((app.name for app in apps if app.name), "app")
    for mount in (mount for app in apps for mount in app.mounts):
        if mount.volume not in {volume.name for volume in volumes}:
            raise UsageError(
                f"--mount names the volume {mount.volume!r}, which no --volume describes",
                hint=f"--volume {mount.volume},kind=host,source=/DIRECTORY",
            )
    ports = tuple(port_of(text) for text in line.list("port"))
    return asked.replace(
        apps=apps,
        volumes=volumes,
        ports=ports,
        env=variables_of(line),
        inherited=tuple(f"{name}={value}" for name, value in environ.items()) if line.is_set("inherit-env") else (),
    )


def variables_of(line: Line) -> tuple[str, ...]:
    """Return what --set-env-file and --set-env say, the latter beating the former. Raises: UsageError, NotFound."""
    from_files = tuple(pair for path in line.list("set-env-file") for pair in _env_file(path))
    return _merged(from_files, (_env("--set-env", text) for text in line.list("set-env")))


def volumes_of(line: Line, *, whole: bool = True) -> tuple[Volume, ...]:
    """Return the volumes that --volume describes; ``whole``: with what is mounted in them. Raises: UsageError."""
    volumes = tuple(_volume(text, whole=whole) for text in line.list("volume"))
    _unique((volume.name for volume in volumes), "volume")
    return volumes


def pull(line: Line, insecure: frozenset[str], default: str) -> Pull:
    """Return how ``line`` wants images fetched; ``default`` is the command's own policy."""
    policy = line.text("pull-policy", default)
    if line.is_set("store-only") and line.is_set("no-store"):
        raise UsageError("--store-only and --no-store contradict each other", hint="give one of them")
    if line.is_set("store-only"):
        policy = "never"
    elif line.is_set("no-store"):
        policy = "update"
    if policy not in POLICIES:
        raise UsageError(f"--pull-policy {policy!r} is none of {', '.join(POLICIES)}", hint=f"the default is {default}")
    return Pull(
        policy=POLICIES[policy],
        decryption_keys=line.list("decryption-key"),
        authfile=line.text("authfile"),
        insecure=insecure,
        quiet=line.is_set("quiet"),
    )


def network(words: Iterable[str]) -> str:
    """Return what --net asks for, in its own words: "none" if it was not given, "host", or a list of networks."""
    modes = {mode for word in words for mode in word.split(",")} or {"none"}
    if modes <= {"none", "host"}:
        if len(modes) > 1:
            raise UsageError("--net=host and --net=none exclude all others", hint="give one of them")
        return modes.pop()
    from pyrkt.net.modes import parse

    return ",".join(map(str, parse(words)))


def check_ports(line: Line) -> None:
    """Refuse --port without a network where it could be published. Raises: UsageError, in rkt's words."""
    net = network(line.list("net")) if line.list("port") else ""
    if net in ("none", "host"):
        raise UsageError(f"--port flag does not work with '{net}' networking", hint="give a network: --net=default")


def names(line: Line) -> Names:
    """Return how names become addresses: what --dns and its kin and --hosts-entry ask for."""
    if not any(flag in line.flags for flag in ("dns", "dns-search", "dns-opt", "dns-domain", "hosts-entry")):
        return Names()
    from pyrkt.cli import naming

    return naming.names(line)


def ipc(text: str) -> str:
    """Return "private" or "host" for --ipc=auto|private|parent."""
    if text not in ("", "auto", "private", "parent"):
        raise UsageError(f"--ipc {text!r} is none of auto, private, parent", hint="parent is the host's")
    return "host" if text == "parent" else "private"


def hostname(text: str) -> str:
    """Check a host name. Source: sethostname(2), hostname(7)."""
    if text and (len(text) > 64 or not set(text.lower()) <= _LOWER | {"-", "."} or not text[0].isalnum()):
        raise UsageError(f"--hostname {text!r} is no host name", hint="letters, digits, - and ., 64 at most")
    return text


def _unique(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UsageError(f"two of the {what}s are named {name!r}", hint="give each a name of its own")
        seen.add(name)


def is_ac_name(text: str) -> bool:
    """Tell whether ``text`` is an AC Name."""
    return bool(text) and all(part and set(part) <= _LOWER for part in text.split("-"))


def _is_identifier(text: str) -> bool:
    for separator in "._~/":
        text = text.replace(separator, "-")
    return is_ac_name(text)


def app_of(image: Image, everywhere: tuple[Mount, ...] = ()) -> App:
    """Return what the flags behind ``image`` ask of its app; ``everywhere``: mounts of all apps. Raises: UsageError."""
    flags = image.flags

    def text(name: str) -> str:
        value = flags.get(name, "")
        return value if isinstance(value, str) else ""

    def words(name: str) -> tuple[str, ...]:
        value = flags.get(name, [])
        return tuple(value) if isinstance(value, list) else ()

    annotations = tuple(_annotation(item) for item in words("annotation"))
    name = text("name")
    if name and not is_ac_name(name):
        raise UsageError(f"--name {name!r} is no name of an app", hint="lower case letters, digits, and - between them")
    return App(
        image=image.text,
        name=name,
        args=image.args,
        exec=text("exec"),
        working_dir=_absolute("--working-dir", text("working-dir")),
        user=text("user"),
        group=text("group"),
        supplementary_gids=_gids(words("supplementary-gids")),
        environment=_merged(_env("--environment", pair) for pair in words("environment")),
        readonly_rootfs=flags.get("readonly-rootfs") is True,
        memory=_memory(text("memory")),
        cpu=_quantity("--cpu", text("cpu"), milli=True),
        cpu_shares=integer_of("--cpu-shares", text("cpu-shares"), 2, 262144) or 0,
        pids=integer_of("--pids", text("pids"), 1, 1 << 22) or 0,
        stdin=_one_of("--stdin", text("stdin"), ("", *ask.STDIN)),
        stdout=_one_of("--stdout", text("stdout"), ("", *ask.STDOUT)),
        stderr=_one_of("--stderr", text("stderr"), ("", *ask.STDOUT)),
        oom_score_adj=integer_of("--oom-score-adj", text("oom-score-adj"), -1000, 1000),
        caps_retain=_capabilities(words("caps-retain")),
        caps_remove=_capabilities(words("caps-remove")),
        no_new_privileges=flags["no-new-privileges"] is True if "no-new-privileges" in flags else None,
        seccomp=text("seccomp"),
        devices=tuple(_device(item) for item in words("device")),
        io=tuple(_io(item) for item in words("io")),
        mounts=(*everywhere, *map(_mount, words("mount")), *map(_own_mount, words("mnt-volume"))),
        annotations=annotations,
        user_annotations=tuple(pair_of("--user-annotation", item) for item in words("user-annotation")),
        user_labels=tuple(pair_of("--user-label", item) for item in words("user-label")),
        signature=os.path.abspath(text("signature")) if text("signature") else "",
        fatal=flags.get("fatal") is not False and policies.switch(dict(annotations), policies.FATAL, default=True),
        **_restart(text("restart"), text("restart-delay"), dict(annotations)),
    )


def _restart(policy: str, delay: str, annotations: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of an app that say when it is started again; a flag beats its annotation."""
    found: dict[str, Any] = {}
    if policy or policies.RESTART in annotations:
        words = ("--restart", policy) if policy else (policies.RESTART, annotations[policies.RESTART])
        found["restart"], found["restart_max"] = policies.restart(words[1], words[0])
    if delay or policies.DELAY in annotations:
        words = ("--restart-delay", delay) if delay else (policies.DELAY, annotations[policies.DELAY])
        found["restart_delay_ms"] = policies.delay(words[1], words[0])
    return found


def _absolute(flag: str, path: str) -> str:
    if path and not path.startswith("/"):
        raise UsageError(f"{flag} {path!r} is not absolute", hint="begin it with /")
    return path


def _number(text: str) -> bool:
    # int() would take "1_0", " 1" and digits of other scripts as well.
    return text.isascii() and text.isdigit() and len(text) < 20


def _one_of(flag: str, word: str, words: tuple[str, ...]) -> str:
    if word not in words:
        known = ", ".join(filter(None, words))
        raise UsageError(f"{flag} {word!r} is none of {known}", hint=f"{flag}={words[-1]}")
    return word


def _log(word: str) -> str:
    if _one_of("--log", word, ask.LOGS) == "journald" and not os.path.exists("/run/systemd/journal/socket"):
        log.warn("--log=journald: systemd's journal is not there; the pod's own files have all that its apps write")
    return word


def _log_size(text: str) -> int:
    value = _quantity("--log-size", text) if text else 10 << 20
    if not ask.MIN_LOG_SIZE <= value <= ask.MAX_LOG_SIZE:
        raise UsageError(f"--log-size {text!r} is {value} bytes", hint="write 64Ki, 10Mi or so; 64Ki at least")
    return value


def integer_of(flag: str, text: str, low: int, high: int) -> int | None:
    """Return the number that ``flag`` was given; None if it was given nothing. Raises: UsageError."""
    if not text:
        return None
    if not _number(text.removeprefix("-")) or not low <= int(text) <= high:
        raise UsageError(f"{flag} {text!r} is not a number between {low} and {high}", hint=f"{flag}=N")
    return int(text)


def _quantity(flag: str, text: str, *, milli: bool = False) -> int:
    if not text:
        return 0
    try:
        value = quantity_milli(text, flag) if milli else quantity(text, flag)
    except InvalidSpec as error:
        raise UsageError(error.message, hint=error.hint) from None
    if not value:
        raise UsageError(f"{flag} {text!r} is nothing at all", hint="leave it out for no limit")
    return value


def _memory(text: str) -> int:
    value = _quantity("--memory", text)
    if text and value < MIN_MEMORY:
        raise UsageError(
            f"--memory {text!r} is {value} byte{'s' if value > 1 else ''}",
            hint="m is a thousandth; M, Mi, G, Gi are what you want",
        )
    return value


def _gids(lists: tuple[str, ...]) -> tuple[int, ...] | None:
    words = [word.strip() for text in lists for word in text.split(",") if word.strip()]
    for word in words:
        integer_of("--supplementary-gids", word, 0, (1 << 32) - 2)
    return tuple(map(int, words)) if lists else None


def _capabilities(lists: tuple[str, ...]) -> tuple[str, ...] | None:
    if not lists:
        return None
    words = [word.strip().upper() for text in lists for word in text.split(",") if word.strip()]
    return tuple(dict.fromkeys(word if word.startswith("CAP_") else f"CAP_{word}" for word in words))


def _env(flag: str, text: str) -> str:
    name, equals, _ = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{flag} {text!r} is not NAME=VALUE", hint=f"{flag} {name or 'NAME'}=VALUE")
    return text


def _merged(*sources: Iterable[str]) -> tuple[str, ...]:
    """Return the variables of all ``sources``, a later one beating an earlier."""
    variables = {text.partition("=")[0]: text for source in sources for text in source}
    return tuple(variables.values())


def _env_file(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read(1 << 20).splitlines()
    except FileNotFoundError:
        raise NotFound(f"--set-env-file {path}: no such file", hint="check the path") from None
    return [_env(f"--set-env-file {path}:", line) for line in map(str.strip, lines) if line and line[0] not in "#;"]


def _annotation(text: str) -> tuple[str, str]:
    name, value = pair_of("--annotation", text)
    if not _is_identifier(name):
        raise UsageError(
            f"--annotation {name!r} is no AC Identifier", hint="example.com/name; --user-annotation takes any name"
        )
    return name, value


def pair_of(flag: str, text: str) -> tuple[str, str]:
    """Split NAME=VALUE. Raises: UsageError."""
    name, _, value = _env(flag, text).partition("=")
    return name, value


def _boolean(flag: str, key: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise UsageError(f"{flag}: {key}={text} is neither true nor false", hint=f"{key}=true")
    return text == "true"


def fields_of(flag: str, text: str, allowed: tuple[str, ...]) -> dict[str, str]:
    """Split ``key=value,key=value``; ``\\,`` is a comma within a value."""
    fields: dict[str, str] = {}
    for part in (part.replace("\0", ",") for part in text.replace("\\,", "\0").split(",")):
        key, equals, value = part.partition("=")
        if not equals or key not in allowed:
            raise UsageError(
                f"{flag}: {part!r} is none of {', '.join(f'{name}=' for name in allowed)}", hint=f"in {flag} {text}"
            )
        if key in fields:
            raise UsageError(f"{flag}: {key} is given twice", hint=f"in {flag} {text}")
        fields[key] = value
    return fields


def _volume(text: str, *, whole: bool) -> Volume:
    name, _, rest = text.partition(",")
    flag = f"--volume {name}"
    if not is_ac_name(name):
        raise UsageError(f"--volume {name!r} is no name of a volume", hint="--volume NAME,kind=host,source=/DIRECTORY")
    fields = fields_of(flag, rest, ("kind", "source", "readOnly", "recursive", "mode", "uid", "gid")) if rest else {}
    kind = fields.get("kind", "")
    if kind == "host":
        _only(flag, fields, ("kind", "source", "readOnly", "recursive"))
        source = _absolute(f"{flag}: source", fields.get("source", ""))
        if not source:
            raise UsageError(f"{flag}: a host volume needs a source", hint=f"{flag},kind=host,source=/DIRECTORY")
        return Volume(
            name=name,
            kind="host",
            source=source,
            read_only=_read_only(flag, fields),
            recursive=_boolean(flag, "recursive", fields.get("recursive", "true" if whole else "false")),
        )
    if kind != "empty":
        raise UsageError(f"{flag}: kind={kind} is neither host nor empty", hint=f"{flag},kind=host,source=/DIRECTORY")
    _only(flag, fields, ("kind", "readOnly", "mode", "uid", "gid"))
    mode = fields.get("mode", "0755")
    if not (mode.isascii() and mode.isdigit()) or set(mode) & set("89") or int(mode, 8) > 0o7777:
        raise UsageError(f"{flag}: mode={mode} is not an octal mode", hint="mode=0755")
    return Volume(
        name=name,
        kind="empty",
        read_only=_read_only(flag, fields),
        mode=int(mode, 8),
        uid=integer_of(f"{flag}: uid", fields.get("uid", ""), 0, (1 << 32) - 2) or 0,
        gid=integer_of(f"{flag}: gid", fields.get("gid", ""), 0, (1 << 32) - 2) or 0,
    )


def _read_only(flag: str, fields: Mapping[str, str]) -> bool | None:
    return _boolean(flag, "readOnly", fields["readOnly"]) if "readOnly" in fields else None


def _only(flag: str, fields: dict[str, str], allowed: tuple[str, ...]) -> None:
    for key, value in fields.items():
        if key not in allowed:
            raise UsageError(f"{flag}: {key} is not for kind={fields['kind']}", hint=f"leave out {key}={value}")


def _mount(text: str) -> Mount:
    fields = fields_of("--mount", text, ("volume", "target"))
    volume, target = fields.get("volume", ""), fields.get("target", "")
    if not volume or not target:
        raise UsageError(f"--mount {text!r} needs a volume and a target", hint="--mount volume=NAME,target=/PATH")
    # As in rkt, the target may be written without its first slash.
    return Mount(volume=volume, target=target if target.startswith("/") else f"/{target}")


def port_of(text: str) -> Port:
    """Read ``NAME:[HOSTIP:]HOSTPORT``."""
    name, _, rest = text.partition(":")
    address, _, number = rest.rpartition(":")
    hint = f"--port={name or 'NAME'}:[HOSTIP:]HOSTPORT"
    if not is_ac_name(name) or not number:
        raise UsageError(f"--port {text!r} cannot be read", hint=hint)
    parts = address.split(".")
    if address and not (len(parts) == 4 and all(_number(part) and int(part) < 256 for part in parts)):
        raise UsageError(
            f"--port {text!r}: {address!r} is not an IPv4 address", hint=f"{hint}; without it, all of them"
        )
    return Port(name=name, host_ip=address, host_port=integer_of(f"--port {name}: host port", number, 1, 65535) or 0)


def _own_mount(text: str) -> Mount:
    """Read ``name=,kind=,source=,target=...``: a volume that only one app has, as rkt's app add has it."""
    known = ("name", "target", "kind", "source", "readOnly", "recursive", "mode", "uid", "gid")
    fields = fields_of("--mnt-volume", text, known)
    name, target = fields.pop("name", ""), fields.pop("target", "")
    if not name or not target:
        raise UsageError(
            f"--mnt-volume {text!r} needs a name and a target",
            hint="--mnt-volume=name=NAME,kind=host,source=/DIRECTORY,target=/PATH",
        )
    own = _volume(",".join([name, *(f"{key}={value}" for key, value in fields.items())]), whole=True)
    return Mount(volume=name, target=_absolute("--mnt-volume: target", target), own=own)


def _device(text: str) -> Device:
    path, *rest = text.split(":")
    access = rest.pop() if rest and not rest[-1].startswith("/") else "rwm"
    if len(rest) > 1 or not access or not set(access) <= set("rwm") or not path.startswith("/"):
        raise UsageError(f"--device {text!r} cannot be read", hint="--device /dev/NODE[:/dev/TARGET][:rwm]")
    return Device(path=path, target=rest[0] if rest else path, access=access)


def _io(text: str) -> IoLimit:
    path, colon, rest = text.partition(":")
    if not colon or not path.startswith("/"):
        raise UsageError(f"--io {text!r} cannot be read", hint="--io /dev/DISK:rbps=10M,wiops=500")
    fields = fields_of("--io", rest, ("rbps", "wbps", "riops", "wiops"))
    numbers = {key: _quantity(f"--io {path}: {key}", value) for key, value in fields.items()}
    return IoLimit(path=path, **numbers)
