"""The flags of the commands that are parsed by hand, and of all commands; help is made from these tables."""

from __future__ import annotations

from pyrkt.cli.grammar import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

GLOBAL = (
    Flag(name="debug", kind="bool", help="Print each step before it is done."),
    Flag(
        name="dir",
        kind="text",
        metavar="DIR",
        help="Where images and pods lie. Default: /var/lib/pyrkt, or ~/.local/share/pyrkt.",
    ),
    Flag(
        name="insecure-options",
        kind="list",
        metavar="OPTION,...",
        help="Checks to switch off: none image tls http pubkey capabilities paths seccomp all-fetch all-run all.",
    ),
    Flag(name="system-config", kind="text", metavar="DIR", help="System configuration. Default: /usr/lib/pyrkt."),
    Flag(name="local-config", kind="text", metavar="DIR", help="Local configuration. Default: /etc/pyrkt."),
    Flag(name="user-config", kind="text", metavar="DIR", help="User configuration. Default: none for root."),
)

_PULL = (
    Flag(name="pull-policy", kind="text", metavar="never|new|update", help="When to fetch: {policy}."),
    Flag(
        name="decryption-key",
        kind="list",
        metavar="KEY",
        help="KEYFILE[:pass=P|:file=F|:fd=N] for layers, passphrase:file=F or passphrase:fd=N for an ACI.",
    ),
    Flag(name="authfile", kind="text", metavar="FILE", help="Registry credentials, as docker's config.json."),
    Flag(name="signature", kind="text", binds="app", metavar="FILE", help="Detached signature of the image."),
)

NETWORK = (
    Flag(
        name="net",
        kind="optional",
        metavar="NAME[:KEY=VALUE;...],...",
        bare="default",
        help="Networks: none (a loopback of its own; the default), host, default, default-restricted, all, or by CNI.",
    ),
    Flag(name="hostname", kind="text", metavar="NAME", help="Host name of the pod. Default: pyrkt-UUID."),
    Flag(
        name="dns",
        kind="list",
        metavar="IP|host|none",
        help="Name server in resolv.conf; or the host's file; or what the image has, whatever the networks say.",
    ),
    Flag(name="dns-search", kind="list", metavar="DOMAIN", help="Search domain in resolv.conf."),
    Flag(name="dns-opt", kind="list", metavar="OPTION", help="Option in resolv.conf."),
    Flag(name="dns-domain", kind="text", metavar="DOMAIN", help="Local domain in resolv.conf."),
    Flag(name="hosts-entry", kind="list", metavar="IP=NAME|host", help="Line of /etc/hosts; or the host's file."),
    Flag(name="ipc", kind="text", metavar="auto|private|parent", help="IPC: of the pod (auto, private) or the host's."),
    Flag(name="interactive", kind="bool", help="Give the app a terminal of its own; one app only."),
    Flag(name="mds-register", kind="bool", help="Changes nothing: every pod has its metadata service."),
)

_STAGE1 = (
    Flag(
        name="stage1",
        kind="text",
        metavar="FLAVOUR",
        help="Who makes the apps: native (the default), fly (next to no walls), crun, runc, runsc (gVisor).",
    ),
    *(
        Flag(name=f"stage1-{kind}", kind="text", metavar=kind.upper(), help="rkt's: its images' names mean a flavour.")
        for kind in ("url", "path", "name", "hash", "from-dir")
    ),
)

_RUN = (
    Flag(
        name="detach",
        kind="bool",
        aliases=("d",),
        help="Start in the background; logs/ of the pod grows without a limit.",
    ),
    Flag(name="uuid-file-save", kind="text", metavar="FILE", help="Write the UUID to FILE, early."),
)

_POD = (
    Flag(
        name="volume",
        kind="list",
        metavar="NAME,kind=host,source=DIR[,readOnly=B][,recursive=B]",
        help="A volume; or NAME,kind=empty[,mode=0755][,uid=0][,gid=0].",
    ),
    Flag(
        name="mount",
        kind="list",
        binds="both",
        metavar="volume=NAME,target=PATH",
        help="Mount a volume: in every app before the images, in one app after its image.",
    ),
    Flag(name="set-env", kind="list", metavar="NAME=VALUE", help="Set a variable in all apps."),
    Flag(
        name="set-env-file",
        kind="list",
        metavar="FILE",
        help="Set the variables in FILE (NAME=VALUE lines) in all apps.",
    ),
    Flag(
        name="port",
        kind="list",
        metavar="NAME:[HOSTIP:]HOSTPORT",
        help="Publish the port that an image calls NAME (80-tcp is port 80) on the host.",
    ),
    Flag(name="inherit-env", kind="bool", help="Hand the caller's environment to all apps."),
    Flag(name="no-overlay", kind="bool", help="Copy the root file system instead of overlaying it."),
    Flag(name="private-users", kind="bool", help="Run in a user namespace."),
    Flag(
        name="pod-manifest",
        kind="text",
        metavar="FILE",
        help="Run the pod that this appc manifest describes, instead of images.",
    ),
    Flag(name="strict", kind="bool", help="Refuse to run unless every isolator is enforced as it stands."),
    Flag(name="nested-volumes", kind="bool", help="Let one volume be mounted within another."),
    Flag(name="linked-volumes", kind="bool", help="Let the source of a volume be, or lie behind, a symlink."),
    Flag(name="log", kind="text", metavar="file|journald|none", help="Where output is kept; journald: there, too."),
    Flag(
        name="log-size", kind="text", metavar="SIZE", help="Size of a log file before it is put aside. Default: 10Mi."
    ),
    Flag(
        name="log-files",
        kind="text",
        metavar="N",
        help="Log files that an app may have, the current one too. Default: 5.",
    ),
    Flag(
        name="exit-policy",
        kind="text",
        metavar="POLICY",
        help="When the pod ends: until-any-fails (the default), until-all-exit, until-any-exits.",
    ),
)

_APP = (
    Flag(name="exec", kind="text", metavar="PROGRAM", help="Run PROGRAM instead of the image's."),
    Flag(name="working-dir", kind="text", metavar="DIR", help="Working directory."),
    Flag(name="user", kind="text", metavar="USER", help="User: name, number, or /path of a file it owns."),
    Flag(name="group", kind="text", metavar="GROUP", help="Group: name, number, or /path."),
    Flag(name="supplementary-gids", kind="list", metavar="GID,...", help="Additional groups."),
    Flag(
        name="environment",
        kind="list",
        metavar="NAME=VALUE",
        help="Set a variable in this app; beats every other source.",
    ),
    Flag(name="stdin", kind="text", metavar="null|tty|stream", help="Input: none, or of those who attach."),
    Flag(
        name="stdout", kind="text", metavar="log|null|tty|stream", help="Output: stream, the default, is logged, too."
    ),
    Flag(name="stderr", kind="text", metavar="log|null|tty|stream", help="Errors: as --stdout."),
    Flag(name="readonly-rootfs", kind="bool", help="Make the root file system read-only."),
    Flag(name="memory", kind="text", metavar="SIZE", help="Memory limit: 128M, 1Gi."),
    Flag(name="cpu", kind="text", metavar="CORES", help="CPU limit: 0.5, 750m."),
    Flag(name="cpu-shares", kind="text", metavar="N", help="CPU weight, 2..262144."),
    Flag(name="pids", kind="text", metavar="N", aliases=("pids-limit",), help="Limit of processes and threads."),
    Flag(name="device", kind="list", metavar="PATH[:TARGET][:rwm]", help="Give the app a device of the host."),
    Flag(
        name="io",
        kind="list",
        metavar="PATH:LIMIT=N,...",
        help="Limit a block device: rbps, wbps (bytes a second), riops, wiops.",
    ),
    Flag(
        name="caps-retain",
        kind="list",
        metavar="CAP,...",
        aliases=("cap-retain",),
        help="Keep only these capabilities.",
    ),
    Flag(
        name="caps-remove",
        kind="list",
        metavar="CAP,...",
        aliases=("cap-remove",),
        help="Drop these from the default capabilities.",
    ),
    Flag(name="no-new-privileges", kind="bool", help="Nothing that the app executes gets more privileges than it has."),
    Flag(
        name="seccomp",
        kind="text",
        metavar="mode=remove|retain[,errno=E],CALL,...",
        help="Replace the system call filter.",
    ),
    Flag(
        name="oom-score-adj",
        kind="text",
        metavar="N",
        aliases=("oom-score-adjust",),
        help="How readily the kernel kills it, -1000..1000.",
    ),
    Flag(
        name="restart",
        kind="text",
        metavar="no|on-failure[:N]|always",
        help="Start the app again when it fails, N times at most, or whenever it ends.",
    ),
    Flag(
        name="restart-delay",
        kind="text",
        metavar="TIME",
        help="Wait before that: 500ms, 2s; twice as long each time it fails within 10 s, up to 1m. Default: 1s.",
    ),
    Flag(name="fatal", kind="bool", help="--fatal=false: the app's failure does not end the pod."),
    Flag(name="annotation", kind="list", binds="app", metavar="NAME=VALUE", help="Annotation of the app."),
    Flag(
        name="user-annotation",
        kind="list",
        binds="app",
        metavar="NAME=VALUE",
        help="Annotation without meaning to pyrkt.",
    ),
    Flag(name="user-label", kind="list", binds="app", metavar="NAME=VALUE", help="Label without meaning to pyrkt."),
)

_NAME = Flag(
    name="name",
    kind="text",
    binds="both",
    metavar="NAME",
    help="Before the images: a short name of the pod. After one: the app's name.",
)
_QUIET = Flag(name="quiet", kind="bool", help="Print nothing but the answer.")


def _bound(flags: tuple[Flag, ...]) -> tuple[Flag, ...]:
    return tuple(flag.replace(binds="app") for flag in flags)


RUN = (*_RUN, *NETWORK, *_POD, *_STAGE1, _NAME, *_PULL, _QUIET, *_bound(_APP))
PREPARE = (*_POD, *_STAGE1, *NETWORK[:-1], _NAME, *_PULL, _QUIET, *_bound(_APP))
RUN_PREPARED = (*_RUN, *NETWORK)
ENTER = (
    Flag(name="app", kind="text", metavar="NAME", help="Which app; needed if the pod has several."),
    Flag(name="tty", kind="bool", aliases=("t",), help="Give it a terminal; the default where there is one."),
    Flag(name="interactive", kind="bool", aliases=("i",), help="Nothing: standard input is always passed on."),
    Flag(name="env", kind="list", aliases=("e",), metavar="NAME=VALUE", help="Set a variable beside those of the app."),
    Flag(
        name="user",
        kind="text",
        aliases=("u",),
        metavar="USER[:GROUP]",
        help="Whom to run as, names being the image's. enter: root; exec: the app's own user.",
    ),
    Flag(
        name="cwd", kind="text", aliases=("w",), metavar="DIR", help="Where to run. Default: the app's own directory."
    ),
    Flag(name="detach", kind="bool", aliases=("d",), help="Do not wait; it gets no input, and nobody its output."),
)
_IN_SANDBOX = (
    *("volume", "set-env", "set-env-file", "no-overlay", "private-users", "strict", "nested-volumes", "linked-volumes"),
    *("log", "log-size", "log-files", "exit-policy"),
)
SANDBOX = (
    _RUN[1],
    Flag(name="foreground", kind="bool", help="Stay, as the pod's supervisor, as rkt does: for a unit of systemd."),
    *NETWORK[:-1],
    Flag(
        name="port",
        kind="list",
        metavar="NAME:PROTOCOL:PODPORT:[HOSTIP]:HOSTPORT",
        help="Publish a port of the pod on the host.",
    ),
    *(flag for flag in _POD if flag.name in _IN_SANDBOX),
    Flag(name="annotation", kind="list", metavar="NAME=VALUE", help="Annotation of the pod."),
    Flag(name="user-annotation", kind="list", metavar="NAME=VALUE", help="Annotation without meaning to pyrkt."),
    Flag(name="user-label", kind="list", metavar="NAME=VALUE", help="Label without meaning to pyrkt."),
    _NAME.replace(binds="pod", help="A short name of the pod."),
)
ADD = tuple(
    flag.replace(binds="both")
    for flag in (
        _NAME.replace(help="The app's name. Default: the last part of the image's."),
        *_APP,
        Flag(
            name="mnt-volume",
            kind="list",
            metavar="name=NAME,kind=host|empty[,source=DIR],target=PATH[,readOnly=B]...",
            help="Mount a volume that only this app has.",
        ),
        Flag(name="mount", kind="list", metavar="volume=NAME,target=PATH", help="Mount a volume of the sandbox."),
        *_PULL,
        _QUIET,
    )
)
FETCH = (
    Flag(name="full", kind="bool", help="Print the whole id."),
    Flag(name="json", kind="bool", help="Print one JSON object an image."),
    *_PULL,
    Flag(name="store-only", kind="bool", help="Same as --pull-policy=never."),
    Flag(name="no-store", kind="bool", help="Same as --pull-policy=update."),
    _QUIET,
)


def describe(command: str, usage: str, summary: str, flags: tuple[Flag, ...], policy: str = "") -> str:
    """Return the help text of a hand-parsed command."""
    lines = [f"usage: pyrkt {command} {usage}", "", summary]
    groups = (
        ("Flags", "pod"),
        ("Flags before or after an image", "both"),
        ("Flags after an image, which bind to it", "app"),
    )
    for title, binds in groups:
        chosen = [flag for flag in flags if flag.binds == binds]
        if chosen:
            lines += ["", f"{title}:", *rows(chosen, policy)]
    return "\n".join([*lines, "", "Global flags:", *rows(GLOBAL), ""])


def rows(flags: Iterable[Flag], policy: str = "") -> list[str]:
    """Return one or two lines a flag."""
    lines: list[str] = []
    for flag in flags:
        text = flag.help.replace("{policy}", policy)
        spelled = flag.spelled()
        lines += [f"  {spelled:<28} {text}"] if len(spelled) <= 28 else [f"  {spelled}", f"  {'':<28} {text}"]
    return lines
