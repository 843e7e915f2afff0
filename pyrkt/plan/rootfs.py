"""The root file system: where it comes from, what stands in it, and the turn that makes it the root."""

from __future__ import annotations

from pyrkt.plan.devices import add_devices
from pyrkt.plan.draft import refuse
from pyrkt.plan.mounts import NO_PEER, WHOLE, Mounts, normal
from pyrkt.plan.options import ATTR_RDONLY, MS_PRIVATE, MS_REC, MS_SLAVE, PROPAGATION
from pyrkt.plan.steps import AFTER, BEFORE
from pyrkt.spec import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.plan.draft import Draft, Subject
    from pyrkt.spec.layout import CgroupLayout, OverlayRoot

VOLATILE, USERXATTR = 1, 2
Frozen = tuple[tuple[str, str], ...]
"""Mounts that become read-only when everything has been made in them: (target, cause)."""


def build(draft: Draft, subject: Subject, rootfs: OverlayRoot | None, cgroup: CgroupLayout) -> Frozen:
    """Everything up to the pivot that hooks may want to see: root, mounts, devices, the working directory.

    Returns: what ``seal`` is to make read-only.
    """
    config = subject.config
    if config.root is None:
        raise refuse("root", "is required")
    directory = normal(subject.host_path(config.root.path))
    if directory == "/":
        raise refuse("root.path", "the host's root cannot be the container's")
    if "mount" in subject.own:
        _propagation(draft, subject)
        _root(draft, subject, rootfs, directory)
    else:
        _root_of_host(draft, subject, rootfs, directory)
    mounts = Mounts(draft, subject, cgroup, directory)
    for place, mount in enumerate(config.mounts):
        mounts.add(place, mount)
    add_devices(draft, subject)
    if config.process and normal(config.process.cwd) != "/":
        # Docker's images name working directories that do not exist; they are made, as runc makes them.
        draft.add(steps.MKDIR_IN, normal(config.process.cwd), 0o755, 0, 0, cause="/process/cwd")
    return tuple(mounts.freeze)


def _propagation(draft: Draft, subject: Subject) -> None:
    """Cut the new mount namespace off from the host's, so that no mount made for the container appears there.

    "shared" does not change that: volumes that stay shared with the host are opened before the cut (see Mounts).
    """
    wanted = PROPAGATION.get(subject.linux.rootfs_propagation, 0)
    if wanted & (MS_SLAVE | MS_PRIVATE):
        flags, cause = wanted & (MS_SLAVE | MS_PRIVATE) | MS_REC, "/linux/rootfsPropagation"
    else:
        flags, cause = MS_SLAVE | MS_REC, "default"
    draft.add(steps.PROPAGATION, "/", flags, cause=cause)


def _root(draft: Draft, subject: Subject, rootfs: OverlayRoot | None, directory: str) -> None:
    if rootfs is not None:
        bits = VOLATILE * rootfs.volatile | USERXATTR * (rootfs.userxattr or subject.confined)
        args = (directory, rootfs.lowers, rootfs.upper, rootfs.work, bits)
        draft.add(steps.ROOT_OVERLAY, *args, cause="/root/path")
    elif subject.from_outside:
        # Root of a user namespace may not be let into the directories above; the supervisor may.
        slot = draft.slot("root.path")
        draft.add(steps.OPEN_TREE, slot, directory, WHOLE, cause="/root/path", phase=BEFORE)
        draft.add(steps.ROOT_TREE, slot, directory, cause="/root/path")
        draft.add(steps.SET_PROPAGATION, "/", MS_SLAVE | MS_REC, cause="/root/path")
    else:
        draft.add(steps.ROOT_BIND, directory, 1, cause="/root/path")


def _root_of_host(draft: Draft, subject: Subject, rootfs: OverlayRoot | None, directory: str) -> None:
    """The root of a container that lives in the host's mount namespace: its mounts stand there, below the root.

    They are no peers of the host's, so that each appears once, and the first of them, a bind of the root on itself,
    holds all: the supervisor, or ``delete``, takes that away.
    """
    where = "linux.namespaces"
    if rootfs is not None or "user" in subject.own:
        hint = 'add {"type": "mount"}: the kernel gives mounts to the owner of the mount namespace only'
        raise refuse(where, "a mount namespace is required", hint=hint)
    if subject.linux.masked_paths or subject.linux.readonly_paths:
        raise refuse(
            where,
            "unable to restrict sys entries without a private MNT namespace",
            hint='add {"type": "mount"}, or leave maskedPaths and readonlyPaths out',
        )
    slot = draft.slot("root.path")
    draft.add(steps.OPEN_TREE, slot, directory, WHOLE | NO_PEER, cause="/root/path", phase=BEFORE)
    draft.add(steps.ROOT_TREE, slot, directory, cause="/root/path")
    draft.add(steps.SET_PROPAGATION, "/", MS_PRIVATE | MS_REC, cause="/root/path")
    draft.add(steps.DETACH, slot, cause="/root/path", phase=AFTER)


def close(draft: Draft, subject: Subject, *, no_pivot: bool) -> None:
    """Cover what the container may not see, make its root the root, and leave the host's behind.

    Masks come before the pivot: what they are made of is then the host's /dev/null, which no image can replace
    (CVE-2025-31133).
    """
    linux = subject.linux
    for place, path in enumerate(linux.readonly_paths):
        draft.add(steps.READ_ONLY, normal(path), cause=f"/linux/readonlyPaths/{place}")
    masked: set[str] = set()
    for place, path in enumerate(map(normal, linux.masked_paths)):
        if path not in masked:
            draft.add(steps.MASK, path, cause=f"/linux/maskedPaths/{place}")
        masked.add(path)
    if "mount" not in subject.own:
        draft.add(steps.CHROOT_INTO, -1)
    else:
        draft.add(steps.CHROOT if no_pivot else steps.PIVOT)
    wanted = PROPAGATION.get(linux.rootfs_propagation, 0)
    if wanted and not wanted & (MS_SLAVE | MS_PRIVATE):
        draft.add(steps.SET_PROPAGATION, "/", wanted, cause="/linux/rootfsPropagation")


def seal(draft: Draft, subject: Subject, frozen: Frozen) -> None:
    """Make read-only what ``build`` says, and the root, once nothing has to be made in them any more."""
    for target, cause in frozen:
        draft.add(steps.SET_ATTR, target, 0, ATTR_RDONLY, 0, cause=cause)
    if subject.config.root and subject.config.root.readonly:
        draft.add(steps.ROOT_READ_ONLY, cause="/root/readonly")
