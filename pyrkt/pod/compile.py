"""From a pod's bundles to its plan: reads the pod's directory, knows no image and no store."""

from __future__ import annotations

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, NoPermission
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record
from pyrkt.cgroup import host as cgroup_host
from pyrkt.cgroup import plan as cgroup_plan
from pyrkt.kernel import host as kernel_host
from pyrkt.kernel import seccomp
from pyrkt.plan import compile as compiler
from pyrkt.plan import steps
from pyrkt.plan.place import Place, PodApp
from pyrkt.pod.directory import write_new
from pyrkt.spec.layout import CgroupLayout, OverlayRoot
from pyrkt.spec.runtime import parse_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrkt.plan.steps import Plan
    from pyrkt.spec.runtime import Config


class Part(Record):
    """One app of a pod, ready to be compiled; ``lowers`` are the trees of its image, top first; none if copied.

    ``pre_start`` and ``post_stop`` are its event handlers: ``bundle.handlers`` makes containers of them.
    """

    name: str
    config: Config
    lowers: tuple[str, ...] = ()
    pre_start: tuple[str, ...] = ()
    post_stop: tuple[str, ...] = ()


class Compiled(Record):
    """The plan of a pod, the cgroups that it makes, and what the user should be told."""

    plan: Plan
    remove: tuple[str, ...] = ()
    kill: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def compiled(
    parts: tuple[Part, ...],
    path: str,
    uuid: str,
    *,
    detach: bool = False,
    on_failure: tuple[str, ...] = (),
    after: tuple[str, ...] = (),
) -> Compiled:
    """Return the plan that runs ``parts`` as pod ``uuid`` in the directory ``path``, where it lies when it runs.

    Raises: InvalidSpec, NoPermission, StartFailed from the compilers.
    """
    host = kernel_host.probe()
    rootless = not host.privileged
    apps, remarks = [], list[str]()
    for part in parts:
        layout = _layout(part.config, remarks, rootless=rootless)
        home = f"{path}/apps/{part.name}"
        apps.append(
            PodApp(
                name=part.name,
                config=part.config,
                bundle=home,
                rootfs=_overlay(part, home),
                cgroup=layout,
                stdin="/dev/null" if detach else "",
                stdout=f"{path}/logs/{part.name}.log" if detach else "",
                stderr=f"{path}/logs/{part.name}.log" if detach else "",
                seccomp=_filter(part.config),
            )
        )
    place = Place(
        id=uuid,
        record_file=f"{path}/pid",
        exit_dir=f"{path}/status",
        foreground=True,
        on_failure=on_failure,
        keyring=f"_ses.{uuid}",
        after_run=after,
    )
    plan = compiler.pod(tuple(apps), host, place)
    return Compiled(
        plan=plan,
        remove=tuple(directory for app in apps for directory in app.cgroup.remove),
        kill=tuple(file for app in apps for file in app.cgroup.kill),
        remarks=(*remarks, *plan.warnings),
    )


def _layout(config: Config, remarks: list[str], *, rootless: bool) -> CgroupLayout:
    linux = config.linux
    if linux is None or not linux.cgroups_path:
        return CgroupLayout()
    mounts = cgroup_host.probe(linux.cgroups_path, rootless=rootless)
    try:
        return cgroup_plan.layout(linux.resources, linux.cgroups_path, mounts, rootless=rootless)
    except NoPermission as error:
        if not rootless:
            raise
        remarks.append(f"{error.message}; it runs without limits")
        return cgroup_plan.layout(None, linux.cgroups_path, mounts, rootless=True)


def _overlay(part: Part, home: str) -> OverlayRoot | None:
    if not part.lowers:
        return None
    # The store's trees are marked by user.* whoever runs them.
    return OverlayRoot(lowers=part.lowers, upper=f"{home}/upper", work=f"{home}/work", volatile=True, userxattr=True)


def _filter(config: Config) -> bytes:
    if config.linux is None or config.linux.seccomp is None:
        return b""
    return seccomp.compile_filter(config.linux.seccomp)


def read_parts(path: str) -> tuple[Part, ...]:
    """Return the apps of the prepared pod in ``path``. Raises: InvalidSpec if its files are damaged; OSError."""
    recipe = Reader(_json(f"{path}/recipe"), f"{path}/recipe")
    return tuple(
        Part(
            name=app["name"].text(),
            config=_config(path, app["name"].text()),
            lowers=app["lowers"].texts(),
            pre_start=app["preStart"].texts(),
            post_stop=app["postStop"].texts(),
        )
        for app in recipe["apps"].items()
    )


def _config(path: str, name: str) -> Config:
    file = f"{path}/apps/{name}/config.json"
    with open(file, "rb") as opened:
        return parse_config(opened.read(), file)


def _json(file: str) -> Mapping[str, object]:
    with open(file, "rb") as opened:
        value = fastjson.loads(opened.read(), file)
    if not isinstance(value, dict):
        raise InvalidSpec("not an object", document=file)
    return value


def write_plan(path: str, found: Compiled) -> None:
    """Write ``plan``, ``causes`` and ``cgroups`` in the pod's directory ``path``."""
    write_new(f"{path}/plan", steps.encode(found.plan))
    write_new(f"{path}/causes", "\0".join(found.plan.causes).encode("utf-8", "surrogateescape"))
    # Before the first cgroup is made: whatever is killed when, gc knows what to look for.
    write_new(f"{path}/cgroups", fastjson.dumps({"remove": list(found.remove), "kill": list(found.kill)}).encode())
