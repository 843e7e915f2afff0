"""An appc image manifest and a user's options become a container.

Source: appc 0.8, executor ("Execution Environment", "Isolators") and aci ("app"); rkt 1.30 for the order of the
environment and of overrides.
"""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from pyrkt.base.errors import InvalidSpec, NotFound, UsageError
from pyrkt.bundle import defaults, isolators, volumes
from pyrkt.bundle.assemble import Bundle, Program, assemble
from pyrkt.bundle.users import Accounts
from pyrkt.spec.appc import App
from pyrkt.spec.runtime import Hook, Hooks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrkt.bundle.options import RunOptions
    from pyrkt.bundle.users import Identity
    from pyrkt.spec.appc import ImageManifest
    from pyrkt.spec.runtime import Config
    from pyrkt.store.rootfs import Rootfs

_DEFAULTS = isolators.Limits(no_new_privileges=False)
"""Source: appc 0.8, os/linux/no-new-privileges: "The default value is false"."""


def configure(manifest: ImageManifest, rootfs: Rootfs, options: RunOptions) -> Config:
    """Return the config.json for ``manifest`` on ``rootfs``; ``compose`` gives what must lie beside it, too."""
    return compose(manifest, rootfs, options).config


def compose(manifest: ImageManifest, rootfs: Rootfs, options: RunOptions) -> Bundle:
    """Return the container for the app of ``manifest``, whose files are ``rootfs``, under ``options``.

    A pod manifest's own ``app`` replaces the image's: put it into ``manifest`` first.
    Raises: InvalidSpec for a user, group, capability or system call set that does not exist; NotFound for a missing
    working directory; UsageError if there is no program to run, or the options contradict one another.
    """
    app = manifest.app or App(user="0", group="0")
    accounts = Accounts(rootfs)
    gids = app.supplementary_gids if options.supplementary_gids is None else options.supplementary_gids
    who = accounts.appc(options.user or app.user, options.group or app.group, gids)
    limits, reports = isolators.read(app.isolators, options, _DEFAULTS)
    points = [volumes.Point(name=each.name, path=each.path, readonly=each.read_only) for each in app.mount_points]
    placed = volumes.place(
        points, options.mounts, rootfs=rootfs, implicit=options.implicit_volumes, nested=options.nested_volumes
    )
    cwd = options.working_dir or app.working_directory
    if not rootfs.is_dir(cwd) and not volumes.covers(placed.targets, cwd):
        raise NotFound(
            f"the image has no working directory {cwd!r}", hint="give one that exists: --working-dir DIRECTORY"
        )
    env = _environment(manifest, app, options, who)
    hooks = _pre_start(app, rootfs, env)
    program = Program(
        args=_args(app, options),
        env=env,
        cwd=cwd,
        identity=who,
        limits=limits,
        annotations=dict(options.annotations),
        sysctl=limits.sysctl,
        hooks=hooks,
    )
    bundle = assemble(program, placed, options, rootfs, reports)
    bundle = replace(bundle, isolators=isolators.in_force(app.isolators, options))
    told = tuple(
        f'no volume specified for mount point "{seat.name}", implicitly creating an "empty" volume. '
        "This volume will be removed when the pod is garbage-collected."
        for seat in bundle.seats
        if seat.implicit
    )
    commands = {handler.name: handler.exec for handler in app.event_handlers}
    return replace(
        bundle,
        warnings=(*bundle.warnings, *told),
        pre_start=commands.get("pre-start", ()),
        post_stop=commands.get("post-stop", ()),
        says_ready={**manifest.annotations, **options.annotations}.get(defaults.NOTIFY) == "true",
        activated=tuple(
            (port.name, port.port + offset, port.protocol)
            for port in app.ports
            if port.socket_activated
            for offset in range(port.count)
        ),
    )


def app_name(manifest: ImageManifest, options: RunOptions) -> str:
    """Return the name of the app in its pod: as asked, else the last part of the image's name as an AC Name."""
    if options.name:
        return options.name
    last = manifest.name.rpartition("/")[2]
    return "-".join(word for word in "".join(c if c.isalnum() else " " for c in last).split())


def _args(app: App, options: RunOptions) -> tuple[str, ...]:
    """Return the command line: the user's program takes the image's place, arguments follow it."""
    words = (options.exec,) if options.exec else app.exec
    if not words:
        raise UsageError("the image names no program", hint="give one: --exec PROGRAM")
    return (*words, *(options.args or ()))


def _environment(manifest: ImageManifest, app: App, options: RunOptions, who: Identity) -> dict[str, str]:
    name = who.name or ("root" if who.uid == 0 else str(who.uid))
    base = {
        "PATH": defaults.PATH,
        "SHELL": "/bin/sh",
        "USER": name,
        "LOGNAME": name,
        "HOME": who.home or ("/root" if who.uid == 0 else "/"),
    }
    if options.interactive:
        base["TERM"] = "xterm"
    asked = {**base, **options.inherit_env, **app.environment, **options.set_env, **options.env}
    return asked | defaults.own_variables(app_name(manifest, options), options.metadata_url)


def _pre_start(app: App, rootfs: Rootfs, env: Mapping[str, str]) -> Hooks | None:
    """Return the pre-start handler as a hook in the container."""
    words = tuple(f"{name}={value}" for name, value in env.items())
    hooks = tuple(
        Hook(path=find_program(rootfs, handler.exec[0], env.get("PATH", defaults.PATH)), args=handler.exec, env=words)
        for handler in app.event_handlers
        if handler.name == "pre-start"
    )
    return Hooks(start_container=hooks) if hooks else None


def find_program(rootfs: Rootfs, name: str, path: str) -> str:
    """Return the absolute path of the program ``name`` in the image, searched in ``path`` if it has no slash.

    Raises: InvalidSpec if it is not there or not executable.
    """
    for directory in [""] if "/" in name else path.split(":"):
        candidate = name if not directory else f"{directory.rstrip('/')}/{name}"
        entry = rootfs.lookup(candidate) if candidate.startswith("/") else None
        if entry and stat.S_ISREG(entry.status.st_mode) and entry.status.st_mode & 0o111:
            return candidate
    raise InvalidSpec(f"the image has no program {name!r}", document="image manifest", where="app.eventHandlers")
