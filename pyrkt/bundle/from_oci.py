"""An OCI or Docker image configuration and a user's options become a container.

Source: image-spec 1.1, conversion.md. The image's labels become annotations, but not those that runtimes and engines
obey: what an image says must never steer its host.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pyrkt.base.errors import UsageError
from pyrkt.bundle import defaults, isolators, volumes
from pyrkt.bundle.assemble import Program, assemble
from pyrkt.bundle.users import Accounts

if TYPE_CHECKING:
    from pyrkt.bundle.assemble import Bundle
    from pyrkt.bundle.options import RunOptions
    from pyrkt.bundle.users import Identity
    from pyrkt.spec.image import ImageConfig
    from pyrkt.spec.runtime import Config
    from pyrkt.store.rootfs import Rootfs

_ANNOTATION = "org.opencontainers.image."
RESERVED = (
    "com.docker.",
    "com.github.containers.",
    "cri-containerd.",
    "io.container.manager",
    "io.containerd.",
    "io.cri-containerd.",
    "io.katacontainers.",
    "io.kubernetes.",
    "io.podman.",
    "module.wasm.image",
    "org.criu.",
    "org.systemd.property.",
    "pyrkt.",
    "run.oci.",
)
"""Beginnings of annotations that some runtime or engine takes for orders; a label of an image may not give them."""


def configure(image: ImageConfig, rootfs: Rootfs, options: RunOptions) -> Config:
    """Return the config.json for ``image`` on ``rootfs``; ``compose`` gives what must lie beside it, too."""
    return compose(image, rootfs, options).config


def compose(image: ImageConfig, rootfs: Rootfs, options: RunOptions) -> Bundle:
    """Return the container for ``image``, whose files are ``rootfs``, under ``options``.

    Raises: InvalidSpec for a user that the image does not have; UsageError if there is no program to run, or
    the options contradict one another.
    """
    accounts = Accounts(rootfs)
    who = accounts.oci(_user(image, options))
    if options.supplementary_gids is not None:
        who = _with_groups(who, options.supplementary_gids)
    limits, _ = isolators.read((), options)
    kept, dropped = _labels(image)
    points = [volumes.Point(name=volume_name(path), path=path) for path in image.volumes]
    # Docker has always let one volume lie in another one, and such images are about.
    placed = volumes.place(points, options.mounts, rootfs=rootfs, implicit=options.implicit_volumes, nested=True)
    program = Program(
        args=_args(image, options),
        env=_environment(image, options, who),
        cwd=options.working_dir or image.working_dir or "/",
        identity=who,
        limits=limits,
        sysctl=limits.sysctl,
        annotations={**_annotations(image), **kept, **options.annotations},
    )
    bundle = assemble(program, placed, options, rootfs)
    bundle = replace(bundle, isolators=isolators.in_force((), options), stop_signal=image.stop_signal)
    bundle = replace(bundle, says_ready=options.annotations.get(defaults.NOTIFY) == "true")
    if not dropped:
        return bundle
    told = f"label {dropped[0]!r} of the image{' and others' if dropped[1:] else ''} gives no orders here: left out"
    return replace(bundle, warnings=(*bundle.warnings, told))


def volume_name(path: str) -> str:
    """Return how docker2aci, and so rkt's --volume, calls an image's volume: "/var/tmp" is "volume-var-tmp"."""
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in path.lower()).split()
    return "-".join(("volume", *words))


def _args(image: ImageConfig, options: RunOptions) -> tuple[str, ...]:
    """Return the command line: the user's program takes the place of both, arguments that of Cmd."""
    if options.exec:
        return (options.exec, *(options.args or ()))
    args = image.entrypoint + (image.cmd if options.args is None else options.args)
    if not args or not args[0]:
        raise UsageError("the image names no program", hint="give one: --exec PROGRAM, or -- PROGRAM ARGUMENTS")
    return args


def _user(image: ImageConfig, options: RunOptions) -> str:
    user, _, group = image.user.partition(":")
    if options.user:
        # The image's group belongs to the image's user.
        user, group = options.user, options.group
    elif options.group:
        user, group = user or "0", options.group
    return f"{user}:{group}" if group else user


def _with_groups(who: Identity, groups: tuple[int, ...]) -> Identity:
    return type(who)(uid=who.uid, gid=who.gid, groups=groups, name=who.name, home=who.home)


def _environment(image: ImageConfig, options: RunOptions, who: Identity) -> dict[str, str]:
    base = {"PATH": defaults.PATH, "HOME": who.home or ("/root" if who.uid == 0 else "/")}
    if options.interactive:
        base["TERM"] = "xterm"
    own = dict(variable.split("=", 1) for variable in image.env)
    asked = {**base, **options.inherit_env, **own, **options.set_env, **options.env}
    # In a pod it is an app among apps; a bundle of its own is what the image says.
    return asked | defaults.own_variables(options.name, options.metadata_url) if options.pod_uuid else asked


def _annotations(image: ImageConfig) -> dict[str, str]:
    """Return what the conversion takes over from the configuration itself."""
    members = {
        "os": image.platform.os,
        "architecture": image.platform.architecture,
        "variant": image.platform.variant,
        "os.version": image.os_version,
        "author": image.author,
        "created": image.created,
        "stopSignal": image.stop_signal,
        "exposedPorts": ",".join(image.exposed_ports),
    }
    return {_ANNOTATION + name: value for name, value in members.items() if value}


def _labels(image: ImageConfig) -> tuple[dict[str, str], list[str]]:
    """Return the labels that become annotations, and the names of those that may not."""
    dropped = sorted(name for name in image.labels if not name or name.lower().startswith(RESERVED))
    return {name: value for name, value in image.labels.items() if name not in dropped}, dropped
