"""open_tree(2), fsopen(2), mount_setattr(2), move_mount(2), umount2(2): mounts held by descriptor (Linux 5.12)."""

from __future__ import annotations

import os

from pyrkt.kernel.libc import call, syscall

# include/uapi/linux/mount.h and fcntl.h; the numbers are the same on all our architectures.
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 0x1, 0x2, 0x4, 0x8
MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_NODIRATIME = 0x10, 0x20, 0x80
MOUNT_ATTR_IDMAP, MOUNT_ATTR_NOSYMFOLLOW = 0x100000, 0x200000
MNT_DETACH, UMOUNT_NOFOLLOW = 0x2, 0x8
_NR_OPEN_TREE, _NR_MOVE_MOUNT, _NR_FSOPEN, _NR_FSCONFIG, _NR_FSMOUNT, _NR_MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
_AT_EMPTY_PATH, _AT_RECURSIVE, _OPEN_TREE_CLONE = 0x1000, 0x8000, 1
_FROM_EMPTY_PATH, _TO_EMPTY_PATH = 0x4, 0x40
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_AT_FDCWD = -100


def clone_tree(path: str, *, recursive: bool = False) -> int:
    """Return a detached copy of the mount at ``path``, as ``mount --bind`` would make; it goes with the descriptor."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    return syscall("open_tree", _NR_OPEN_TREE, _AT_FDCWD, os.fsencode(path) + b"\0", flags, about=path)


def new_filesystem(kind: str, options: tuple[tuple[str, str | None], ...] = (), attributes: int = 0) -> int:
    """Return a detached mount of a new ``kind`` file system; an option without value is (name, None).

    Raises: KernelError that names the option or the type.
    """
    context = syscall("fsopen", _NR_FSOPEN, os.fsencode(kind) + b"\0", 1, about=kind)
    try:
        for name, value in options:
            command, text = (_SET_FLAG, 0) if value is None else (_SET_STRING, os.fsencode(value) + b"\0")
            about = f"{kind}: {name}"
            syscall("fsconfig", _NR_FSCONFIG, context, command, os.fsencode(name) + b"\0", text, 0, about=about)
        syscall("fsconfig", _NR_FSCONFIG, context, _CREATE, 0, 0, 0, about=kind)
        return syscall("fsmount", _NR_FSMOUNT, context, 1, attributes, about=kind)
    finally:
        os.close(context)


def set_attributes(tree: int, *, put: int, clear: int = 0, recursive: bool = False, user_namespace: int = 0) -> None:
    """Change MOUNT_ATTR_* of the mount ``tree``; MOUNT_ATTR_IDMAP takes the descriptor ``user_namespace``."""
    attributes = b"".join(word.to_bytes(8, "little") for word in (put, clear, 0, user_namespace))
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    syscall("mount_setattr", _NR_MOUNT_SETATTR, tree, b"\0", flags, attributes, len(attributes), about=hex(put))


def attach_tree(tree: int, target: int) -> None:
    """Attach a detached tree on ``target``, an O_PATH descriptor.

    Both ends are descriptors, so no symlink in an image can turn the mount aside.
    """
    syscall("move_mount", _NR_MOVE_MOUNT, tree, b"\0", target, b"\0", _FROM_EMPTY_PATH | _TO_EMPTY_PATH)


def detach(path: str) -> None:
    """Take the mount at ``path`` out of the tree at once, even if it is busy; it ends with its last user."""
    call("umount2", os.fsencode(path) + b"\0", MNT_DETACH | UMOUNT_NOFOLLOW, about=path)
