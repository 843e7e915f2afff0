"""From config.json to a plan: the order of everything that makes a container, written down once.

The order is the safety of it. Limits stand before there is a process; the process enters its cgroups before it makes
the namespace of them; mounts come before masks, masks before the pivot; identity before capabilities, capabilities
before the filter, the filter before the program.
"""

from __future__ import annotations

from pyrkt.plan import devices, hooks, namespaces, process, rootfs
from pyrkt.plan.draft import O_RDONLY, O_WRONLY, Draft, Subject, pointer, refuse
from pyrkt.plan.options import MS_REC, MS_SLAVE
from pyrkt.plan.place import Place
from pyrkt.plan.steps import AFTER, BEFORE, CHILD, PARENT
from pyrkt.spec import capabilities, steps
from pyrkt.spec.layout import CgroupLayout
from pyrkt.spec.runtime import Linux, Namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.kernel.host import Host
    from pyrkt.plan.place import PodApp
    from pyrkt.plan.steps import Plan
    from pyrkt.spec.layout import OverlayRoot, ResctrlLayout
    from pyrkt.spec.runtime import Config, Process

# Sysctls that belong to a namespace: beginning (a whole name has no dot at its end) and the namespace's type.
_SYSCTLS = (
    ("net.", "network"),
    ("fs.mqueue.", "ipc"),
    ("kernel.msgmax", "ipc"),
    ("kernel.msgmnb", "ipc"),
    ("kernel.msgmni", "ipc"),
    ("kernel.msg_next_id", "ipc"),
    ("kernel.sem", "ipc"),
    ("kernel.sem_next_id", "ipc"),
    ("kernel.shmall", "ipc"),
    ("kernel.shmmax", "ipc"),
    ("kernel.shmmni", "ipc"),
    ("kernel.shm_next_id", "ipc"),
    ("kernel.shm_rmid_forced", "ipc"),
    ("kernel.domainname", "uts"),
    ("user.", "user"),
)
_SYS_ADMIN = capabilities.mask(("CAP_SYS_ADMIN",))
_DEVICE_RULES = "linux.resources.devices"
_FIRST_HELD, _HELD = 100, ("user", "pid", "ipc", "uts", "network")
"""The descriptors by which stage1 hands on the namespaces of a pod's PID 1, one after the other (member.c)."""


def container(
    config: Config,
    bundle: str,
    host: Host,
    cgroup: CgroupLayout,
    place: Place,
    *,
    seccomp: bytes = b"",
    root: OverlayRoot | None = None,
) -> Plan:
    """Compile one container, as ``pyrkt-oci`` runs or creates it.

    ``bundle`` is the bundle's absolute path, ``seccomp`` the compiled filter of linux.seccomp, ``root`` an overlay
    to use in the place of config.root.path.
    Raises: InvalidSpec naming the place, for what this host or any host cannot do.
    """
    draft, subject = Draft(), Subject(config, bundle, host)
    draft.warnings += config.warnings()
    program = config.process if place.exec_fifo else process.required(subject)
    _unsupported(subject, place)
    late = devices.forbidden_to_make(subject)
    _before(draft, place, (cgroup,), late=late)
    _resctrl(draft, place.resctrl)
    if program:
        process.catch(draft, program, place.streams)
    namespaces.join(draft, subject)
    namespaces.clone(draft, namespaces.clone_flags(subject), cgroup)
    namespaces.fill_unit(draft, cgroup)
    namespaces.map_ids(draft, subject)
    namespaces.enter_cgroup(draft, subject, cgroup)
    process.all_processors(draft)
    namespaces.enter_resctrl(draft, place.resctrl)
    if program:
        process.limits_from_outside(draft, subject, program)
    _record(draft, place)
    namespaces.move_devices(draft, subject)
    namespaces.own(draft, subject, place.keyring)
    namespaces.unshare_cgroup(draft, subject)
    process.listen(draft, place)
    frozen = rootfs.build(draft, subject, root, cgroup)
    _meet(draft, subject, place, cgroup if late else None)
    hooks.add_hooks(draft, subject, place.id, "create_container", CHILD)
    _sysctls(draft, subject, place)
    rootfs.close(draft, subject, no_pivot=place.no_pivot)
    if program:
        _program(draft, subject, program, place, seccomp, frozen)
    else:
        rootfs.seal(draft, subject, frozen)
        process.nothing(draft)
    if place.foreground and not place.keep:
        _after(draft, place, (cgroup,), place.exit_file)
        hooks.add_hooks(draft, subject, place.id, "poststop", AFTER)
        _remove(draft, place)
    return draft.plan()


def _program(
    draft: Draft, subject: Subject, program: Process, place: Place, seccomp: bytes, frozen: rootfs.Frozen
) -> None:
    """From the pivot to the program."""
    process.terminal(draft, program, place)
    rootfs.seal(draft, subject, frozen)
    process.temper(draft, subject, program)
    process.privileges(draft, subject, program, place, seccomp)
    if place.exec_fifo:
        draft.add(steps.WAIT_START, place.exec_fifo, int("user" in subject.new and subject.host.euid != 0))
    env = process.environment(program)
    hooks.add_hooks(draft, subject, place.id, "start_container", draft.phase, env=env)
    process.execute(draft, program)


def sandbox(
    config: Config, apps: tuple[PodApp, ...], host: Host, place: Place, layouts: tuple[CgroupLayout, ...] = ()
) -> Plan:
    """Compile what the apps of a pod share: its supervisor, and a PID 1 that holds the namespaces.

    ``config`` is that of any app: it says which namespaces (pid, ipc, uts, network, user) are shared, their sysctls and
    the names. ``layouts`` are the cgroups, the pod's first, which it makes, then those of its apps, which only go with
    it. Each app is a plan of ``container`` for what ``joining_sandbox`` returns.
    Raises: InvalidSpec naming the place, for what cannot work.
    """
    draft, subject = Draft(), Subject(config, "", host)
    _unsupported(subject, place)
    _before(draft, place, layouts[:1])
    draft.add(steps.POD, place.control, place.supervisor_file, int(place.is_mutable), place.grace_ms, phase=BEFORE)
    for app in apps:
        plans = (app.pre_start, app.plan, app.post_stop)
        draft.add(steps.POD_APP, app.name, *plans, app.policy.pack(), cause="/apps", phase=BEFORE)
    namespaces.join(draft, subject)
    namespaces.clone(draft, namespaces.clone_flags(subject) | namespaces.NEWNS, CgroupLayout())
    namespaces.map_ids(draft, subject)
    process.all_processors(draft)
    _record(draft, place)
    namespaces.move_devices(draft, subject)
    if place.join_run:
        hooks.add_program(draft, place.join_run, PARENT, pid=True)
    process.announce(draft, place)
    namespaces.own(draft, subject, place.keyring)
    _sysctls(draft, subject, place)
    if service := place.service:
        draft.add(steps.METADATA, service.table, service.key, service.address, service.port)
    draft.add(steps.ROOT_EMPTY)
    draft.add(steps.INIT)
    _after(draft, place, tuple(reversed(layouts)), place.exit_dir)
    _remove(draft, place)
    return draft.plan()


def joining_sandbox(config: Config) -> Config:
    """Return ``config`` for a container in the namespaces that a pod's PID 1 holds (see stage1, POD)."""
    linux = config.linux or Linux()
    own = tuple(
        each.replace(path=f"/proc/self/fd/{_FIRST_HELD + _HELD.index(each.type)}") if each.type in _HELD else each
        for each in linux.namespaces
    )
    kept = linux.replace(namespaces=own, sysctl={}, net_devices={})
    return config.replace(linux=kept, hostname="", domainname="")


def _before(draft: Draft, place: Place, layouts: tuple[CgroupLayout, ...], *, late: bool = False) -> None:
    """The host side: how failure is told, and the cgroups with their limits; with ``late`` without device rules."""
    if place.on_failure:
        draft.add(steps.ON_FAILURE, place.on_failure, phase=BEFORE)
    if not place.foreground and not place.exec_fifo:
        draft.add(steps.LEAVE, phase=BEFORE)
    if place.member:
        draft.add(steps.MEMBER, phase=BEFORE)
    for layout in layouts:
        for directory in layout.make:
            draft.add(steps.MKDIR, directory, 0o755, cause="/linux/cgroupsPath", phase=BEFORE)
        for path, value, cause in layout.write:
            if cause != _DEVICE_RULES:
                draft.add(steps.WRITE, path, value.encode(), cause=pointer(cause), phase=BEFORE)
        for path, uid, gid in layout.own:
            draft.add(steps.CHOWN, path, uid, gid, cause="/linux/uidMappings", phase=BEFORE)
        if not late:
            _device_rules(draft, layout, BEFORE)


def _device_rules(draft: Draft, layout: CgroupLayout, phase: int) -> None:
    cause = pointer(_DEVICE_RULES)
    for path, value, member in layout.write:
        if member == _DEVICE_RULES:
            draft.add(steps.WRITE, path, value.encode(), cause=cause, phase=phase)
    if layout.device_program:
        directory = layout.clone_into or layout.enter[0]
        draft.add(steps.CGROUP_DEVICES, directory, layout.device_program, cause=cause, phase=phase)


def _record(draft: Draft, place: Place) -> None:
    if place.record_file:
        draft.add(steps.RECORD, place.record_file, phase=PARENT)


def _meet(draft: Draft, subject: Subject, place: Place, late: CgroupLayout | None) -> None:
    """Where the mounts stand and the host is still in sight: prestart and createRuntime hooks, then the pid file.

    Hooks of the runtime namespace see what they expect only now: docker's wants the network namespace, others add
    mounts to the root file system. The device rules of ``late`` come now that the nodes are there.
    """
    wanted = subject.config.hooks
    if late:
        draft.add(steps.MEET, cause=pointer(_DEVICE_RULES), phase=PARENT)
        _device_rules(draft, late, PARENT)
        draft.add(steps.MEET, cause=pointer(_DEVICE_RULES), phase=CHILD)
    if wanted and (wanted.prestart or wanted.create_runtime):
        draft.add(steps.MEET, cause="/hooks", phase=PARENT)
        hooks.add_hooks(draft, subject, place.id, "prestart", PARENT)
        hooks.add_hooks(draft, subject, place.id, "create_runtime", PARENT)
        draft.add(steps.MEET, cause="/hooks", phase=CHILD)
    if place.gate:
        draft.add(steps.MEET, phase=PARENT)
        draft.add(steps.GATE, phase=PARENT)
        draft.add(steps.MEET, phase=CHILD)
    process.announce(draft, place)
    if wanted and wanted.poststart and place.foreground and not place.exec_fifo:
        draft.add(steps.STARTED, cause="/hooks/poststart", phase=PARENT)
        if not hooks.ends_at_poststart(subject.config.oci_version):
            draft.add(steps.LENIENT, cause="/ociVersion", phase=PARENT)
        hooks.add_hooks(draft, subject, place.id, "poststart", PARENT)


def sysctl_name(name: str) -> str:
    """Return the name with dots: as for sysctl(8), the separator that comes first decides what the other one means."""
    first = next((char for char in name if char in "./"), "")
    return name.translate({ord("."): "/", ord("/"): "."}) if first == "/" else name


def _sysctls(draft: Draft, subject: Subject, place: Place) -> None:
    """Kernel parameters, those of the container's own namespaces only: any other would be the host's."""
    for given, value in subject.linux.sysctl.items():
        where, name = f"linux.sysctl.{given}", sysctl_name(given)
        bad = [char for char in name if not (char.isascii() and (char.isalnum() or char in "./_-:@,"))]
        # A part of nothing but slashes is "." or ".." in the end, and leads from net. to the host's parameters.
        if bad or not all(part.strip("/") for part in name.split(".")):
            raise refuse(where, "is not the name of a sysctl", hint="write it with dots: net.ipv4.ip_forward")
        if name == "kernel.hostname":
            raise refuse(where, "is set by another member", hint="use hostname")
        kind = next(
            (kind for start, kind in _SYSCTLS if name == start or (start[-1] == "." and name.startswith(start))), ""
        )
        if not kind:
            raise refuse(where, f'sysctl "{name}" is not in a separate kernel namespace')
        if kind == "network" and place.host_network:
            raise refuse(where, f'sysctl "{name}" not allowed in host network namespace')
        if kind not in subject.own:
            raise refuse(where, f"needs a {kind} namespace", hint=f'add {{"type": "{kind}"}} to linux.namespaces')
        if "\n" in value:
            raise refuse(where, "has a line break in its value")
        draft.add(steps.SYSCTL, name, value, cause="/linux/sysctl/" + given.replace("/", "~1"))


def _resctrl(draft: Draft, layout: ResctrlLayout) -> None:
    for directory in layout.make:
        draft.add(steps.MKDIR, directory, 0o755, cause="/linux/intelRdt", phase=BEFORE)
    for path, text in layout.write:
        draft.add(steps.WRITE, path, text.encode(), cause="/linux/intelRdt", phase=BEFORE)


def _unsupported(subject: Subject, place: Place) -> None:
    if subject.host.euid and not subject.host.effective & _SYS_ADMIN and "user" not in subject.own:
        raise refuse(
            "linux.namespaces",
            "rootless container requires user namespaces",
            hint='add {"type": "user"}, with uidMappings and gidMappings; "spec --rootless" writes such a config.json',
        )
    if subject.linux.intel_rdt and not place.resctrl.enter:
        raise refuse("linux.intelRdt", "intelRdt is specified in config, but Intel RDT is not enabled")
    if "time" in subject.own and subject.host.kernel < (5, 6):
        raise refuse("linux.namespaces", "time namespaces need Linux 5.6")


def _after(draft: Draft, place: Place, layouts: tuple[CgroupLayout, ...], exit_path: str) -> None:
    """When the container has ended: its exit code first, then its cgroups, the deepest of all first."""
    if exit_path:
        draft.add(steps.EXIT_FILE, exit_path, phase=AFTER)
    for layout in layouts:
        if layout.managed:  # systemd removes these, once nobody is left in them
            for path in layout.kill:
                draft.add(steps.WRITE, path, b"1", cause="/linux/cgroupsPath", phase=AFTER)
        for directory in layout.remove:
            if directory not in layout.managed:
                draft.add(steps.RMDIR, directory, cause="/linux/cgroupsPath", phase=AFTER)
    for directory in place.resctrl.remove:
        draft.add(steps.RMDIR, directory, cause="/linux/intelRdt", phase=AFTER)


def _remove(draft: Draft, place: Place) -> None:
    if place.after_run:
        hooks.add_program(draft, place.after_run, AFTER)
    for path in place.after_unlink:
        draft.add(steps.UNLINK, path, phase=AFTER)
    for path in place.after_rmdir:
        draft.add(steps.RMDIR, path, phase=AFTER)
    if place.rename_after:
        draft.add(steps.RENAME, *place.rename_after, phase=AFTER)


# --- containers that criu restores ---


def mount_points(config: Config, bundle: str, host: Host, cgroup: CgroupLayout) -> Plan:
    """Compile what has to be there before a container can be restored: its cgroups, and the places of its mounts.

    A process in a mount namespace of its own makes the mounts as for a new container, and ends: what it had to make in
    the root file system stays.
    """
    linux = (config.linux or Linux()).replace(
        namespaces=(Namespace(type="mount"),), uid_mappings=(), gid_mappings=(), masked_paths=(), readonly_paths=()
    )
    draft, subject = Draft(), Subject(config.replace(linux=linux), bundle, host)
    _before(draft, Place(foreground=False), (cgroup,))
    namespaces.clone(draft, namespaces.NEWNS, CgroupLayout())
    rootfs.build(draft, subject, None, cgroup)
    _nothing_else(draft)
    return draft.plan()


def worker(directory: str, cgroup: CgroupLayout, args: tuple[str, ...], env: tuple[str, ...]) -> Plan:
    """Compile the program that restores a container: in its cgroups, where ``directory``, its root, is a mount.

    The caller has to be in a mount namespace of its own, which it shares with the program: that works in directories
    that the caller has opened. It becomes a child of the caller's subreaper.
    """
    draft = Draft()
    draft.add(steps.LEAVE, phase=BEFORE)
    namespaces.clone(draft, 0, cgroup)
    namespaces.fill_unit(draft, cgroup)
    for entered in cgroup.enter:
        slot = draft.open(f"{entered}/cgroup.procs", O_WRONLY, "/linux/cgroupsPath")
        draft.add(steps.ENTER_CGROUP_SLOT, slot, cause="/linux/cgroupsPath")
    draft.add(steps.PROPAGATION, "/", MS_SLAVE | MS_REC)
    draft.add(steps.ROOT_BIND, directory, 1, cause="/root/path")
    draft.add(steps.EXEC, args[0], args, env)
    return draft.plan()


def loopback(pid: int) -> Plan:
    """Compile what brings the loopback interface up in the network namespace of process ``pid``."""
    draft = Draft()
    draft.add(steps.LEAVE, phase=BEFORE)
    slot = draft.open(f"/proc/{pid}/ns/net", O_RDONLY, "/linux/namespaces")
    draft.add(steps.SETNS, slot, namespaces.FLAGS["network"], cause="/linux/namespaces", phase=BEFORE)
    namespaces.clone(draft, 0, CgroupLayout())
    draft.add(steps.LOOPBACK, cause="/linux/namespaces")
    _nothing_else(draft)
    return draft.plan()


def _nothing_else(draft: Draft) -> None:
    draft.add(steps.EXEC, "true", ("true",), ("PATH=/usr/sbin:/usr/bin:/sbin:/bin",))


def adopted(config: Config, bundle: str, host: Host, cgroup: CgroupLayout, place: Place, pid: int, master: int) -> Plan:
    """Compile what is left to do for a restored container in the foreground: to be its supervisor, to its end.

    ``pid`` is a child of the process that becomes stage1, ``master`` the descriptor of its terminal, or -1.
    """
    draft, subject = Draft(), Subject(config, bundle, host)
    draft.add(steps.ADOPT, pid, master, phase=BEFORE)
    _after(draft, place, (cgroup,), place.exit_file)
    hooks.add_hooks(draft, subject, place.id, "poststop", AFTER)
    _remove(draft, place)
    return draft.plan()
