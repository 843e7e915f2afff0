"""The root file system: where it comes from, what stands in it, and the turn that makes it the root."""

from __future__ import annotations

from pyrkt.plan.devices import add_devices
from pyrkt.plan.draft import refuse
from pyrkt.plan.mounts import Mounts, normal
from pyrkt.plan.options import MS_PRIVATE, MS_REC, MS_SLAVE, PROPAGATION
from pyrkt.plan.steps import BEFORE
from pyrkt.spec import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrkt.plan.draft import Draft, Subject
    from pyrkt.spec.layout import CgroupLayout, OverlayRoot

VOLATILE, USERXATTR = 1, 2


def build(draft: Draft, subject: Subject, rootfs: OverlayRoot | None, cgroup: CgroupLayout) -> None:
    """Everything up to the pivot that hooks may want to see: root, mounts, devices, the working directory."""
    config = subject.config
    if config.root is None:
        raise refuse("root", "is required")
    if "mount" not in subject.own:
        raise refuse(
            "linux.namespaces",
            "a mount namespace is required",
            hint='add {"type": "mount"}: its mounts would be the host\'s',
        )
    _propagation(draft, subject)
    _root(draft, subject, rootfs)
    mounts = Mounts(draft, subject, cgroup)
    for place, mount in enumerate(config.mounts):
        mounts.add(place, mount)
    add_devices(draft, subject)
    if config.process and normal(config.process.cwd) != "/":
        # Docker's images name working directories that do not exist; they are made, as runc makes them.
        draft.add(steps.MKDIR_IN, normal(config.process.cwd), 0o755, 0, 0, cause="/process/cwd")
    mounts.finish()


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


def _root(draft: Draft, subject: Subject, rootfs: OverlayRoot | None) -> None:
    root = subject.config.root
    directory = subject.host_path(root.path if root else "rootfs").rstrip("/") or "/"
    if normal(directory) == "/":
        raise refuse("root.path", "the host's root cannot be the container's")
    if rootfs is not None:
        bits = VOLATILE * rootfs.volatile | USERXATTR * (rootfs.userxattr or subject.confined)
        args = (directory, rootfs.lowers, rootfs.upper, rootfs.work, bits)
        draft.add(steps.ROOT_OVERLAY, *args, cause="/root/path")
    elif subject.from_outside:
        # Root of a user namespace may not be let into the directories above; the supervisor may. So the tree cannot
        # be put where the directory is either: it lies on "/" until the pivot.
        slot = draft.slot("root.path")
        args_open = (slot, directory, 1, 0, 0, b"", b"")
        draft.add(steps.OPEN_TREE, *args_open, cause="/root/path", phase=BEFORE)
        draft.add(steps.ROOT_TREE, slot, "/", cause="/root/path")
        draft.add(steps.SET_PROPAGATION, "/", MS_SLAVE | MS_REC, cause="/root/path")
    else:
        draft.add(steps.ROOT_BIND, directory, 1, cause="/root/path")


def close(draft: Draft, subject: Subject, *, no_pivot: bool) -> None:
    """Cover what the container may not see, make its root the root, and leave the host's behind.

    Masks come before the pivot: what they are made of is then the host's /dev/null, which no image can replace
    (CVE-2025-31133).
    """
    linux = subject.linux
    for place, path in enumerate(linux.readonly_paths):
        draft.add(steps.READ_ONLY, normal(path), cause=f"/linux/readonlyPaths/{place}")
    for place, path in enumerate(linux.masked_paths):
        draft.add(steps.MASK, normal(path), cause=f"/linux/maskedPaths/{place}")
    draft.add(steps.CHROOT if no_pivot else steps.PIVOT)
    wanted = PROPAGATION.get(linux.rootfs_propagation, 0)
    if wanted and not wanted & (MS_SLAVE | MS_PRIVATE):
        draft.add(steps.SET_PROPAGATION, "/", wanted, cause="/linux/rootfsPropagation")


def seal(draft: Draft, subject: Subject) -> None:
    """Make the root read-only, once nothing has to be made in it any more."""
    if subject.config.root and subject.config.root.readonly:
        draft.add(steps.ROOT_READ_ONLY, cause="/root/readonly")
