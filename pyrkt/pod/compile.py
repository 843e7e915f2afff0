"""From a pod's bundles to its plan: reads the pod's directory, knows no image and no store."""

from __future__ import annotations

import os

from pyrkt.base import fastjson
from pyrkt.base.errors import InvalidSpec, NoPermission
from pyrkt.base.reader import Reader
from pyrkt.base.record import Record
from pyrkt.cgroup import host as cgroup_host
from pyrkt.cgroup import plan as cgroup_plan
from pyrkt.kernel import host as kernel_host
from pyrkt.kernel import seccomp
from pyrkt.metadata import key
from pyrkt.metadata.address import address, port
from pyrkt.plan import compile as compiler
from pyrkt.plan import steps
from pyrkt.plan.place import SAYS_READY, Place, PodApp, Policy, Service
from pyrkt.pod import service, streams
from pyrkt.pod.directory import write_new
from pyrkt.pod.flavour import Flavour, read_flavour
from pyrkt.pod.program import Wires
from pyrkt.pod.start import causes_file
from pyrkt.pod.streams import Where, Wish
from pyrkt.spec.layout import CgroupLayout, OverlayRoot
from pyrkt.spec.runtime import Linux, Mount, parse_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyrkt.kernel.host import Host
    from pyrkt.plan.steps import Plan
    from pyrkt.spec.runtime import Config


class Part(Record):
    """One app of a pod, ready to be compiled; ``lowers`` are the trees of its image, top first; none if copied.

    ``pre_start`` and ``post_stop`` are its event handlers: ``bundle.handlers`` makes containers of them.
    ``policy`` is what its end means, ``wish`` what is asked of its streams, ``flavour`` who makes its container.
    ``listen``: as Place has it.
    """

    name: str
    config: Config
    lowers: tuple[str, ...] = ()
    pre_start: tuple[str, ...] = ()
    post_stop: tuple[str, ...] = ()
    policy: Policy = Policy()
    wish: Wish = Wish()
    flavour: Flavour = Flavour()
    listen: tuple[tuple[int, bool], ...] = ()


class AppPlan(Record):
    """A plan that a pod's supervisor hands on: the descriptor it finds it at, its file below the pod's directory.

    ``bundle`` is the path there of the config.json that another runtime is to be given, ``text`` what that says.
    """

    number: int
    file: str
    plan: Plan
    bundle: str = ""
    text: str = ""


NO_WIRES = Wires()
_NONE = steps.Plan(steps=())
_NOTIFY = "/dev/notify"
"""Where an app finds the socket of sd_notify(3): /dev is a file system of the pod's own making."""
FIRST_PLAN = 200
"""The descriptor of the first app's plan; the supervisor opens a hundred of its own at most."""


class Compiled(Record):
    """The plans of a pod, the cgroups that they make, and what the user should be told."""

    plan: Plan
    apps: tuple[AppPlan, ...] = ()
    remove: tuple[str, ...] = ()
    kill: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class Shared(Record):
    """What the apps of a pod share.

    ``config`` is the container of its first process (``bundle.sandbox``); its limits are those of the pod's own cgroup.
    ``is_mutable``: apps come and go, and the pod goes on when there is none.
    """

    config: Config
    is_mutable: bool = False


def compiled(
    shared: Shared,
    parts: tuple[Part, ...],
    path: str,
    uuid: str,
    *,
    detach: bool = False,
    on_failure: tuple[str, ...] = (),
    wires: Wires = NO_WIRES,
) -> Compiled:
    """Return the plan that runs ``parts`` as pod ``uuid`` in the directory ``path``, where it lies when it runs.

    Raises: InvalidSpec, NoPermission, StartFailed from the compilers.
    """
    host = kernel_host.probe()
    remarks: list[str] = []
    layouts = [_layout(part.config, remarks, rootless=not host.privileged) for part in parts]
    own = _pod_layout(shared.config, rootless=not host.privileged)
    table, plans = list[PodApp](), list[AppPlan]()
    where = Where(path=path, uuid=uuid, apps=len(parts), detach=detach)
    for part, layout in zip(parts, layouts, strict=True):
        place = app_place(part, where, on_failure)
        made = app_plans(part, path, host, layout, place, FIRST_PLAN + len(plans))
        table.append(_entry(part, made))
        plans += made
    place = Place(
        id=uuid,
        record_file=f"{path}/pid",
        supervisor_file=f"{path}/supervisor",
        control=f"{path}/control",
        exit_dir=f"{path}/status",
        on_failure=on_failure,
        keyring=f"_ses.{uuid}",
        join_run=wires.join,
        after_run=wires.after,
        service=service_of(shared.config, path, uuid),
        is_mutable=shared.is_mutable,
    )
    # A member of the pod has the first of its descriptors where the supervisor has its own.
    plan = compiler.sandbox(shared.config, tuple(table), host, place, (own, *layouts))
    everything = (*layouts, own)
    warned = [text for made in (plan, *(each.plan for each in plans)) for text in made.warnings]
    return Compiled(
        plan=plan,
        apps=tuple(plans),
        remove=tuple(directory for layout in everything for directory in layout.remove),
        kill=tuple(file for layout in everything for file in layout.kill),
        remarks=tuple(dict.fromkeys((*remarks, *warned))),
    )


def added(part: Part, path: str, uuid: str, on_failure: tuple[str, ...]) -> Compiled:
    """Return the plans of an app that is added to the running pod in ``path``; the first is its own.

    Raises: as ``compiled``.
    """
    host = kernel_host.probe()
    remarks: list[str] = []
    layout = _layout(part.config, remarks, rootless=not host.privileged)
    place = app_place(part, Where(path=path, uuid=uuid, detach=True), on_failure)
    plans = app_plans(part, path, host, layout, place, 0)
    warned = [text for each in plans for text in each.plan.warnings]
    return Compiled(
        plan=plans[0].plan,
        apps=tuple(plans),
        remove=layout.remove,
        kill=layout.kill,
        remarks=tuple(dict.fromkeys((*remarks, *warned))),
    )


def service_of(config: Config, path: str, uuid: str) -> Service:
    """Return the metadata service of the pod in ``path``, whose apps share ``config``."""
    kinds = {namespace.type for namespace in (config.linux or Linux()).namespaces}
    return Service(
        table=f"{path}/{service.FILE}",
        key=key.path(path.rpartition("/pods/")[0]),
        address=address(uuid),
        port=port(uuid, host_network="network" not in kinds),
    )


def app_place(part: Part, where: Where, on_failure: tuple[str, ...]) -> Place:
    """Return where an app of the pod ``where`` leaves its traces."""
    process = part.config.process
    terminal = process is not None and process.terminal
    # Of a foreign runtime's process nothing follows for the app: it is in none of the app's namespaces.
    record = "" if part.flavour.is_foreign else f"{where.path}/apps/{part.name}/pid"
    return Place(
        id=f"{where.uuid}-{part.name}",
        member=True,
        gate=True,
        record_file=record,
        on_failure=on_failure,
        keyring=f"_ses.{where.uuid}",
        streams=streams.main(part.wish, part.name, where, terminal=terminal),
    )


def app_plans(part: Part, path: str, host: Host, layout: CgroupLayout, place: Place, first: int) -> list[AppPlan]:
    """Return the plans of one app: its own, and those of its event handlers, as descriptors from ``first`` on."""
    home = f"{path}/apps/{part.name}"
    found: list[AppPlan] = []
    for name, words in (("plan", ()), ("pre-start.plan", part.pre_start), ("post-stop.plan", part.post_stop)):
        if name != "plan" and not words:
            continue
        config, where = _telling(part, home), place.replace(listen=part.listen)
        if words:
            from pyrkt.bundle import handlers  # noqa: PLC0415 - few images have any

            config, where = handlers.container(part.config, words), place
            where = place.replace(record_file="", gate=False, streams=place.streams and streams.beside(place.streams))
        root = _overlay(part, home)
        made = AppPlan(number=first + len(found), file=f"apps/{part.name}/{name}", plan=_NONE)
        if part.flavour.is_foreign:
            found.append(_handed_over(made, part.replace(config=config), root, where, home, host))
            continue
        plan = compiler.container(
            compiler.joining_sandbox(config.replace(hooks=None)),
            home,
            host,
            layout,
            where,
            seccomp=_filter(config),
            root=root,
        )
        found.append(made.replace(plan=plan))
    return found


def _telling(part: Part, home: str) -> Config:
    """Return the app's container, with the socket by which it tells that it is ready, if it does so."""
    config = part.config
    if not part.policy.ends & SAYS_READY or config.process is None:
        return config
    socket = Mount(destination=_NOTIFY, type="bind", source=f"{home}/notify", options=("bind", "rprivate"))
    process = config.process.replace(env=(*config.process.env, f"NOTIFY_SOCKET={_NOTIFY}"))
    return config.replace(process=process, mounts=(*config.mounts, socket))


def _handed_over(made: AppPlan, part: Part, root: OverlayRoot | None, place: Place, home: str, host: Host) -> AppPlan:
    """Return the plan ``made`` of an app that another runtime makes, and the bundle for that."""
    from pyrkt.pod import flavours  # noqa: PLC0415 - most pods are native

    whose = flavours.Whose(home=home, part=made.file.rpartition("/")[2])
    return made.replace(
        plan=flavours.plan(part.flavour, part.config, whose, root, place, host),
        bundle=f"{flavours.bundle_of(f'apps/{part.name}', whose.part)}/config.json",
        text=flavours.text(part.flavour, part.config, home),
    )


def _entry(part: Part, plans: list[AppPlan]) -> PodApp:
    numbers = {each.file.rpartition("/")[2]: each.number for each in plans}
    return PodApp(
        name=part.name,
        plan=numbers["plan"],
        pre_start=numbers.get("pre-start.plan", -1),
        post_stop=numbers.get("post-stop.plan", -1),
        policy=part.policy,
    )


def _pod_layout(config: Config, *, rootless: bool) -> CgroupLayout:
    """Return the cgroup above those of the apps; none where the apps have none."""
    found = _layout(config, [], rootless=rootless)
    # Which devices there are is the apps' own affair: a rule of the pod could not be lifted by one of them.
    written = tuple(line for line in found.write if line[2] != "linux.resources.devices")
    return found.replace(write=written, device_program=b"")


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
    flavour = read_flavour(path)
    return tuple(
        Part(
            name=app["name"].text(),
            config=_config(path, app["name"].text()),
            lowers=app["lowers"].texts(),
            pre_start=app["preStart"].texts(),
            post_stop=app["postStop"].texts(),
            wish=Wish.read(app["streams"]),
            policy=Policy.read(app["policy"]),
            flavour=flavour,
            listen=tuple((each["port"].integer(1, 65535), each["udp"].boolean()) for each in app["listen"].items()),
        )
        for app in recipe["apps"].items()
    )


SHARED = "sandbox.json"
"""The file of a pod with the container of its first process."""


def read_shared(path: str) -> Shared:
    """Return what the apps of the prepared pod in ``path`` share. Raises: InvalidSpec; OSError."""
    return Shared(config=_parsed(f"{path}/{SHARED}"))


def _config(path: str, name: str) -> Config:
    return _parsed(f"{path}/apps/{name}/config.json")


def _parsed(file: str) -> Config:
    with open(file, "rb") as opened:
        return parse_config(opened.read(), file)


def _json(file: str) -> Mapping[str, object]:
    with open(file, "rb") as opened:
        value = fastjson.loads(opened.read(), file)
    if not isinstance(value, dict):
        raise InvalidSpec("not an object", document=file)
    return value


def write_plan(path: str, found: Compiled) -> None:
    """Write ``plan``, ``causes``, ``members`` and ``cgroups`` in the pod's directory ``path``, and the apps' plans."""
    write_encoded(f"{path}/plan", f"{path}/causes", found.plan)
    for each in found.apps:
        write_encoded(f"{path}/{each.file}", f"{path}/{causes_file(each.file)}", each.plan)
        if each.bundle:
            os.makedirs(os.path.dirname(f"{path}/{each.bundle}"), 0o700, exist_ok=True)
            write_new(f"{path}/{each.bundle}", each.text.encode(), 0o600)
    write_new(f"{path}/members", "".join(f"{each.number} {each.file}\n" for each in found.apps).encode())
    # Before the first cgroup is made: whatever is killed when, gc knows what to look for.
    write_new(f"{path}/cgroups", cgroups_text(found.remove, found.kill).encode())


def cgroups_text(remove: Iterable[str], kill: Iterable[str]) -> str:
    """Return the text of a pod's file "cgroups": the directories to remove, deepest first, and what ends them."""
    return fastjson.dumps({"remove": list(dict.fromkeys(remove)), "kill": list(dict.fromkeys(kill))})


def write_encoded(file: str, causes: str, plan: Plan) -> None:
    """Write one plan, and the causes of its steps beside it."""
    write_new(file, steps.encode(plan))
    write_new(causes, "\0".join(plan.causes).encode("utf-8", "surrogateescape"))
