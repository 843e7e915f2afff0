"""The last step of both image families: a program, its limits and its volumes become one config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyrkt.base.errors import UsageError
from pyrkt.bundle import defaults, files, isolators
from pyrkt.bundle.volumes import OwnVolume, Placed, covers
from pyrkt.spec.runtime import (
    Capabilities,
    Config,
    Device,
    Hooks,
    IdMapping,
    Linux,
    Mount,
    Namespace,
    Process,
    Root,
    User,
)

if TYPE_CHECKING:
    from pyrkt.bundle.isolators import Limits, Report
    from pyrkt.bundle.options import IdRange, RunOptions
    from pyrkt.bundle.users import Identity
    from pyrkt.bundle.volumes import Seat
    from pyrkt.spec.appc import Isolator
    from pyrkt.store.rootfs import Rootfs

OCI_VERSION = "1.0.2"
"""What config.json declares. It uses nothing newer, and crun before 1.9 refuses 1.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run, as the image and the user want it together. ``env`` keeps its order."""

    args: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    identity: Identity
    limits: Limits
    annotations: Mapping[str, str] = field(default_factory=dict)
    sysctl: Mapping[str, str] = field(default_factory=dict)
    hooks: Hooks | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A container ready to be written: its config, and what must lie beside it.

    ``files`` are names below files/, ``texts`` the content of those that have a special one; ``volumes`` are
    directories below volumes/; ``reports`` and ``warnings`` are for
    the user. ``pre_start`` and ``post_stop`` are the command lines of the app's event handlers (``bundle.handlers``);
    as far as a bundle alone can run them they are hooks of ``config``, too. ``seats`` tells of the volumes;
    ``replaced`` are files of the rootfs that have to become directories for them. ``isolators`` say in appc's words
    what limits the image and the options set together. ``network_bps``: bytes a second, which no config.json can say.
    ``stop_signal``: what the image wants to be ended by, in its words. ``says_ready``: the app tells when it is ready.
    ``activated``: (name, number, protocol) of its ports that come as sockets which somebody else has opened.
    """

    config: Config
    files: tuple[str, ...] = ()
    texts: Mapping[str, bytes] = field(default_factory=dict)
    volumes: tuple[OwnVolume, ...] = ()
    reports: tuple[Report, ...] = ()
    warnings: tuple[str, ...] = ()
    pre_start: tuple[str, ...] = ()
    post_stop: tuple[str, ...] = ()
    seats: tuple[Seat, ...] = ()
    replaced: tuple[str, ...] = ()
    isolators: tuple[Isolator, ...] = ()
    network_bps: int = 0
    stop_signal: str = ""
    says_ready: bool = False
    activated: tuple[tuple[str, int, str], ...] = ()


def assemble(
    program: Program, placed: Placed, options: RunOptions, rootfs: Rootfs, reports: tuple[Report, ...] = ()
) -> Bundle:
    """Put one container together.

    Raises: UsageError for ids that its user namespace does not have.
    """
    made, told = files.choose(options, hostname(options), rootfs, placed)
    names = tuple(file.name for file in made)
    held = isolators.capability_set(program.limits, options)
    identity = program.identity
    _check_ids(identity, options)
    config = Config(
        oci_version=OCI_VERSION,
        root=Root(path="rootfs", readonly=options.readonly_rootfs),
        process=Process(
            terminal=options.interactive,
            user=User(uid=identity.uid, gid=identity.gid, additional_gids=identity.groups),
            args=program.args,
            env=tuple(f"{name}={value}" for name, value in program.env.items()),
            cwd=program.cwd,
            # Nothing inheritable and nothing ambient: what an ordinary user's program could pass on, it gets from
            # its file only (CVE-2022-29162 and its four siblings were containers that had more).
            capabilities=Capabilities(bounding=held, effective=held, permitted=held),
            no_new_privileges=program.limits.no_new_privileges,
            apparmor_profile=program.limits.apparmor_profile,
            selinux_label=program.limits.selinux_label,
            oom_score_adj=program.limits.oom_score_adj,
        ),
        hostname=hostname(options),
        mounts=(*_system_mounts(options, placed), *placed.mounts, *files.mounts(names, rootfs)),
        hooks=program.hooks,
        annotations=dict(program.annotations),
        linux=_linux(program, options, held),
    )
    return Bundle(
        config=config,
        files=names,
        texts={file.name: file.text for file in made if file.text is not None},
        volumes=placed.own,
        reports=reports,
        warnings=(*placed.warnings, *told),
        seats=placed.seats,
        replaced=placed.replaced,
        network_bps=program.limits.network_bps,
    )


def hostname(options: RunOptions) -> str:
    """Return the host name of the container: as asked, else after the pod, else after the app."""
    if options.hostname:
        return options.hostname
    return f"pyrkt-{options.pod_uuid}" if options.pod_uuid else options.name or "pyrkt"


def id_mappings(options: RunOptions) -> tuple[tuple[IdMapping, ...], tuple[IdMapping, ...]]:
    """Return the id mappings of users and of groups; none without a user namespace."""
    if not options.userns:
        return (), ()
    return _mappings(options.uid_mappings), _mappings(options.gid_mappings)


def namespaces(options: RunOptions) -> tuple[str, ...]:
    """Return the kinds of namespaces that the container has for itself, or with its pod."""
    shared = {"network"} if options.net == "host" else set()
    shared |= {"ipc"} if options.host_ipc else set()
    return (*(kind for kind in defaults.NAMESPACES if kind not in shared), *(("user",) if options.userns else ()))


def _linux(program: Program, options: RunOptions, held: tuple[str, ...]) -> Linux:
    open_paths = "paths" in options.insecure
    kinds = namespaces(options)
    uids, gids = id_mappings(options)
    return Linux(
        uid_mappings=uids,
        gid_mappings=gids,
        sysctl=dict(program.sysctl),
        resources=isolators.resources(program.limits, options),
        cgroups_path=options.cgroups_path,
        namespaces=tuple(Namespace(type=kind, path=options.netns if kind == "network" else "") for kind in kinds),
        devices=tuple(
            Device(
                type=each.kind,
                path=each.path,
                major=each.major,
                minor=each.minor,
                file_mode=each.mode,
                uid=each.uid,
                gid=each.gid,
            )
            for each in options.devices
        ),
        seccomp=isolators.filter_of(program.limits, options, held),
        masked_paths=() if open_paths else defaults.MASKED_PATHS,
        readonly_paths=() if open_paths else defaults.READONLY_PATHS,
    )


def _mappings(ranges: tuple[IdRange, ...]) -> tuple[IdMapping, ...]:
    return tuple(IdMapping(container_id=each.container, host_id=each.host, size=each.size) for each in ranges)


def _maps(ranges: tuple[IdRange, ...], number: int) -> bool:
    return any(each.container <= number < each.container + each.size for each in ranges)


def _check_ids(identity: Identity, options: RunOptions) -> None:
    if not options.userns:
        return
    for what, ranges, numbers in (
        ("user", options.uid_mappings, (identity.uid,)),
        ("group", options.gid_mappings, (identity.gid, *identity.groups)),
    ):
        for number in numbers:
            if not _maps(ranges, number):
                raise UsageError(
                    f"the user namespace has no {what} {number}", hint="map more ids, or run as another user"
                )


def _system_mounts(options: RunOptions, placed: Placed) -> tuple[Mount, ...]:
    """Return the default mounts but those that a volume of the user's takes the place of."""
    standard = defaults.mounts(
        host_network=options.net == "host",
        userns=options.userns,
        tty_group=not options.userns or _maps(options.gid_mappings, 5),
    )
    # A queue file system is its ipc namespace's, which is not that of the new user namespace (mq_overview(7)).
    left_out = ("mqueue",) if options.userns and options.host_ipc else ()
    # With a terminal the runtime puts that there.
    console = () if options.interactive else (defaults.NO_CONSOLE,)
    return tuple(
        mount
        for mount in (*standard, *console)
        if mount.type not in left_out and not covers(placed.targets, mount.destination)
    )
